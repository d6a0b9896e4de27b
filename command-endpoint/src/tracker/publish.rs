//! What a tracker says, on its way to the channels.

use std::sync::Arc;
use std::time::Duration;

use common::BoxFuture;
use common::channel::{Channel, EventSink, Partition, PublishError};
use common::event::Event;
use common::id::DeviceKey;
use common::outcome::Transition;
use common::records::OrderRecord;
use common::service::{Clock, new_event_id};
use tokio::time::sleep;

/// The first pause after an outcome was not taken; each next is twice as long, up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

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
        let event = outcome.into_event();
        let (sink, mut acknowledged) =
            (self.sink.clone(), self.sink.publish(Channel::Outcomes, event.clone()));
        Box::pin(async move {
            let mut pause = FIRST;
            while let Err(error) = acknowledged.await {
                tracing::debug!(%error, "an outcome was not taken, telling it again");
                sleep(pause).await;
                pause = LONGEST.min(2 * pause);
                acknowledged = sink.publish(Channel::Outcomes, event.clone());
            }
        })
    }

    /// Writes a record, once.
    pub(super) fn record(
        &self,
        device: DeviceKey,
        record: OrderRecord,
    ) -> BoxFuture<'static, Result<(), PublishError>> {
        let now = self.clock.wall();
        let of_all = device == DeviceKey::all();
        let event = record.into_event(new_event_id(now), device, now);
        if of_all {
            self.sink.publish_in(Channel::Commands, self.partition, event)
        } else {
            self.sink.publish(Channel::Commands, event)
        }
    }

    /// Publishes an event of the channel `commands`, once.
    pub(super) fn submit(&self, event: Event) -> BoxFuture<'static, Result<(), PublishError>> {
        self.sink.publish(Channel::Commands, event)
    }
}
