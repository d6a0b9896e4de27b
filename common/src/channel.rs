//! The seam between the cloud and its channels: logs of CloudEvents.
//!
//! An adapter implements [`EventSink`] and [`EventSource`]; a contract suite judges every adapter alike.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::BoxFuture;
use crate::error::ErrorKind;
use crate::event::{Event, Malformed};
use crate::id::DeviceKey;

/// A named log of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// What devices send.
    Telemetry,
    /// What applications send, and the connection records that decide who delivers.
    Commands,
    /// What became of commands.
    Outcomes,
}

impl Channel {
    /// All channels.
    pub const ALL: [Self; 3] = [Self::Telemetry, Self::Commands, Self::Outcomes];

    /// Returns the channel's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Commands => "commands",
            Self::Outcomes => "outcomes",
        }
    }

    /// Finds a channel by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == name)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A part of a channel: its records have one order. All records of a device lie in the same partition, and of the channels
/// `commands` and `outcomes` in partitions of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub u32);

/// A record's place in the order of its partition. A later record has a higher one; they need not be consecutive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Place(pub u64);

/// Takes events into a channel. By default it has a single partition.
pub trait EventSink: Send + Sync {
    /// Publishes an event; the future resolves once the channel has persisted it.
    ///
    /// The event takes its place in the order when this is called, not when the future is polled: events of one device
    /// that are published one after another are read in that order. Dropping the future withdraws nothing.
    fn publish(&self, channel: Channel, event: Event) -> BoxFuture<'static, Result<(), PublishError>>;

    /// Publishes an event that concerns [all devices](crate::id::DeviceKey::all) of a partition, like
    /// [`EventSink::publish`].
    fn publish_in(
        &self,
        channel: Channel,
        _partition: Partition,
        event: Event,
    ) -> BoxFuture<'static, Result<(), PublishError>> {
        self.publish(channel, event)
    }

    /// Returns the number of partitions that the channels `commands` and `outcomes` have each.
    fn partitions(&self) -> u32 {
        1
    }

    /// Returns the partition of these channels in which a device's records lie.
    fn partition_of(&self, _device: &DeviceKey) -> Partition {
        Partition(0)
    }
}

/// Says why an event is not known to be in the channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The queue to the channel is full; the event was not taken.
    #[error("the queue to the channel is full, try again later")]
    Overloaded,
    /// The channel takes no event of this size.
    #[error("the event is larger than the channel takes")]
    TooLarge,
    /// The channel did not acknowledge the event in time. It may be in the channel.
    #[error("the channel did not acknowledge the event within {0:?} (option --publish-timeout)")]
    TimedOut(Duration),
    /// The channel cannot be reached, or failed to take the event. It may be in the channel.
    #[error("the channel is not available: {0}")]
    Unavailable(String),
}

impl PublishError {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Overloaded => ErrorKind::Overloaded,
            Self::TooLarge => ErrorKind::TooLarge,
            Self::TimedOut(_) | Self::Unavailable(_) => ErrorKind::Unavailable,
        }
    }
}

/// A position in the channels that were subscribed to: what was read, and what comes next. Opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(pub String);

/// Where a subscription starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With what is accepted from now on.
    Latest,
    /// With the oldest that is kept.
    Earliest,
    /// Behind a position that an earlier subscription reached.
    After(Cursor),
}

/// A record of a channel, decoded only as far as it is asked to.
pub trait Record {
    /// Returns the channel that the record is in.
    fn channel(&self) -> Channel;
    /// Returns the record's key, which names the device. Nothing else of the record is touched.
    fn key(&self) -> &[u8];
    /// Returns the partition that the record is in.
    fn partition(&self) -> Partition;
    /// Returns the record's place in its partition.
    fn place(&self) -> Place;
    /// Decodes the event.
    ///
    /// # Errors
    /// Fails if somebody wrote a record that is no event; such a record is counted and skipped.
    fn event(&self) -> Result<Event, Malformed>;
    /// Returns the position behind this record in its subscription.
    fn cursor(&self) -> Cursor;
}

/// Tells a source whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Hand over the next record.
    Continue,
    /// End the subscription.
    Stop,
}

/// Takes the records of one subscription, in order.
///
/// It is called where blocking is allowed, and a handler that blocks slows only its own subscription.
pub trait RecordHandler: Send {
    /// Takes the next record.
    fn record(&mut self, record: &dyn Record) -> Flow;
    /// Takes the news that the subscription cannot go on without a gap. [`Flow::Continue`] resumes behind the gap.
    fn interrupted(&mut self, error: &SourceError) -> Flow;
}

/// Hands out what channels hold.
pub trait EventSource: Send + Sync {
    /// Subscribes to channels. The future resolves once the start is fixed: whatever is accepted later is read.
    ///
    /// # Errors
    /// See [`SourceError`].
    fn subscribe(
        &self,
        channels: &[Channel],
        start: Start,
        handler: Box<dyn RecordHandler>,
    ) -> BoxFuture<'_, Result<Subscription, SourceError>>;

    /// Returns the position behind a place in each partition of channels; `None`: before the first record.
    ///
    /// # Errors
    /// Fails if a channel has no such partitions, or this source has no positions, which is the default.
    fn cursor_behind(&self, _places: &[(Channel, Vec<Option<Place>>)]) -> Result<Cursor, SourceError> {
        Err(SourceError::Unsupported)
    }
}

/// Says why a subscription cannot start or go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The position is none that this source gave out for these channels.
    #[error("the position is not one of this stream; leave it out to start anew")]
    InvalidCursor,
    /// Retention has passed the position.
    #[error("events behind this position are no longer kept; start anew with from=earliest")]
    Gone,
    /// This source has no positions.
    #[error("this channel cannot resume; only from=latest is possible")]
    Unsupported,
    /// The channel cannot be reached.
    #[error("the channel is not available: {0}")]
    Unavailable(String),
}

impl SourceError {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidCursor => ErrorKind::Invalid,
            Self::Gone => ErrorKind::Gone,
            Self::Unsupported => ErrorKind::Unavailable,
            Self::Unavailable(_) => ErrorKind::Unavailable,
        }
    }
}

/// A live subscription. Dropping it ends it.
pub struct Subscription {
    live: Arc<AtomicBool>,
    start: Option<Cursor>,
    _guard: Box<dyn Send + Sync>,
}

impl Subscription {
    /// Makes a subscription of an adapter: `live` is kept true while records flow, dropping `guard` ends it.
    pub fn new(live: Arc<AtomicBool>, guard: impl Send + Sync + 'static) -> Self {
        Self { live, start: None, _guard: Box::new(guard) }
    }

    /// Notes the position at which the subscription started.
    pub fn starting_at(self, start: Cursor) -> Self {
        Self { start: Some(start), ..self }
    }

    /// Returns the position before the first record that is handed over; `None` if the source has no positions.
    pub fn start(&self) -> Option<&Cursor> {
        self.start.as_ref()
    }

    /// Tells whether records flow: false while the channel cannot be reached or the subscription has ended.
    pub fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }
}

/// Says for an adapter whether records flow. They do not once it is dropped, also when a handler panicked.
#[derive(Debug)]
pub struct LiveGuard(Arc<AtomicBool>);

impl LiveGuard {
    /// Takes charge of the sign of a subscription.
    pub fn new(live: Arc<AtomicBool>) -> Self {
        Self(live)
    }

    /// Says whether records flow, and returns what was said before.
    pub fn set(&self, live: bool) -> bool {
        self.0.swap(live, Ordering::AcqRel)
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        self.set(false);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("live", &self.is_live()).finish_non_exhaustive()
    }
}
