//! Doubles for tests: a channel and a registry in memory, which fail when they are told to, and a raw HTTP client; and
//! the servers that nobody here wrote, where a machine has them.
//!
//! Not for production: nothing here is durable or bounded.

mod authenticator;
mod channel;
mod http;
#[cfg(test)]
mod log;
mod sent;
mod skip;
#[cfg(feature = "net")]
mod tls;

pub use authenticator::StaticAuthenticator;
pub use channel::MemoryChannel;
pub use http::{HttpClient, HttpResponse};
#[cfg(test)]
pub(crate) use log::Logged;
pub use sent::MemorySentCommands;
pub use skip::{postgres, skip};
#[cfg(feature = "net")]
pub use tls::tls;

use std::sync::Arc;
use std::time::Duration;

use crate::channel::SourceError;
use crate::command::Command;
use crate::event::OCTET_STREAM;
use crate::id::{CommandName, DeviceKey};
use crate::service::{Clock, DeviceService, Limits, new_event_id};

/// How long a test waits for what must happen, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a condition holds.
///
/// # Panics
/// Panics with `what` if it does not hold within [`PATIENCE`].
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_async(what, async || condition()).await;
}

/// Waits until a condition holds that takes a wait to find out.
///
/// # Panics
/// Panics with `what` if it does not hold within [`PATIENCE`].
pub async fn eventually_async(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "waited in vain: {what}");
}

/// Waits on this thread until a condition holds.
///
/// # Panics
/// Panics with `what` if it does not hold within [`PATIENCE`].
pub fn eventually_blocking(what: &str, mut condition: impl FnMut() -> bool) {
    let clock = Clock::system();
    let deadline = clock.instant() + PATIENCE;
    while !condition() {
        assert!(clock.instant() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Makes a command for a device that expires [`PATIENCE`] from now.
pub fn command(device: &DeviceKey, name: CommandName, payload: &'static [u8]) -> Command {
    let now = Clock::system().wall();
    Command {
        id: new_event_id(now),
        device: device.clone(),
        name,
        expires: now.saturating_add(PATIENCE),
        kept: false,
        content_type: OCTET_STREAM.to_owned(),
        payload: payload.into(),
    }
}

/// Starts a device service over doubles.
///
/// # Errors
/// Fails if the channel was told to refuse subscriptions.
pub async fn device_service(
    channel: &MemoryChannel,
    authenticator: &StaticAuthenticator,
    sent: &MemorySentCommands,
    limits: Limits,
) -> Result<DeviceService, SourceError> {
    let (sink, authenticator) = (Arc::new(channel.clone()), Arc::new(authenticator.clone()));
    let sent = Arc::new(sent.clone());
    DeviceService::start(sink, channel, authenticator, sent, limits, Clock::system()).await
}
