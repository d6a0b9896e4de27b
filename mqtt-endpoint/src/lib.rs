//! The MQTT endpoint: devices publish telemetry, receive commands and reply to them over MQTT 3.1.1 and 5, plain or with TLS.
//!
//! # The way of a message
//!
//! `server` accepts a connection and hands it to `handshake`, which reads CONNECT and logs the device in. From then on
//! one task runs one `session`: it reads packets, hands telemetry and replies to the channel (`messages`; `topics` tells
//! them apart) and writes commands to the device (`connection`). `wire` translates packets to and from what the session knows (`packet`), by the thin
//! mappings `v3` and `v5`; `reply` holds every code that a device can be told, and `reason` the words for it.
//!
//! # What is taken of ntex-mqtt, and what is not
//!
//! The packets and codecs are ntex-mqtt's, connections and TLS are ntex's. Its servers (`v3::MqttServer`,
//! `v5::MqttServer`) are not used, because they break rules that this endpoint keeps:
//!
//! - They call the publish service of the first PUBLISH in flight at once and spawn a task for each further one. Which
//!   of these tasks reaches the channel first is up to the scheduler, and telemetry loses its order. Here PUBLISH is
//!   handed to the channel where it is decoded.
//! - They refuse a PUBLISH with the retain flag as soon as CONNACK says that nothing is retained.
//! - Their write buffer has no limit for PUBLISH at QoS 0, and a device that does not read but sends is kept without
//!   limit of time once back-pressure sets in. Here a command is written only below the high-water mark, and
//!   keep-alive goes on.
//! - 3.1.1 and 5 are two stacks of types, so that every rule would be written twice.
//! - A connection costs several services, buffers and tasks of its own.
//!
//! The codecs are used behind a guard (`frame`): they subtract lengths unchecked, and reserve what a length promises.
//!
//! # Invariants
//!
//! - PUBACK leaves only after the channel's acknowledgement, and PUBACKs leave in the order of the PUBLISH packets.
//! - Memory of a session is bounded: reading stops while too much is in flight, and commands are taken from their
//!   queue only when they can be written.
//! - A session is bound to the identity that logged in; a client id means something only within a device.

mod closing;
mod config;
mod connection;
mod frame;
mod handshake;
mod messages;
mod packet;
mod reason;
mod replies;
mod reply;
mod server;
mod session;
mod signal;
mod timer;
mod topics;
mod v3;
mod v5;
mod wire;

pub use config::Config;
pub use server::{Error, run};
