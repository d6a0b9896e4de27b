//! What the mains share: options, logging, signals, exit codes, and the choice of adapters.
//!
//! A main parses its options ([`parse`]), and hands what it does to [`serve`], which sets up the process around it.
//! This is the only room of `common` that names adapters.
//!
//! Invariants: a configuration is checked whole before a port is bound, and a bad one exits with
//! [`EXIT_BAD_CONFIGURATION`]; nothing else exits with that code.

mod admin_token;
mod channel;
mod kafka;
mod knative;
mod limits;
mod logging;
mod process;
mod registry;
mod replica;
mod secret;
mod services;
mod tls;

pub use admin_token::AdminTokenOptions;
pub use channel::{ChannelOptions, Channels, RetentionOptions, open_channels};
pub use kafka::KafkaOptions;
pub use knative::{ChannelUrl, KnativeOptions, Role};
pub use limits::LimitOptions;
pub use logging::LogOptions;
pub use process::{
    BadConfiguration, EXIT_BAD_CONFIGURATION, parse, raise_descriptor_limit, report, serve, serve_within,
};
pub use registry::{RegistryOptions, open_registry};
pub use replica::{Replica, ReplicaOptions, serve_replica};
pub use services::Services;
pub use tls::TlsOptions;
