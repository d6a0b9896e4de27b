//! The choice of the channel's adapter.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::BadConfiguration;
use crate::channel::{EventSink, EventSource};
use crate::embedded::{EmbeddedLog, LogSettings};
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
    #[arg(long, env = "DROGUE_EMBEDDED_LOG", value_name = "FILE")]
    pub embedded_log: Option<PathBuf>,

    /// How much the log keeps.
    #[command(flatten)]
    pub retention: RetentionOptions,
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

/// The two ends of the channels.
pub type Channels = (Arc<dyn EventSink>, Arc<dyn EventSource>);

impl ChannelOptions {
    /// Chooses the embedded log in a file.
    pub fn embedded(file: PathBuf, retention: RetentionOptions) -> Self {
        Self { embedded_log: Some(file), retention }
    }

    /// Tells whether a channel was chosen.
    pub(super) fn is_chosen(&self) -> bool {
        self.embedded_log.is_some()
    }
}

/// Opens the chosen channel.
///
/// # Errors
/// Fails if none was chosen, or says why it cannot be opened.
pub async fn open_channels(options: &ChannelOptions, clock: Clock) -> anyhow::Result<Channels> {
    let Some(file) = options.embedded_log.clone() else {
        return Err(BadConfiguration("no channel was chosen (option --embedded-log)".to_owned()).into());
    };
    let settings = LogSettings {
        retention_age: options.retention.log_retention_age,
        retention_size: options.retention.log_retention_size,
        ..LogSettings::default()
    };
    let open = move || EmbeddedLog::open(&file, settings, clock);
    let log = tokio::task::spawn_blocking(open).await.context("cannot start a thread for the log")??;
    let log = Arc::new(log);
    Ok((log.clone(), log))
}
