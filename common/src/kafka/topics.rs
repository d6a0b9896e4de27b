//! The topics of the channels: made where they are missing, looked at where they are there, and never changed.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataBroker, MetadataTopic};
use tokio::runtime::Handle;

use super::cluster::{Cluster, Lookup, PATIENCE, RETRY, Topic};
use super::context::Context;
use super::error::KafkaError;
use super::objections::{Found, Objection};
use super::settings::{KafkaSettings, TopicSettings, bad_property};
use crate::channel::Channel;
use crate::process::Clock;

/// How many replicas a topic gets where neither we nor the brokers are told, and there are as many brokers.
const REPLICAS: i32 = 3;
/// How long the answer to a request for settings may take. Not every broker gives one.
const ADMIN_PATIENCE: Duration = Duration::from_secs(5);

/// Finds the cluster and the topics of all channels, and makes those that are missing. Blocks.
pub(super) fn prepare(settings: &KafkaSettings, clock: Clock) -> Result<Cluster, KafkaError> {
    let lookup = Lookup::new(settings, clock.clone())?;
    let servers = settings.bootstrap_servers.clone();
    let unreachable = |reason: String| KafkaError::Unreachable { servers: servers.clone(), reason };
    let names = settings.names();
    let first = lookup.metadata(&names[0], PATIENCE);
    let first = first.map_err(|error| unreachable(lookup.reason(error)))?;
    let id = lookup.cluster_id().ok_or_else(|| unreachable(lookup.reason("it does not say who it is")))?;
    // The library's admin client calls nobody back for a token.
    let has_admin = settings.oauth_token_file.is_none();
    let maker = has_admin.then(|| Maker::new(settings, clock.clone(), first.brokers())).transpose()?;
    let mut made = Vec::new();
    for name in &names {
        let metadata = lookup.metadata(name, PATIENCE).map_err(|error| unreachable(lookup.reason(error)))?;
        if found(&metadata, name).is_none() {
            if settings.topic_names.is_some() {
                return Err(KafkaError::Missing(name.clone()));
            }
            made.push(maker.as_ref().ok_or_else(|| without_admin(name))?.make(name)?);
        } else {
            made.push(false);
        }
    }
    let (mut topics, mut replicas) = (Vec::new(), Vec::new());
    for (channel, name) in Channel::ALL.into_iter().zip(names) {
        let shape = wait_for_leaders(&lookup, &name, &clock);
        let shape = shape.ok_or_else(|| unreachable(format!("partitions of {name} have no leader")))?;
        replicas.push(shape.replicas);
        topics.push(Topic { channel, name, partitions: shape.partitions });
    }
    if let Err(error) = agree(&topics) {
        // Who made the topics is asked to make them anew; ours have grown, and who follows commands begins anew.
        if settings.topic_names.is_some() {
            return Err(error);
        }
        tracing::warn!(%error, "what becomes of commands cannot be followed as it should");
    }
    match &maker {
        Some(maker) => {
            let names = topics.iter().map(|topic| topic.name.as_str()).zip(replicas).zip(made);
            let others: Vec<_> = names.filter(|(_, made)| !made).map(|(topic, _)| topic).collect();
            maker.judge(&others)?;
        }
        None => {
            tracing::warn!("with OAUTHBEARER the settings of topics cannot be read, so they are not checked")
        }
    }
    let whose = settings.topic_names.as_ref().map_or(settings.topic_prefix.clone(), |names| names.join(","));
    let fingerprint = murmur2::murmur64a(format!("{id}/{whose}").as_bytes(), 0);
    Ok(Cluster { lookup, servers, topics, fingerprint, clock })
}

/// What is told of a command lies in the partition of the command's number.
fn agree(topics: &[Topic]) -> Result<(), KafkaError> {
    let of = |wanted| topics.iter().find(|topic| topic.channel == wanted);
    match (of(Channel::Commands), of(Channel::Outcomes)) {
        (Some(commands), Some(outcomes)) if commands.partitions != outcomes.partitions => {
            Err(KafkaError::Unsuitable(format!(
                "{} has {} partitions and {} has {}: give them the same number",
                commands.name, commands.partitions, outcomes.name, outcomes.partitions
            )))
        }
        (_, _) => Ok(()),
    }
}

fn without_admin(topic: &str) -> KafkaError {
    let reason = "with OAUTHBEARER this program cannot make topics; make it with kafka-topics.sh --create";
    KafkaError::Create { topic: topic.to_owned(), reason: reason.to_owned() }
}

fn found<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a MetadataTopic> {
    let is_there = |topic: &&MetadataTopic| {
        topic.name() == name && topic.error().is_none() && !topic.partitions().is_empty()
    };
    metadata.topics().iter().find(is_there)
}

/// How a topic is laid out.
struct Shape {
    partitions: i32,
    /// How many brokers have each record, at least.
    replicas: i32,
}

/// Waits until each partition of a topic has a leader.
fn wait_for_leaders(lookup: &Lookup, name: &str, clock: &Clock) -> Option<Shape> {
    let deadline: Instant = clock.instant() + PATIENCE;
    while clock.instant() < deadline {
        let metadata = lookup.metadata(name, PATIENCE).ok();
        let topic = metadata.as_ref().and_then(|metadata| found(metadata, name));
        if let Some(topic) = topic.filter(|topic| topic.partitions().iter().all(|each| each.leader() >= 0)) {
            let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
            let fewest = topic.partitions().iter().map(|each| each.replicas().len()).min().unwrap_or(0);
            return Some(Shape { partitions: count(topic.partitions().len()), replicas: count(fewest) });
        }
        thread::sleep(RETRY);
    }
    None
}

