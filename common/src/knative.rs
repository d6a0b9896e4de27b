//! The channel adapter for Knative: each channel is a resource of the cluster that takes CloudEvents over HTTP.
//!
//! The way of an event out: [`EventSink::publish`] gives it to the lane of its device (`lanes`), which POSTs it to the channel's
//! address (`sink`, `binding`), again and again within the device's patience, before the next of that device. The channel's
//! 202 is its word that it has it.
//!
//! Where this replica is subscribed to the channel itself, that is not enough: the event must have come here (`echoes`).
//!
//! The way in is one of two ([`Reading`]). The channel pushes: this replica has a Subscription of its own to each channel
//! (`subscriptions`), whose subscriber is a server here (`receiver`), from which every subscription of this process gets what
//! comes (`hub`); it is live as long as what this replica posts to itself arrives (`probe`). Or the channel keeps its events in
//! a topic of Kafka, and the [Kafka adapter](crate::kafka) reads that: only there events have positions. What concerns a
//! whole partition is then written there as well, as no channel takes an event for a partition.
//!
//! Invariants: events of one device and channel are acknowledged in their order; an event that is pushed again is handed on
//! once; only who knows this replica's token can push to it; a Subscription belongs to its Pod and goes with it.

mod binding;
mod echoes;
mod error;
mod hub;
mod lanes;
mod probe;
mod push;
mod receiver;
mod resource;
mod sink;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Proxy};
use rustls::crypto::ring::default_provider;
use url::Url;

pub use error::KnativeError;
pub use push::Push;
pub use resource::{ChannelKind, ChannelResource};
pub use sink::Target;

use crate::BoxFuture;
use crate::channel::{
    Channel, Cursor, EventSink, EventSource, Partition, Place, PublishError, RecordHandler, SourceError,
    Start, Subscription,
};
use crate::event::Event;
use crate::id::DeviceKey;
use crate::kafka::{KafkaChannels, KafkaSettings};
use crate::kubernetes::Cluster;
use crate::process::Clock;
use echoes::Echoes;
use push::Pushing;
use sink::{Sink, SinkSettings, TOKEN_LIFETIME};

/// The part of a device's patience that a channel has: what is left is for telling the device.
const SHARE_OF_PATIENCE: f64 = 0.9;
/// How long a channel may take to let itself be connected to.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a connection to a channel is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(30);

/// What can be chosen about channels on Knative.
#[derive(Debug)]
pub struct KnativeSettings {
    /// Where channels take events, where that is known without asking for a resource.
    pub targets: HashMap<Channel, Target>,
    /// The resources of channels.
    pub resources: Vec<ChannelResource>,
    /// Extension attributes that every event gets.
    pub overrides: BTreeMap<String, String>,
    /// Certificates of authorities to trust for `https`, beside the system's; PEM.
    pub ca_certificates: Option<String>,
    /// Through which HTTP proxy channels are posted to; by default the one that the environment names.
    pub proxy: Option<Url>,
    /// How events are read.
    pub reading: Reading,
    /// How long a device waits for an acknowledgement; the channel has nine tenths of it.
    pub publish_timeout: Duration,
    /// The largest event in bytes, attributes included.
    pub max_event: usize,
}

/// How events are read.
#[derive(Debug)]
pub enum Reading {
    /// The channels push them to this replica.
    Push(Push),
    /// From the topics in which the channels, all of them on Kafka, keep them. The topics' names come from the resources.
    Topics(Box<KafkaSettings>),
}

/// The channels on Knative. Clones share them.
#[derive(Clone)]
pub struct KnativeChannels {
    sink: Arc<Sink>,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Push(Arc<Pushing>),
    Topics(KafkaChannels),
}

impl KnativeChannels {
    /// Finds the channels, and subscribes to those that push; commands arrive when this resolves.
    ///
    /// # Errors
    /// Fails if the settings are bad, a resource cannot be had, or what is published does not arrive.
    pub async fn open(
        settings: KnativeSettings,
        cluster: &Cluster,
        clock: Clock,
    ) -> Result<Self, KnativeError> {
        let KnativeSettings { targets, resources, .. } = settings;
        let reads_topics = matches!(settings.reading, Reading::Topics(_));
        let Found { targets, topics, authorities } = find(&resources, targets, reads_topics, cluster).await?;
        let authorities: Vec<_> = settings.ca_certificates.into_iter().chain(authorities).collect();
        for (channel, target) in &targets {
            let host = target.url.host_str().unwrap_or_default();
            tracing::info!(%channel, host, "the channel takes events over HTTP");
        }
        let pushed = match &settings.reading {
            Reading::Push(push) => push.channels.clone(),
            Reading::Topics(_) => Vec::new(),
        };
        let echoes = Arc::new(Echoes::of(pushed));
        let sink = SinkSettings {
            echoes: echoes.clone(),
            client: client(&authorities, settings.proxy)?,
            targets,
            overrides: settings.overrides,
            publish_timeout: settings.publish_timeout,
            patience: settings.publish_timeout.mul_f64(SHARE_OF_PATIENCE).max(Duration::from_millis(1)),
            max_event: settings.max_event,
            token_lifetime: TOKEN_LIFETIME,
        };
        let sink = Arc::new(Sink::new(sink, clock.clone()));
        let source = match settings.reading {
            Reading::Push(push) => {
                let max_event = settings.max_event;
                let pushing = push.start(&resources, &sink, echoes, max_event, cluster, clock);
                Source::Push(Arc::new(pushing.await?))
            }
            Reading::Topics(kafka) => Source::Topics(read_topics(*kafka, topics, clock).await?),
        };
        Ok(Self { sink, source })
    }

