//! The device interface over MQTT, as a device meets it: packets on sockets, both versions of the protocol.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test, in its helpers too")]

mod attacks;
mod client;
mod commands;
mod connect;
mod endings;
mod fixture;
mod limits;
mod outcomes;
mod reasons;
mod replies;
mod resources;
mod telemetry;
mod tls;
