//! The HTTP endpoint: devices POST telemetry, wait for commands in the response, and reply to them.
//!
//! The way of a message: `routes` reads a request into a login and telemetry, `common::service` publishes it and waits
//! for commands, `reply` makes the outcome a response, with several commands as a `batch`. `replies` reads what devices
//! say to commands. Connections, TLS, limits and the form of errors are
//! `common::web`'s.
//!
//! Invariants: 202 leaves only when the channel has the event; a body is read only of a device that is logged in; a
//! command is reported as delivered only when its payload was handed to a connection that was not known to be closed.
//!
//! HTTP/1.1 and 1.0. With `Expect: 100-continue` the body is asked for before the credentials are looked at; whatever
//! the client then sends is thrown away if they are wrong. A client that half-closes its connection gets no answer.

mod batch;
mod config;
mod credentials;
mod replies;
mod reply;
mod routes;
#[cfg(test)]
mod tests;

use actix_web::web::{Data, ServiceConfig};
use common::net::Listeners;
use common::service::{DeviceService, Shutdown};
use common::web::{WebError, serve};

pub use config::Config;
use routes::Endpoint;

/// Serves devices until `shutdown`, then ends their waits with the normal answer and returns within the grace time.
///
/// # Errors
/// Fails if the server cannot be started.
pub async fn run(
    config: Config,
    listeners: Listeners,
    service: DeviceService,
    shutdown: Shutdown,
) -> Result<(), WebError> {
    let endpoint = Data::new(Endpoint { service: service.clone(), body_timeout: config.http_body_timeout });
    let routes = move |app: &mut ServiceConfig| {
        app.app_data(endpoint.clone()).configure(routes::configure);
    };
    let server = serve("http", config.web(), listeners, routes, shutdown.clone(), config.grace);
    let end_waits = async {
        shutdown.cancelled().await;
        service.shut_down();
    };
    tokio::join!(server, end_waits).0
}
