//! What all parts of the cloud share: the pure core, the shell around it, and the adapters.
//!
//! Without features this crate is the core: names, events, rules, state machines and the traits behind which channels
//! and the registry stand. It does no I/O and reads neither clock nor environment; time is an argument, effects are
//! values. The feature `service` adds the shell that every device endpoint shares; the other features are adapters.
//!
//! The way of a message: an endpoint maps the wire to [`ingest::Telemetry`], `service` makes it an [`event::Event`] and
//! hands it to an [`channel::EventSink`]. A command comes from an [`channel::EventSource`], is looked up by its key in
//! the [`connections::ConnectionTable`], and leaves through the endpoint that holds the connection.
//!
//! Invariants: a value of a type in [`id`] or [`subject`] is well formed; only `startup`, a `main` and tests name an adapter.

pub mod auth;
pub mod channel;
pub mod command;

pub mod connections;
pub mod device;
pub mod error;
pub mod event;
pub mod id;
pub mod ingest;
pub mod order;
pub mod outcome;
pub mod records;
pub mod replies;
pub mod sessions;
pub mod subject;
pub mod time;
pub mod tracker;

#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "knative")]
pub mod knative;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
#[cfg(feature = "registry")]
pub mod ledger;
#[cfg(feature = "net")]
pub mod net;
#[cfg(any(feature = "embedded", feature = "registry"))]
mod private_file;
#[cfg(feature = "process")]
pub mod process;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "service")]
pub mod service;
#[cfg(feature = "startup")]
pub mod startup;
#[cfg(any(feature = "testing", all(test, feature = "service")))]
pub mod testing;
#[cfg(feature = "web")]
pub mod web;

use std::pin::Pin;

/// A future that crosses a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
