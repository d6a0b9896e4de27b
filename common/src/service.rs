//! The shell that every device endpoint shares: it gives the core a clock, a channel and a registry.
//!
//! An endpoint logs a device in ([`DeviceService::log_in`]), publishes what it sends ([`Session::publish`]), and hands
//! over the commands that come for it ([`Session::connect`], or [`Session::exchange`] for a request that waits). What
//! is the same for every protocol is here: limits, the order of wait and publish, outcomes, metrics.
//!
//! Invariants: a wait is registered before its telemetry is published; no lock is held across an await; a guard that
//! is dropped undoes what it stands for.

mod clock;
mod commands;
mod connection;
mod devices;
mod error;
mod meters;
mod session;
mod shards;
#[cfg(test)]
mod tests;

pub use clock::Clock;
pub use connection::{Connection, Delivery};
pub use devices::{DeviceService, Limits, Protocol};
pub use error::ServiceError;
pub use meters::TelemetryOutcome;
pub use session::Session;
pub use tokio_util::sync::CancellationToken as Shutdown;

use std::time::Duration;

use crate::channel::{Channel, EventSink, PublishError};
use crate::event::Event;
use crate::id::EventId;
use crate::time::Timestamp;

/// Makes a new event id: a UUIDv7 of the given time.
pub fn new_event_id(now: Timestamp) -> EventId {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    let time = uuid::Timestamp::from_unix(uuid::NoContext, millis / 1000, (millis % 1000) as u32 * 1_000_000);
    EventId::from_uuid(uuid::Uuid::new_v7(time))
}

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
