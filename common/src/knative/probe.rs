//! Whether commands arrive: this replica posts an event of its own to the channel, and waits for it to come.
//!
//! A Subscription is ready when the channel has it, whether or not its subscriber can be reached.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::KnativeError;
use super::hub::Hub;
use super::sink::Sink;
use super::subscriptions::Subscriptions;
use crate::channel::Channel;
use crate::event::{Event, OCTET_STREAM};
use crate::id::DeviceKey;
use crate::process::{Clock, Shutdown, new_event_id};

/// The `type` of the event that a replica posts to itself.
pub(super) const PROBE_TYPE: &str = "io.drogue.subscriber.probed.v1";

/// How often it is posted.
const PERIOD: Duration = Duration::from_secs(1);
/// For how long one that came says that others will.
const STALE: Duration = Duration::from_secs(4);
/// How long the first may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the Subscriptions are made anew while nothing comes.
const REPAIR: Duration = Duration::from_secs(10);
/// How often while all is well: of the channels that no command comes from, nothing else tells that one is missing.
const UPKEEP: Duration = Duration::from_secs(60);
/// How long that may take before it is looked again whether something comes.
const REPAIRING: Duration = Duration::from_secs(3);

/// Keeps the hub told of whether events arrive.
pub(super) struct Prober {
    pub(super) sink: Arc<Sink>,
    pub(super) hub: Arc<Hub>,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) clock: Clock,
}

impl Prober {
    /// Posts until the first has come.
    ///
    /// # Errors
    /// Fails if none comes in time.
    pub(super) async fn first(&self) -> Result<(), KnativeError> {
        let mut reason = String::new();
        let deadline = self.clock.instant() + PATIENCE;
        while self.clock.instant() < deadline {
            match self.post().await {
                Ok(()) => {
                    self.hub.set_live(true);
                    return Ok(());
                }
                Err(error) => reason = error,
            }
            tokio::time::sleep(PERIOD / 4).await;
        }
        let (channel, url) = (Channel::Commands, self.subscriptions.subscriber().to_string());
        Err(KnativeError::Silent { channel, url, waited: PATIENCE, reason })
    }

    /// Posts and judges until the shutdown. Now and then, and more often while nothing comes, the Subscriptions are made as
    /// they should be: somebody may have deleted them.
    pub(super) async fn run(self, shutdown: Shutdown) {
        let now = self.clock.instant();
        let (mut latest, mut next_repair) = (now, now + UPKEEP);
        while shutdown.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
            let Some(posted) = shutdown.run_until_cancelled(self.post()).await else { return };
            let now = self.clock.instant();
            if now.saturating_duration_since(latest) >= STALE && self.hub.is_live() {
                let reason = posted.as_ref().err().map_or("this process stood still", String::as_str);
                tracing::error!(
                    reason,
                    "commands do not arrive: what this replica posts to itself does not come"
                );
                self.hub.set_live(false);
                next_repair = now;
            }
            if posted.is_ok() {
                latest = now;
                if !self.hub.is_live() {
                    tracing::info!("commands arrive again");
                    self.hub.set_live(true);
                }
            }
            if next_repair <= now {
                next_repair = now + if self.hub.is_live() { UPKEEP } else { REPAIR };
                let repairing = tokio::time::timeout(REPAIRING, self.subscriptions.ensure());
                let Some(repaired) = shutdown.run_until_cancelled(repairing).await else { return };
                if let Ok(Err(error)) = repaired {
                    tracing::warn!(%error, "the replica's own Subscriptions cannot be made as they should be");
                }
            }
        }
    }

    /// Posts once, and waits until it has come. That is not waited for longer than it is of use.
    async fn post(&self) -> Result<(), String> {
        let posted = self.sink.publish(Channel::Commands, self.event());
        match tokio::time::timeout(STALE / 2, posted).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("it did not come in time".to_owned()),
        }
    }

    fn event(&self) -> Event {
        let now = self.clock.wall();
        Event {
            id: new_event_id(now),
            kind: PROBE_TYPE.into(),
            source: None,
            device: DeviceKey::all(),
            subject: "probe".to_owned(),
            time: now,
            content_type: OCTET_STREAM.into(),
            extensions: Vec::new(),
            data: Bytes::new(),
        }
    }
}
