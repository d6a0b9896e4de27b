//! The shell that every device endpoint shares: it gives the core a clock, a channel and a registry.
//!
//! An endpoint logs a device in ([`DeviceService::log_in`]), publishes what it sends ([`Session::publish`]), and hands
//! over the commands that come for it ([`Session::connect`], or [`Session::exchange`] for a request that waits). What
//! is the same for every protocol is here: limits, the order of wait and publish, outcomes, metrics.
//!
//! Which connection a command is for, all replicas read from the log: [`connections`](crate::connections). A replica
//! says there which connections it has, that it lives, and what it gives back; and in the channel of outcomes, what
//! became of the commands that its connections owned.
//!
//! Invariants: a wait is registered before its telemetry is published; no lock is held across an await; a guard that
//! is dropped undoes what it stands for; nothing is written to a device while others may take this replica for dead; what
//! becomes of a command that is owned here is said until the channel has it.

mod commands;
mod connection;
mod delivery;
mod devices;
mod error;
mod heartbeat;
mod meters;
mod reports;
mod session;
mod shards;
mod shared;
#[cfg(test)]
mod tests;

pub use crate::process::{Clock, Shutdown, new_event_id};
pub use connection::Connection;
pub use delivery::{Delivery, Overdue};
pub use devices::{DeviceService, Limits, Protocol};
pub use error::ServiceError;
pub use meters::TelemetryOutcome;
pub use session::Session;

use std::time::Duration;

use crate::channel::{Channel, EventSink, PublishError};
use crate::event::Event;

/// Publishes an event and waits at most `limit` for the channel's acknowledgement.
///
/// The event takes its place in the order when this is called.
pub fn publish(
    sink: &dyn EventSink,
    channel: Channel,
    event: Event,
    limit: Duration,
) -> impl Future<Output = Result<(), PublishError>> + Send + use<> {
    let acknowledged = sink.publish(channel, event);
    async move {
        let result = tokio::time::timeout(limit, acknowledged).await;
        result.unwrap_or(Err(PublishError::TimedOut(limit)))
    }
}
