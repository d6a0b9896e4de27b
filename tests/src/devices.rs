//! Devices: one way to play them, whatever their protocol.

mod http;
mod mqtt;

pub use http::HttpDevice;
pub use mqtt::MqttDevice;

use std::time::Duration;

use bytes::Bytes;

use crate::cloud::Gate;
use crate::tenant::Device;

/// A command as a device received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its payload.
    pub payload: Bytes,
}

/// Says how telemetry was refused, as far as all protocols tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The device was not let in.
    Login,
    /// The device was let in, but its message was not accepted. Says how, in the protocol's words.
    Message(String),
}

/// Plays a device over one protocol.
pub trait DeviceDriver: Copy + Send + Sync + 'static {
    /// The name of the protocol, for messages.
    const NAME: &'static str;

    /// Publishes telemetry once and waits until it is accepted, which means persisted.
    fn publish(
        self,
        gate: Gate,
        device: &Device,
        subject: &str,
        payload: &[u8],
    ) -> impl Future<Output = Result<(), Refused>> + Send;

    /// Becomes reachable for commands, then publishes telemetry, and waits up to `wait` for one command.
    ///
    /// Dropping the future closes the connection as a device does that loses its network.
    fn exchange(
        self,
        gate: Gate,
        device: &Device,
        subject: &str,
        payload: &[u8],
        wait: Duration,
    ) -> impl Future<Output = Result<Option<Command>, Refused>> + Send;

    /// Replies to a command with a status and a payload of JSON, and waits until that is accepted.
    ///
    /// Over MQTT 3.1.1 a reply that is not accepted is acknowledged all the same.
    fn reply(
        self,
        gate: Gate,
        device: &Device,
        command: &str,
        status: u16,
        payload: &[u8],
    ) -> impl Future<Output = Result<(), Refused>> + Send;
}