    /// Tells whether commands arrive, or the topics answer.
    pub fn is_reachable(&self) -> bool {
        match &self.source {
            Source::Push(pushing) => pushing.is_live(),
            Source::Topics(kafka) => kafka.is_reachable(),
        }
    }

    /// Removes what this replica has in the cluster: the last thing that it does.
    pub async fn close(&self) {
        match &self.source {
            Source::Push(pushing) => pushing.end().await,
            Source::Topics(_) => {}
        }
    }
}

/// What resources said.
struct Found {
    /// Where channels take events.
    targets: HashMap<Channel, Target>,
    /// In which topics they keep them, where those are read.
    topics: HashMap<Channel, String>,
    /// Which authorities to trust with that; PEM.
    authorities: Vec<String>,
}

/// Asks the resources for what is not known.
async fn find(
    resources: &[ChannelResource],
    mut targets: HashMap<Channel, Target>,
    reads_topics: bool,
    cluster: &Cluster,
) -> Result<Found, KnativeError> {
    let (mut topics, mut authorities) = (HashMap::new(), Vec::new());
    for resource in resources {
        let is_known = targets.contains_key(&resource.channel);
        if is_known && !reads_topics {
            continue;
        }
        let resolved = resource.resolve(cluster).await?;
        if reads_topics {
            topics.insert(resource.channel, resolved.topic(resource)?);
        }
        if !is_known {
            targets.insert(resource.channel, resolved.target(resource)?);
            authorities.extend(resolved.authority);
        }
    }
    Ok(Found { targets, topics, authorities })
}

async fn read_topics(
    mut kafka: KafkaSettings,
    topics: HashMap<Channel, String>,
    clock: Clock,
) -> Result<KafkaChannels, KnativeError> {
    let missing = Channel::ALL.into_iter().find(|channel| !topics.contains_key(channel));
    if let Some(channel) = missing {
        return Err(KnativeError::NoResource(channel));
    }
    kafka.topic_names = Some(Channel::ALL.map(|channel| topics.get(&channel).cloned().unwrap_or_default()));
    tracing::info!(topics = ?kafka.topic_names, "the channels are read from their topics");
    Ok(KafkaChannels::open(kafka, clock).await?)
}

fn client(ca_certificates: &[String], proxy: Option<Url>) -> Result<Client, KnativeError> {
    // Fails if there is one already, which is as good.
    drop(default_provider().install_default());
    let failed = |error: reqwest::Error| KnativeError::Client(error.to_string());
    let mut builder =
        Client::builder().connect_timeout(CONNECT).pool_idle_timeout(IDLE).redirect(Policy::none());
    for pem in ca_certificates {
        for certificate in Certificate::from_pem_bundle(pem.as_bytes()).map_err(failed)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    if let Some(proxy) = proxy {
        builder = builder.proxy(Proxy::http(proxy).map_err(failed)?);
    }
    builder.build().map_err(failed)
}

impl EventSink for KnativeChannels {
    fn publish(&self, channel: Channel, event: Event) -> BoxFuture<'static, Result<(), PublishError>> {
        self.sink.publish(channel, event)
    }

    fn publish_in(
        &self,
        channel: Channel,
        partition: Partition,
        event: Event,
    ) -> BoxFuture<'static, Result<(), PublishError>> {
        match &self.source {
            Source::Push(_) => self.sink.publish(channel, event),
            Source::Topics(kafka) => kafka.publish_in(channel, partition, event),
        }
    }

    fn partitions(&self) -> u32 {
        match &self.source {
            Source::Push(_) => 1,
            Source::Topics(kafka) => kafka.partitions(),
        }
    }

    fn partition_of(&self, device: &DeviceKey) -> Partition {
        match &self.source {
            Source::Push(_) => Partition(0),
            Source::Topics(kafka) => kafka.partition_of(device),
        }
    }
}

impl EventSource for KnativeChannels {
    fn subscribe(
        &self,
        channels: &[Channel],
        start: Start,
        handler: Box<dyn RecordHandler>,
    ) -> BoxFuture<'_, Result<Subscription, SourceError>> {
        match &self.source {
            Source::Push(pushing) => {
                let subscribed = match start {
                    Start::Latest => pushing.subscribe(channels.to_vec(), handler),
                    Start::Earliest | Start::After(_) => Err(SourceError::Unsupported),
                };
                Box::pin(async { subscribed })
            }
            Source::Topics(kafka) => kafka.subscribe(channels, start, handler),
        }
    }

    fn cursor_behind(&self, places: &[(Channel, Vec<Option<Place>>)]) -> Result<Cursor, SourceError> {
        match &self.source {
            Source::Push(_) => Err(SourceError::Unsupported),
            Source::Topics(kafka) => kafka.cursor_behind(places),
        }
    }
}

impl fmt::Debug for KnativeChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnativeChannels")
    }
}