/// Makes topics, and judges those that others made.
struct Maker<'a> {
    admin: AdminClient<Context>,
    settings: &'a TopicSettings,
    max_event: usize,
    /// How many brokers are alive, and one of them.
    brokers: i32,
    broker: i32,
    clock: Clock,
}

impl<'a> Maker<'a> {
    fn new(
        settings: &'a KafkaSettings,
        clock: Clock,
        brokers: &[MetadataBroker],
    ) -> Result<Self, KafkaError> {
        let context = Context::new(settings.oauth_token_file.clone(), clock.clone());
        let admin = settings.client().create_with_context(context).map_err(bad_property)?;
        let (brokers, broker) = (
            i32::try_from(brokers.len()).unwrap_or(i32::MAX),
            brokers.first().map_or(-1, MetadataBroker::id),
        );
        Ok(Self { admin, settings: &settings.topics, max_event: settings.max_event, brokers, broker, clock })
    }

    /// Makes a topic. Returns false if another replica was faster.
    ///
    /// Where nobody said how many replicas there are to be, brokers that are yet to start are waited for.
    fn make(&self, name: &str) -> Result<bool, KafkaError> {
        let asked = self.settings.replication_factor;
        let replicas = asked.unwrap_or_else(|| self.usual_replicas());
        let deadline = self.clock.instant() + PATIENCE;
        loop {
            let result = self.try_to_make(name, replicas);
            let too_few = matches!(result, Err(RDKafkaErrorCode::InvalidReplicationFactor));
            if too_few && asked.is_none() && self.clock.instant() < deadline {
                thread::sleep(RETRY);
                continue;
            }
            return result.map_err(|code| KafkaError::Create {
                topic: name.to_owned(),
                reason: if too_few {
                    format!("{replicas} replicas need as many brokers (option --kafka-replication-factor)")
                } else {
                    code.to_string()
                },
            });
        }
    }

    fn try_to_make(&self, name: &str, replicas: i32) -> Result<bool, RDKafkaErrorCode> {
        let in_sync = self.settings.min_insync_replicas.unwrap_or((replicas - 1).max(1)).to_string();
        let retention = self.settings.retention.as_millis().to_string();
        let max_event = self.max_event.to_string();
        let topic = NewTopic::new(name, self.settings.partitions, TopicReplication::Fixed(replicas))
            .set("cleanup.policy", "delete")
            .set("min.insync.replicas", &in_sync)
            .set("retention.ms", &retention)
            .set("max.message.bytes", &max_event);
        let options = options().operation_timeout(Some(PATIENCE));
        let results = wait(self.admin.create_topics([&topic], &options));
        let failed = |error: ClientError| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        match results.map_err(failed)?.into_iter().next() {
            Some(Ok(_)) => {
                let partitions = self.settings.partitions;
                tracing::info!(topic = name, partitions, replicas, in_sync, "made a topic");
                Ok(true)
            }
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(code),
            None => Err(RDKafkaErrorCode::Fail),
        }
    }

    /// Returns how many replicas a topic gets where nothing is said: what the brokers' own default is, or else 3, or as
    /// many as there are brokers.
    fn usual_replicas(&self) -> i32 {
        let specifier = ResourceSpecifier::Broker(self.broker);
        let described = wait(self.admin.describe_configs([&specifier], &options()));
        let config = described.ok().and_then(|results| results.into_iter().next()?.ok());
        let default =
            config.and_then(|config| config.get("default.replication.factor")?.value.clone()?.parse().ok());
        default.unwrap_or(1).max(self.brokers.min(REPLICAS))
    }

    /// Looks at topics, given with their replicas, that somebody else may have made. With compaction, or fewer replicas in
    /// sync than were asked for, a promise would be broken; what may be meant so is told and no more.
    fn judge(&self, topics: &[(&str, i32)]) -> Result<(), KafkaError> {
        let specifiers: Vec<_> = topics.iter().map(|(name, _)| ResourceSpecifier::Topic(name)).collect();
        let described = match specifiers.as_slice() {
            [] => return Ok(()),
            specifiers => wait(self.admin.describe_configs(specifiers, &options())).unwrap_or_default(),
        };
        let asked = self.settings.min_insync_replicas;
        let wanted = asked.unwrap_or((self.brokers.min(REPLICAS) - 1).max(1));
        for (name, replicas) in topics {
            let is_it = |config: &&ConfigResource| matches!(&config.specifier, OwnedResourceSpecifier::Topic(topic) if topic == name);
            let Some(config) = described.iter().flatten().find(is_it) else {
                tracing::warn!(
                    topic = name,
                    "the settings of the topic cannot be read, so they are not checked"
                );
                continue;
            };
            let found = Found::of(config, *replicas);
            for Objection { text, breaks } in found.objections(name, wanted, asked.is_some(), self.max_event)
            {
                if breaks {
                    return Err(KafkaError::Unsuitable(text));
                }
                tracing::warn!(topic = name, "{text}");
            }
        }
        Ok(())
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ADMIN_PATIENCE))
}

/// Waits for the admin client, on a thread of the runtime where blocking is allowed.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    Handle::current().block_on(answer)
}
