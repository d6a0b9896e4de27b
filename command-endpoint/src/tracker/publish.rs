//! What a tracker says, on its way to the channels.

use std::sync::Arc;
use std::time::Duration;

use common::BoxFuture;
use common::channel::{Channel, EventSink, Partition, PublishError};
use common::command::Command;
use common::id::DeviceKey;
use common::outcome::Transition;
use common::process::{Pauses, until_taken};
use common::records::OrderRecord;
use common::service::{Clock, new_event_id};
use common::time::Timestamp;

const LONGEST: Duration = Duration::from_secs(5);
/// The pauses after an outcome was not taken.
const OF_OUTCOMES: Pauses = Pauses { first: Duration::from_millis(100), longest: LONGEST };
/// The same for records.
const OF_RECORDS: Pauses = Pauses { first: Duration::from_millis(5), longest: LONGEST };

/// Publishes for the tracker of one partition. What is published takes its place in the order when it is called.
#[derive(Clone)]
pub(super) struct Publisher {
    pub(super) sink: Arc<dyn EventSink>,
    pub(super) clock: Clock,
    pub(super) partition: Partition,
}

impl Publisher {
    /// Tells an outcome, again and again until it is acknowledged.
    pub(super) fn tell(&self, outcome: Transition) -> BoxFuture<'static, ()> {
        let (sink, event) = (self.sink.clone(), outcome.into_event());
        let tell = move || sink.publish(Channel::Outcomes, event.clone());
        let told = until_taken(tell(), tell, OF_OUTCOMES, |_| true);
        Box::pin(async { told.await.unwrap_or_default() })
    }

    /// Writes a record, once: again only where the channel has not taken it for certain.
    pub(super) fn record(
        &self,
        device: DeviceKey,
        record: OrderRecord,
    ) -> BoxFuture<'static, Result<(), PublishError>> {
        let now = self.clock.wall();
        let of_all = device == DeviceKey::all();
        let event = record.into_event(new_event_id(now), device, now);
        let (sink, partition) = (self.sink.clone(), self.partition);
        let write = move || match of_all {
            true => sink.publish_in(Channel::Commands, partition, event.clone()),
            false => sink.publish(Channel::Commands, event.clone()),
        };
        Box::pin(until_taken(write(), write, OF_RECORDS, |error| *error == PublishError::Overloaded))
    }

    /// Publishes a command, once. If that fails it is found to be missing again.
    pub(super) fn submit(&self, command: Command, accepted: Timestamp) -> BoxFuture<'static, ()> {
        let id = command.id.clone();
        let acknowledged = self.sink.publish(Channel::Commands, command.into_event(accepted, None));
        Box::pin(async move {
            if let Err(error) = acknowledged.await {
                tracing::warn!(id = id.as_str(), %error, "a command that the log lacks was not taken");
            }
        })
    }
}
