//! The channel adapter for many machines: each channel is a topic of Apache Kafka.
//!
//! The way of an event: [`EventSink::publish`] writes it as a record of the CloudEvents Kafka binding (`binding`) into
//! the producer's bounded queue (`sink`), under the device's key, which decides the partition and with it the order.
//! The publisher's future resolves when all replicas in sync have it. A subscription (`reader`) reads all partitions
//! of its topics from positions of its own; the key of a record is looked at where the client library keeps it, and
//! the rest is decoded only when a handler asks (`record`). Once a second `watch` asks where the partitions end, and
//! by that each subscription knows whether it is live.
//!
//! Invariants: acknowledged means `acks=all` by an idempotent producer; a topic that is there is never changed; no
//! consumer group is joined; no property can be set on which a promise rests; values of properties are not shown.

mod binding;
mod cluster;
mod context;
mod error;
mod objections;
mod positions;
mod reader;
mod record;
mod settings;
mod sink;
#[cfg(test)]
mod tests;
mod topics;
mod watch;

use std::fmt;
use std::sync::Arc;

pub use error::KafkaError;
pub use settings::{KafkaSettings, Property, TopicSettings};

use crate::BoxFuture;
use crate::channel::{
    Channel, Cursor, EventSink, EventSource, Partition, Place, PublishError, RecordHandler, SourceError,
    Start, Subscription,
};
use crate::event::Event;
use crate::id::DeviceKey;
use crate::process::Clock;
use cluster::Cluster;
use positions::Positions;
use sink::{Receipt, Sink};
use watch::Watch;

/// The channels on a Kafka cluster. Clones share them.
///
/// Dropping the last clone waits up to 2 s for the acknowledgement of what was published.
#[derive(Clone)]
pub struct KafkaChannels {
    sink: Arc<Sink>,
    shared: Arc<Shared>,
}

/// What the subscriptions share.
struct Shared {
    settings: KafkaSettings,
    cluster: Arc<Cluster>,
    watch: Watch,
    clock: Clock,
}

impl KafkaChannels {
    /// Finds the cluster, makes the topics that are missing, and looks at those that are there.
    ///
    /// # Errors
    /// Fails if the settings are bad, the cluster does not answer within 10 s, or a topic cannot be had or breaks a
    /// promise.
    pub async fn open(settings: KafkaSettings, clock: Clock) -> Result<Self, KafkaError> {
        settings.check()?;
        let opened = tokio::task::spawn_blocking(move || {
            let cluster = Arc::new(topics::prepare(&settings, clock.clone())?);
            let watch = Watch::start(cluster.clone(), clock.clone())?;
            let sink = Arc::new(Sink::new(settings.clone(), clock.clone())?);
            Ok(Self { sink, shared: Arc::new(Shared { settings, cluster, watch, clock }) })
        });
        opened.await.unwrap_or_else(|error| Err(KafkaError::Thread(error.to_string())))
    }

    /// Tells whether all partitions of all channels have lately answered.
    pub fn is_reachable(&self) -> bool {
        self.shared.watch.is_reachable(self.shared.clock.instant(), reader::STALE)
    }
}

impl EventSink for KafkaChannels {
    fn publish(&self, channel: Channel, event: Event) -> BoxFuture<'static, Result<(), PublishError>> {
        answer(self.sink.publish(channel, None, &event))
    }

    fn publish_in(
        &self,
        channel: Channel,
        partition: Partition,
        event: Event,
    ) -> BoxFuture<'static, Result<(), PublishError>> {
        answer(self.sink.publish(channel, Some(partition), &event))
    }

    fn partitions(&self) -> u32 {
        u32::try_from(self.shared.cluster.topic(Channel::Commands).partitions).unwrap_or(0)
    }

    fn partition_of(&self, device: &DeviceKey) -> Partition {
        let partitions = self.shared.cluster.topic(Channel::Commands).partitions;
        let partition = cluster::partition_of(device.as_str().as_bytes(), partitions);
        Partition(u32::try_from(partition).unwrap_or(0))
    }
}

fn answer(receipt: Result<Receipt, PublishError>) -> BoxFuture<'static, Result<(), PublishError>> {
    let gone = || Err(PublishError::Unavailable("the Kafka producer has ended".to_owned()));
    Box::pin(async move { receipt?.await.unwrap_or_else(|_| gone()) })
}

impl EventSource for KafkaChannels {
    fn subscribe(
        &self,
        channels: &[Channel],
        start: Start,
        handler: Box<dyn RecordHandler>,
    ) -> BoxFuture<'_, Result<Subscription, SourceError>> {
        Box::pin(reader::subscribe(&self.shared, channels.to_vec(), start, handler))
    }

    fn cursor_behind(&self, places: &[(Channel, Vec<Option<Place>>)]) -> Result<Cursor, SourceError> {
        let Shared { cluster, .. } = &*self.shared;
        let next = |place: &Option<Place>| {
            place.map_or(Some(0), |Place(place)| i64::try_from(place).ok()?.checked_add(1))
        };
        let of = |(channel, places): &(Channel, Vec<Option<Place>>)| {
            let offsets: Vec<_> = places.iter().map(next).collect::<Option<_>>()?;
            let partitions = usize::try_from(cluster.topic(*channel).partitions).ok()?;
            (offsets.len() == partitions).then_some((*channel, offsets))
        };
        let channels = places.iter().map(of).collect::<Option<_>>().ok_or(SourceError::InvalidCursor)?;
        Ok(Positions::new(channels).cursor(cluster.fingerprint))
    }
}

impl fmt::Debug for KafkaChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = &self.shared.settings.bootstrap_servers;
        f.debug_struct("KafkaChannels").field("servers", servers).finish_non_exhaustive()
    }
}
