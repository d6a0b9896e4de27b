//! Follows the connections of devices: one stream for each application.
//!
//! A record only says that there is something new about a device; how it can be reached, the interface is asked. So a
//! record that is missed is not lost for long, and the order of two does not matter.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::id::AppId;
use futures_util::StreamExt;
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use reqwest::StatusCode;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::context::uid;
use super::error::ControllerError;
use super::memory::Memory;
use super::registry::Registry;
use super::resources::{Application, Device};
use crate::client::sse::{Decoder, SILENCE};

/// How often the devices that have news are looked at, and with that, how often the status of one changes at most.
const COLLECTED: Duration = Duration::from_secs(1);
/// How soon to ask again for what the channel cannot do.
const UNSUPPORTED: Duration = Duration::from_secs(300);
/// What the types of connection records begin with.
const RECORD: &str = "io.drogue.connection.";

/// The streams that are followed.
pub(super) struct Followers {
    running: Mutex<HashMap<ObjectRef<Application>, Following>>,
    registry: Registry,
    memory: Arc<Memory>,
    devices: Store<Device>,
    nudges: mpsc::Sender<ObjectRef<Device>>,
}

/// Ends with the entry.
struct Following(AbortHandle);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Followers {
    pub(super) fn new(
        registry: Registry,
        memory: Arc<Memory>,
        devices: Store<Device>,
        nudges: mpsc::Sender<ObjectRef<Device>>,
    ) -> Self {
        Self { running: Mutex::default(), registry, memory, devices, nudges }
    }

    /// Follows the devices of an application, if that is not done already.
    pub(super) fn follow(&self, application: &Application, app: &AppId) {
        self.running().entry(ObjectRef::from_obj(application)).or_insert_with(|| {
            let follower = Follower {
                app: app.clone(),
                namespace: application.namespace(),
                registry: self.registry.clone(),
                memory: self.memory.clone(),
                devices: self.devices.clone(),
                nudges: self.nudges.clone(),
            };
            Following(tokio::spawn(follower.run()).abort_handle())
        });
    }

    /// Follows the devices of an application no longer.
    pub(super) fn leave(&self, application: &Application) {
        self.running().remove(&ObjectRef::from_obj(application));
    }

    fn running(&self) -> MutexGuard<'_, HashMap<ObjectRef<Application>, Following>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of an event matters here.
#[derive(Debug, Deserialize)]
struct Record {
    #[serde(rename = "type")]
    kind: String,
    device: String,
}

struct Follower {
    app: AppId,
    namespace: Option<String>,
    registry: Registry,
    memory: Arc<Memory>,
    devices: Store<Device>,
    nudges: mpsc::Sender<ObjectRef<Device>>,
}

impl Follower {
    async fn run(self) {
        let mut failures = 0;
        loop {
            let mut opened = false;
            let error = self.follow(&mut opened).await;
            failures = if opened { 0 } else { failures + 1 };
            tracing::warn!(application = %self.app, %error, "the connections of devices are not followed for now");
            let unsupported = error.status() == Some(StatusCode::NOT_IMPLEMENTED);
            tokio::time::sleep(if unsupported { UNSUPPORTED } else { error.pause(failures) }).await;
        }
    }

    /// Reads the stream until it breaks.
    async fn follow(&self, opened: &mut bool) -> ControllerError {
        let mut pieces = match self.registry.records(&self.app).await {
            Ok(response) => response.bytes_stream(),
            Err(error) => return error,
        };
        *opened = true;
        // What was before, nobody told.
        self.nudge(|_| true, true).await;
        let (mut decoder, mut news, mut quiet) = (Decoder::default(), BTreeSet::new(), Duration::ZERO);
        let mut collected = interval(COLLECTED);
        collected.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                piece = pieces.next() => match piece {
                    Some(Ok(piece)) => {
                        quiet = Duration::ZERO;
                        news.extend(decoder.push(&piece).iter().filter_map(|message| device_of(&message.data)));
                    }
                    Some(Err(error)) => return broken(&error.to_string()),
                    None => return broken("the server closed it"),
                },
                _ = collected.tick() => {
                    quiet += COLLECTED;
                    if quiet > SILENCE {
                        return broken("the server is silent");
                    }
                    let news = std::mem::take(&mut news);
                    if !news.is_empty() {
                        self.nudge(|device| news.contains(device.id()), false).await;
                    }
                }
            }
        }
    }

    /// Has devices looked at.
    async fn nudge(&self, chosen: impl Fn(&Device) -> bool, missed: bool) {
        let ours = |device: &Device| {
            device.spec.application == self.app.as_str()
                && device.namespace() == self.namespace
                && chosen(device)
        };
        for device in self.devices.state_filter(ours) {
            if missed {
                self.memory.unsee(uid(&*device));
            }
            // The other end is gone only when the process ends.
            drop(self.nudges.send(ObjectRef::from_obj(&*device)).await);
        }
    }
}

fn device_of(event: &str) -> Option<String> {
    let record: Record = serde_json::from_str(event).ok()?;
    record.kind.starts_with(RECORD).then_some(record.device)
}

fn broken(why: &str) -> ControllerError {
    ControllerError::Unreachable(format!("the stream of records broke off: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_connections_tell_of_a_device() {
        let event =
            |kind: &str| format!(r#"{{"specversion":"1.0","type":"{kind}","device":"d1","data":{{}}}}"#);
        assert_eq!(device_of(&event("io.drogue.connection.connected.v1")).as_deref(), Some("d1"));
        assert_eq!(device_of(&event("io.drogue.connection.disconnected.v1")).as_deref(), Some("d1"));
        assert_eq!(device_of(&event("io.drogue.command.v1")), None);
        assert_eq!(device_of("no event"), None);
    }
}
