//! The contract of channel adapters: one list of checks that each adapter has to pass.
//!
//! An adapter's test implements [`Adapter`] and calls [`channel_contract!`](crate::channel_contract), which makes a
//! test of each check. The checks assume what `common::channel` promises and no more: order holds for a device within
//! a channel, not between devices.

mod lifecycle;
mod publishing;
mod reading;
mod resuming;
mod stream;

pub use lifecycle::{
    a_blocked_handler_slows_only_itself, a_handler_that_stops_ends_its_subscription,
    a_subscription_that_is_dropped_ends,
};
pub use publishing::{
    a_full_queue_is_an_error_and_recovers, a_publish_that_nobody_awaits_is_not_withdrawn,
    concurrent_publishers_keep_the_order_of_each_device, every_attribute_is_read_back,
};
pub use reading::{
    a_subscription_reads_only_its_channels, earliest_reads_everything, latest_reads_what_is_accepted_later,
    latest_reads_without_a_gap_under_load, the_key_is_read_without_the_event,
};
pub use resuming::{
    a_cursor_resumes_after_a_restart, a_cursor_resumes_without_gap_or_repetition,
    unknown_cursors_are_refused, what_is_not_kept_cannot_be_asked_for,
};

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use common::BoxFuture;
use common::channel::{Channel, EventSink, EventSource, Start};
use common::event::{Event, TELEMETRY_TYPE};
use common::id::DeviceKey;
use common::service::{Clock, new_event_id};
use stream::Stream;

/// What a channel adapter brings along to be judged. Each check gets one of its own, with empty channels.
pub trait Adapter: Send + Sync {
    /// Opens the channels; after all that was opened has been dropped, opens them again with what they hold.
    ///
    /// A publisher that does not wait must be able to fill the queue with 32 MiB.
    ///
    /// # Errors
    /// Fails if the adapter cannot reach its channels.
    fn open(&self) -> BoxFuture<'_, Result<Channels>>;
}

/// The two sides of an adapter.
#[derive(Clone)]
pub struct Channels {
    /// Takes events.
    pub sink: Arc<dyn EventSink>,
    /// Hands them out.
    pub source: Arc<dyn EventSource>,
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Channels")
    }
}

impl Channels {
    async fn publish(&self, channel: Channel, event: &Event) -> Result<()> {
        Ok(self.sink.publish(channel, event.clone()).await?)
    }

    /// Publishes `count` events, round about the channels and three devices, each acknowledged before the next.
    async fn publish_some(&self, channels: &[Channel], count: usize) -> Result<Vec<Event>> {
        let mut published = Vec::new();
        for (number, channel) in (0..count).zip(channels.iter().cycle()) {
            let event = event(&format!("d{}", number % 3), &format!("{channel}/{number}"))?;
            self.publish(*channel, &event).await?;
            published.push(event);
        }
        Ok(published)
    }

    async fn subscribe(&self, channels: &[Channel], start: Start) -> Result<Stream> {
        Stream::open(&*self.source, channels, start).await
    }
}

/// Makes an event of a device; the subject tells a check which one it is.
fn event(device: &str, subject: &str) -> Result<Event> {
    let now = Clock::system().wall();
    Ok(Event {
        id: new_event_id(now),
        kind: TELEMETRY_TYPE.into(),
        source: None,
        device: DeviceKey::new(&"contract".parse()?, &device.parse()?),
        subject: subject.into(),
        time: now,
        content_type: "text/plain".into(),
        extensions: Vec::new(),
        data: Bytes::from(format!("data of {subject}")),
    })
}

/// Makes a test of each check of the contract, for the adapter that the expression makes; behind `pushed:` of those that hold
/// for one whose channels keep nothing.
#[macro_export]
macro_rules! channel_contract {
    (pushed: $adapter:expr) => {
        $crate::channel_contract!(whatever is kept: $adapter);
        $crate::channel_contract!($adapter => what_is_not_kept_cannot_be_asked_for,);
    };
    (whatever is kept: $adapter:expr) => {
        $crate::channel_contract! {
            $adapter =>
            every_attribute_is_read_back,
            concurrent_publishers_keep_the_order_of_each_device,
            a_publish_that_nobody_awaits_is_not_withdrawn,
            a_full_queue_is_an_error_and_recovers,
            the_key_is_read_without_the_event,
            latest_reads_what_is_accepted_later,
            latest_reads_without_a_gap_under_load,
            a_handler_that_stops_ends_its_subscription,
            a_subscription_that_is_dropped_ends,
            a_blocked_handler_slows_only_itself,
        }
    };
    ($adapter:expr) => {
        $crate::channel_contract!(whatever is kept: $adapter);
        $crate::channel_contract! {
            $adapter =>
            a_subscription_reads_only_its_channels,
            earliest_reads_everything,
            a_cursor_resumes_without_gap_or_repetition,
            a_cursor_resumes_after_a_restart,
            unknown_cursors_are_refused,
        }
    };
    ($adapter:expr => $($check:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $check() -> anyhow::Result<()> {
            let adapter = $adapter;
            $crate::contract::$check(&adapter).await
        }
    )*};
}
