//! An HTTP server over listeners that are already bound.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::web::ServiceConfig;
use metrics::gauge;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use super::front::Front;
use crate::net::Listeners;
use crate::process::Shutdown;

/// Limits of an HTTP server.
#[derive(Debug, Clone)]
pub struct WebConfig {
    /// Threads that serve; by default one for each processor.
    pub workers: Option<NonZeroUsize>,
    /// The most connections at once, on all listeners together. Further ones wait to be accepted.
    pub max_connections: usize,
    /// How long a TLS handshake may take.
    pub tls_timeout: Duration,
    /// How long a request's head may take, from the connection or from its first byte.
    pub head_timeout: Duration,
    /// How long a connection may be silent between two requests.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of a response, before its connection is dropped.
    pub write_timeout: Duration,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            workers: None,
            max_connections: 100_000,
            tls_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
        }
    }
}

/// Says why a server cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// A thread or a socket is not to be had.
    #[error("the {name} server cannot go on: {source}")]
    Io {
        /// Which server.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The recorder of metrics is installed already.
    #[error("metrics cannot be recorded: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// Serves `routes` until `shutdown`, then stops accepting, lets requests end for at most `grace`, and returns.
///
/// A handler that still waits after three quarters of `grace` is dropped, and its request answered 503 in the rest.
///
/// `routes` is called once for each worker and listener. Errors that routing and extractors find are problems.
///
/// # Errors
/// Fails if the threads cannot be started.
pub async fn serve<R>(
    name: &'static str,
    config: WebConfig,
    listeners: Listeners,
    routes: R,
    shutdown: Shutdown,
    grace: Duration,
) -> Result<(), WebError>
where
    R: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    if listeners.plain.is_none() && listeners.tls.is_none() {
        shutdown.cancelled().await;
        return Ok(());
    }
    let failed = |source| WebError::Io { name, source };
    let give_up = Shutdown::new();
    let mut server = build(name, config, listeners, routes, grace, &give_up).map_err(failed)?;
    let handle = server.handle();
    tokio::select! {
        result = &mut server => return result.map_err(failed),
        () = shutdown.cancelled() => {}
    }
    let drain = async { tokio::join!(handle.stop(true), &mut server).1 };
    tokio::pin!(drain);
    let quarter = grace / 4;
    if let Ok(result) = tokio::time::timeout(quarter * 3, &mut drain).await {
        return result.map_err(failed);
    }
    give_up.cancel();
    match tokio::time::timeout(quarter, drain).await {
        Ok(result) => result.map_err(failed),
        // Dropping the server ends what is left of its connections.
        Err(_) => {
            tracing::warn!(name, ?grace, "requests were cut off, they did not end within the grace time");
            Ok(())
        }
    }
}

fn build<R>(
    name: &'static str,
    config: WebConfig,
    listeners: Listeners,
    routes: R,
    grace: Duration,
    give_up: &Shutdown,
) -> io::Result<Server>
where
    R: Fn(&mut ServiceConfig) + Clone + Send + 'static,
{
    let workers = config.workers.map_or_else(available_parallelism, Ok).map_or(1, NonZeroUsize::get);
    let mut builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(config.max_connections.div_ceil(workers))
        // `serve` keeps to the grace time exactly; this one only must not be shorter.
        .shutdown_timeout(grace.as_secs() + 1)
        .disable_signals();
    let drain = builder.graceful_shutdown_signal();
    let open = gauge!("drogue_open_connections", "server" => name);
    let front = Front { config, routes, drain, give_up: give_up.clone(), open };
    if let Some(listener) = listeners.plain {
        let front = front.clone();
        builder = builder.listen(name, listener, move || front.plain())?;
    }
    if let Some((listener, tls)) = listeners.tls {
        let tls = with_alpn(&tls);
        builder = builder.listen(format!("{name}-tls"), listener, move || front.tls(tls.clone()))?;
    }
    Ok(builder.run())
}

/// Offers HTTP/1.1 and nothing else.
fn with_alpn(tls: &ServerConfig) -> TlsAcceptor {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(tls))
}
