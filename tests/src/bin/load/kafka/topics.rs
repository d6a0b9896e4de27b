//! The topics of one figure, which nobody else uses.

use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use common::channel::Channel;
use common::kafka::{KafkaChannels, KafkaSettings};
use common::service::Clock;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use uuid::Uuid;

use super::Brokers;
use crate::address::Loopback;
use crate::drive::run;
use crate::progress;

/// How long the brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The topics of one figure, with a prefix of their own. They are deleted when this is dropped.
#[derive(Debug)]
pub(crate) struct Topics {
    brokers: Brokers,
    prefix: String,
}

impl Topics {
    /// Thinks up names.
    ///
    /// # Errors
    /// Fails if the brokers do not answer, or say that some of them are on another machine.
    pub(crate) fn new(brokers: &Brokers) -> anyhow::Result<Self> {
        let topics = Self { brokers: brokers.clone(), prefix: format!("load-{}.", Uuid::new_v4().simple()) };
        let metadata = topics.client()?.fetch_metadata(None, PATIENCE);
        let metadata = metadata.with_context(|| format!("no Kafka broker answers on {brokers}"))?;
        for broker in metadata.brokers() {
            let address = format!("{}:{}", broker.host(), broker.port());
            let is_here = address.parse::<Loopback>().is_ok();
            ensure!(is_here, "the Kafka broker {address} is not on this machine, and load goes nowhere else");
        }
        Ok(topics)
    }

    /// Makes the topics as Drogue makes them.
    ///
    /// # Errors
    /// Fails if the brokers do not make them.
    pub(crate) fn make(&self) -> anyhow::Result<()> {
        run(async {
            KafkaChannels::open(self.settings(), Clock::system()).await?;
            Ok(())
        })
    }

    /// Returns what the adapter is opened with, and the properties of bare clients.
    pub(crate) fn settings(&self) -> KafkaSettings {
        KafkaSettings { topic_prefix: self.prefix.clone(), ..KafkaSettings::new(self.brokers.to_string()) }
    }

    /// Returns the brokers.
    pub(crate) fn brokers(&self) -> &Brokers {
        &self.brokers
    }

    /// Returns what the names begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the topic of a channel.
    pub(crate) fn of(&self, channel: Channel) -> String {
        format!("{}{channel}", self.prefix)
    }

    /// Returns how many partitions a topic has.
    ///
    /// # Errors
    /// Fails if the brokers do not answer.
    pub(crate) fn partitions(&self, channel: Channel) -> anyhow::Result<i32> {
        let metadata = self.client()?.fetch_metadata(Some(&self.of(channel)), PATIENCE)?;
        let topic = metadata.topics().first().context("the broker says nothing of the topic")?;
        Ok(topic.partitions().len().try_into()?)
    }

    /// Counts the records of a topic by where its partitions end: an idempotent producer leaves no gaps.
    ///
    /// # Errors
    /// Fails if the brokers do not answer.
    pub(crate) fn count(&self, channel: Channel) -> anyhow::Result<u64> {
        let (client, topic) = (self.client()?, self.of(channel));
        let ends = (0..self.partitions(channel)?).map(|partition| {
            let (_, end) = client.fetch_watermarks(&topic, partition, PATIENCE)?;
            Ok(u64::try_from(end)?)
        });
        ends.sum()
    }

    /// Fails if a topic has fewer records than were acknowledged. Returns a note of both.
    ///
    /// # Errors
    /// Fails if that is so, or the brokers do not answer.
    pub(crate) fn ensure_kept(&self, channel: Channel, acknowledged: u64) -> anyhow::Result<String> {
        let kept = self.count(channel)?;
        ensure!(kept >= acknowledged, "{acknowledged} events were acknowledged and {kept} are in the topic");
        Ok(format!("{acknowledged} acknowledged, {kept} in the topic"))
    }

    fn client(&self) -> anyhow::Result<BaseConsumer> {
        Ok(self.settings().consumer().create()?)
    }

    fn delete(&self) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.settings().consumer().create()?;
        let metadata = admin.inner().fetch_metadata(None, PATIENCE)?;
        let names = metadata.topics().iter().map(|topic| topic.name());
        let ours: Vec<_> = names.filter(|name| name.starts_with(&self.prefix)).collect();
        if ours.is_empty() {
            return Ok(());
        }
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let results = run(async { Ok(admin.delete_topics(&ours, &options).await?) })?;
        let failed = results.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |(topic, code)| anyhow::bail!("{topic}: {code}"))
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        // On a thread of its own: this one may be inside a runtime already.
        let deleted = thread::scope(|scope| scope.spawn(|| self.delete()).join());
        match deleted {
            Ok(Ok(())) => {}
            Ok(Err(error)) => progress::say(&format!("cannot delete the topics {}*: {error:#}", self.prefix)),
            Err(_) => progress::say(&format!("cannot delete the topics {}*", self.prefix)),
        }
    }
}
