//! The application interface: commands to devices, the stream of their events, and the registry.
//!
//! The way of a request: [`run`] serves the routes; a handler asks `access` what the bearer of the token may do, reads
//! path, headers and parameters (`request` and [`common::web`]), and then talks to the channel or to the registry.
//! Whatever fails rises as one `ApiError`, which `reply` makes a problem. Beside it works the [`Tracker`], which follows
//! every command to its outcome.
//!
//! Invariants: the token is looked at before anything else; the application is the path's, and nothing is read or
//! written beyond it; without a right to an application its existence is not told; a command is accepted when the
//! channel has persisted it.

mod access;
mod applications;
mod commands;
mod config;
mod devices;
mod events;
mod import;
mod reply;
mod request;
#[cfg(test)]
mod tests;
mod tokens;
mod tracker;

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{Data, ServiceConfig, delete, get, post, put, resource};
use common::channel::{EventSink, EventSource};
use common::net::Listeners;
use common::registry::Registry;
use common::service::{Clock, Limits, Shutdown};
use common::web::{WebError, serve};
use tokio::sync::Semaphore;

pub use access::{Action, Identities, Identity, Reviewer, Right, Unreviewed};
pub use config::Config;
use reply::ApiError;
pub use tracker::{Tracker, TrackerError, TrackerSettings, Tracking};

/// What the endpoint works with. Only a `main` knows what is behind the traits.
#[derive(Clone)]
pub struct Backends {
    /// Takes commands.
    pub sink: Arc<dyn EventSink>,
    /// Hands out events.
    pub source: Arc<dyn EventSource>,
    /// Knows applications, devices and tokens.
    pub registry: Registry,
    /// Knows the bearers of the cluster's tokens, if they are let in.
    pub identities: Option<Identities>,
    /// Knows what becomes of commands. There is none where the channels are no logs: nothing is kept or told then.
    pub tracker: Option<Tracker>,
    /// Tells the time.
    pub clock: Clock,
    /// Limits on payloads, on how long the channel may take, and on how long a command lives.
    pub limits: Limits,
}

impl std::fmt::Debug for Backends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backends").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What all handlers share.
#[derive(Debug)]
struct Api {
    backends: Backends,
    /// One permit for each stream that may be open.
    streams: Arc<Semaphore>,
    max_streams: u16,
    max_import: usize,
    max_pending: u32,
    body_timeout: Duration,
    shutdown: Shutdown,
}

impl Api {
    /// Returns what knows of commands.
    ///
    /// # Errors
    /// Fails where the channels are no logs.
    fn tracker(&self) -> Result<&Tracker, ApiError> {
        self.backends.tracker.as_ref().ok_or(ApiError::NoLog)
    }
}

/// Serves the application interface until `shutdown`; then streams end, and requests within the grace time.
///
/// # Errors
/// Fails if the server's threads cannot be started.
pub async fn run(
    config: Config,
    listeners: Listeners,
    backends: Backends,
    shutdown: Shutdown,
) -> Result<(), WebError> {
    let api = Data::new(Api {
        backends,
        streams: Arc::new(Semaphore::new(config.api_max_streams.into())),
        max_streams: config.api_max_streams,
        max_import: usize::try_from(config.api_max_import).unwrap_or(usize::MAX),
        max_pending: config.max_pending,
        body_timeout: config.api_body_timeout,
        shutdown: shutdown.clone(),
    });
    let routes = move |app: &mut ServiceConfig| routes(app, &api);
    serve("api", config.web(), listeners, routes, shutdown, config.grace).await
}

fn routes(app: &mut ServiceConfig, api: &Data<Api>) {
    let application = resource("/v1/apps/{app}")
        .route(get().to(applications::show))
        .route(put().to(applications::put))
        .route(delete().to(applications::delete));
    let tokens =
        resource("/v1/apps/{app}/tokens").route(get().to(tokens::list)).route(post().to(tokens::create));
    let devices =
        resource("/v1/apps/{app}/devices").route(get().to(devices::list)).route(post().to(import::import));
    let device = resource("/v1/apps/{app}/devices/{device}")
        .route(get().to(devices::show))
        .route(put().to(devices::put))
        .route(delete().to(devices::delete));
    let token = resource("/v1/apps/{app}/tokens/{token}").route(delete().to(tokens::delete));
    let events = resource("/v1/apps/{app}/events").route(get().to(events::follow));
    // A name and an id look alike: what is sent to is a name, what is asked for is an id.
    let commands = resource("/v1/apps/{app}/devices/{device}/commands").route(get().to(commands::list));
    let command = resource("/v1/apps/{app}/devices/{device}/commands/{name}")
        .route(post().to(commands::submit))
        .route(get().to(commands::show))
        .route(delete().to(commands::cancel));
    let connection =
        resource("/v1/apps/{app}/devices/{device}/connection").route(get().to(commands::connection));
    app.app_data(api.clone()).service(resource("/v1/apps").route(get().to(applications::list))).service((
        application,
        tokens,
        token,
        devices,
        device,
        events,
        commands,
        command,
        connection,
    ));
}
