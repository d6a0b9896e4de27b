//! The choice of the channel's adapter.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::knative::{Checked, KnativeOptions};
use super::{BadConfiguration, KafkaOptions, LimitOptions};
use crate::BoxFuture;
use crate::channel::{EventSink, EventSource};
use crate::embedded::{EmbeddedLog, LogSettings};
use crate::error::ErrorKind;
use crate::kafka::{KafkaChannels, KafkaSettings};
use crate::knative::{KnativeChannels, Reading};
use crate::service::Clock;
use crate::time::parse_duration;

/// Where events are kept.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Channel")]
pub struct ChannelOptions {
    /// Keep events in a log of this process alone, in this file (SQLite, made when missing).
    ///
    /// For trying one endpoint by itself: no other process can read the log or write to it.
    #[arg(
        long,
        env = "DROGUE_EMBEDDED_LOG",
        value_name = "FILE",
        conflicts_with = "kafka_bootstrap_servers"
    )]
    pub embedded_log: Option<PathBuf>,

    /// How much the log keeps.
    #[command(flatten)]
    pub retention: RetentionOptions,

    /// The cluster that keeps events for many processes.
    #[command(flatten)]
    pub kafka: KafkaOptions,
}

/// How much the embedded log keeps.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Embedded log")]
pub struct RetentionOptions {
    /// Events older than this are deleted from the embedded log.
    #[arg(
        long,
        env = "DROGUE_LOG_RETENTION_AGE",
        value_name = "DURATION",
        default_value = "7d",
        value_parser = parse_duration
    )]
    pub log_retention_age: Duration,

    /// The oldest events are deleted while the embedded log is larger.
    #[arg(long, env = "DROGUE_LOG_RETENTION_SIZE", value_name = "BYTES", default_value = "1073741824")]
    pub log_retention_size: u64,
}

/// The channels of a process.
#[derive(Clone)]
pub struct Channels {
    /// Takes events.
    pub sink: Arc<dyn EventSink>,
    /// Hands out events.
    pub source: Arc<dyn EventSource>,
    /// Events have positions in them: they can be read again, and their readers can agree on an order.
    pub are_logs: bool,
    reachable: Arc<dyn Fn() -> bool + Send + Sync>,
    close: Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Channels {
    fn of<A: EventSink + EventSource + 'static>(
        adapter: A,
        reachable: impl Fn(&A) -> bool + Send + Sync + 'static,
    ) -> Self {
        let adapter = Arc::new(adapter);
        let (sink, source) = (adapter.clone(), adapter.clone());
        let close = Arc::new(|| -> BoxFuture<'static, ()> { Box::pin(async {}) });
        Self { sink, source, are_logs: true, reachable: Arc::new(move || reachable(&adapter)), close }
    }

    /// Tells whether the channels take events and hand them out.
    pub fn are_reachable(&self) -> bool {
        (self.reachable)()
    }

    /// Leaves nothing of this process behind in the channels: the last thing that it does.
    pub async fn close(&self) {
        (self.close)().await;
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channels")
    }
}

impl ChannelOptions {
    /// Chooses Kafka if its brokers are given, and else the embedded log in a file.
    pub fn kafka_or_file(kafka: KafkaOptions, file: PathBuf, retention: RetentionOptions) -> Self {
        let embedded_log = kafka.kafka_bootstrap_servers.is_none().then_some(file);
        Self { embedded_log, retention, kafka }
    }

    /// Tells whether a channel was chosen.
    pub(super) fn is_chosen(&self) -> bool {
        self.embedded_log.is_some() || self.kafka.kafka_bootstrap_servers.is_some()
    }

    /// Checks what can be known before a channel is opened.
    ///
    /// # Errors
    /// Names the option that is bad.
    pub fn check(&self, limits: &LimitOptions) -> Result<(), BadConfiguration> {
        self.kafka.settings(limits).map(drop)
    }
}

/// Opens the chosen channel.
///
/// # Errors
/// Fails if none was chosen, or says why it cannot be opened.
pub async fn open_channels(
    options: &ChannelOptions,
    limits: &LimitOptions,
    clock: Clock,
) -> anyhow::Result<Channels> {
    if let Some(settings) = options.kafka.settings(limits)? {
        return open_kafka(settings, clock).await;
    }
    let Some(file) = options.embedded_log.clone() else {
        return Err(
            BadConfiguration("no channel was chosen (option --kafka-bootstrap-servers)".to_owned()).into()
        );
    };
    let settings = LogSettings {
        retention_age: options.retention.log_retention_age,
        retention_size: options.retention.log_retention_size,
        ..LogSettings::default()
    };
    let open = move || EmbeddedLog::open(&file, settings, clock);
    let log = tokio::task::spawn_blocking(open).await.context("cannot start a thread for the log")??;
    Ok(Channels::of(log, |_| true))
}

async fn open_kafka(settings: KafkaSettings, clock: Clock) -> anyhow::Result<Channels> {
    let servers = settings.bootstrap_servers.clone();
    let opened = KafkaChannels::open(settings, clock).await;
    let kafka = opened.map_err(|error| {
        let is_bad = error.kind() == ErrorKind::Invalid;
        if is_bad { BadConfiguration(error.to_string()).into() } else { anyhow::Error::from(error) }
    })?;
    tracing::info!(servers, "the channels are on Kafka");
    Ok(Channels::of(kafka, KafkaChannels::is_reachable))
}

/// Opens the channels on Knative.
///
/// # Errors
/// Says why they cannot be opened.
pub(super) async fn open_knative(
    options: KnativeOptions,
    checked: Checked,
    kafka: &KafkaOptions,
    limits: &LimitOptions,
    clock: Clock,
) -> anyhow::Result<Channels> {
    let kafka = kafka.settings(limits)?;
    let cluster = options.cluster().await?;
    let settings = options.settings(checked, kafka, limits)?;
    let are_logs = matches!(settings.reading, Reading::Topics(_));
    tracing::info!(?cluster, "the channels are on Knative");
    let knative = KnativeChannels::open(settings, &cluster, clock).await?;
    let closing = knative.clone();
    let close = move || -> BoxFuture<'static, ()> {
        let closing = closing.clone();
        Box::pin(async move { closing.close().await })
    };
    let channels = Channels::of(knative, KnativeChannels::is_reachable);
    Ok(Channels { are_logs, close: Arc::new(close), ..channels })
}
