//! The server: threads, listeners, limits on connections, and the shutdown.
//!
//! ntex has its own runtime: worker threads with a tokio runtime each, on which connections stay for life. It runs on
//! a thread of its own beside the caller's runtime; between the two only wakers and channels of tokio cross.

use std::io;
use std::sync::Arc;

use common::net::Listeners;
use common::service::{DeviceService, Shutdown};
use metrics::{Counter, Gauge, counter, gauge};
use ntex::io::{Io, IoBoxed, IoConfig};
use ntex::rt::{DefaultRuntime, System};
use ntex::server::ServerBuilder;
use ntex::service::cfg::SharedCfg;
use ntex::service::{Service, ServiceCtx, fn_factory};
use ntex::time::{Millis, Seconds};
use ntex_tls::rustls::TlsServerFilter;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::handshake;

/// What a packet may have beside its payload: topic and properties.
const PACKET_HEAD: u32 = 8 * 1024;

/// What all connections share.
pub(crate) struct Endpoint {
    pub(crate) config: Config,
    pub(crate) service: DeviceService,
    pub(crate) shutdown: Shutdown,
    /// The longest packet that a device may send, in bytes.
    pub(crate) max_packet_size: u32,
    tls_handshakes: Semaphore,
    connections: TaskTracker,
    open: Gauge,
    refused: Counter,
}

/// Says why the endpoint cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to listen on.
    #[error("MQTT has no listener; give it at least one address")]
    NoListener,
    /// The server's threads cannot be started.
    #[error("cannot start the MQTT server: {0}")]
    Start(#[source] io::Error),
    /// The server's threads ended without having been told to.
    #[error("the MQTT server stopped unexpectedly")]
    Stopped,
}

/// Serves MQTT until `shutdown` is cancelled, and ends within [`Config::grace`] of that.
///
/// Sessions are then told that the server shuts down (MQTT 5: 0x8B) once the channel has answered what they sent.
///
/// # Errors
/// Fails if there is no listener or the server's threads cannot run.
pub async fn run(
    config: Config,
    listeners: Listeners,
    service: DeviceService,
    shutdown: Shutdown,
) -> Result<(), Error> {
    if listeners.plain.is_none() && listeners.tls.is_none() {
        return Err(Error::NoListener);
    }
    let grace = config.grace;
    let endpoint = Arc::new(Endpoint::new(config, service, shutdown));
    let (ended, mut stopped) = oneshot::channel();
    let serving = endpoint.clone();
    let serve = move || {
        // Nobody listens if `run` was dropped.
        drop(ended.send(serve(serving, listeners)));
    };
    std::thread::Builder::new().name("mqtt".to_owned()).spawn(serve).map_err(Error::Start)?;
    tokio::select! {
        () = endpoint.shutdown.cancelled() => {}
        result = &mut stopped => return Err(result.ok().and_then(Result::err).map_or(Error::Stopped, Error::Start)),
    }
    match tokio::time::timeout(grace, stopped).await {
        Ok(result) => result.map_err(|_| Error::Stopped)?.map_err(Error::Start),
        Err(_) => {
            tracing::warn!(open = endpoint.connections.len(), "connections did not end in the grace time");
            Ok(())
        }
    }
}

/// Runs the server on this thread until the shutdown, and ends its sessions.
fn serve(endpoint: Arc<Endpoint>, listeners: Listeners) -> io::Result<()> {
    // Pings find blocked threads by waking them every two seconds, idle or not.
    let system = System::build().name("mqtt").ping_interval(0).build(DefaultRuntime);
    system.block_on(async move {
        let server = build(endpoint.clone(), listeners)?.run();
        let failed = server.clone();
        tokio::select! {
            () = endpoint.shutdown.cancelled() => {}
            result = failed => return result,
        }
        endpoint.service.shut_down();
        server.stop(true).await;
        Ok(())
    })
}

fn build(endpoint: Arc<Endpoint>, listeners: Listeners) -> io::Result<ServerBuilder> {
    let config = &endpoint.config;
    let mut builder = ntex::server::build()
        .name("mqtt")
        .disable_signals()
        // Connections are limited in all, not by worker: see `Endpoint::admit`.
        .maxconn(config.max_connections.saturating_add(1))
        .shutdown_timeout(Millis::from(config.grace));
    if let Some(workers) = config.mqtt_workers {
        builder = builder.workers(workers.into());
    }
    let io = || SharedCfg::new("mqtt").add(IoConfig::new().set_disconnect_timeout(Seconds(1))).build();
    if let Some(listener) = listeners.plain {
        let endpoint = endpoint.clone();
        let factory = async move |_| {
            let endpoint = endpoint.clone();
            fn_factory(async move || Ok::<_, ()>(Plain(endpoint.clone())))
        };
        builder = builder.listen("mqtt", listener, factory)?.config("mqtt", io());
    }
    if let Some((listener, tls)) = listeners.tls {
        let factory = async move |_| {
            let (endpoint, tls) = (endpoint.clone(), tls.clone());
            fn_factory(async move || Ok::<_, ()>(Tls { endpoint: endpoint.clone(), tls: tls.clone() }))
        };
        builder = builder.listen("mqtts", listener, factory)?.config("mqtts", io());
    }
    Ok(builder)
}

impl Endpoint {
    fn new(config: Config, service: DeviceService, shutdown: Shutdown) -> Self {
        let payload = u32::try_from(service.limits().max_payload).unwrap_or(u32::MAX);
        let max_packet_size = payload.saturating_add(PACKET_HEAD).min(0x0fff_ffff);
        Self {
            max_packet_size: config.mqtt_max_packet_size.unwrap_or(max_packet_size),
            tls_handshakes: Semaphore::new(config.mqtt_max_tls_handshakes.into()),
            connections: TaskTracker::new(),
            open: gauge!("drogue_open_connections", "server" => "mqtt"),
            refused: counter!("drogue_connections_refused_total", "server" => "mqtt"),
            config,
            service,
            shutdown,
        }
    }

    /// Counts a connection, unless there are as many as may be.
    fn admit(self: &Arc<Self>) -> Option<Admission> {
        if self.connections.len() >= self.config.max_connections {
            self.refused.increment(1);
            tracing::debug!("connection refused: there are as many as --max-connections allows");
            return None;
        }
        self.open.increment(1);
        Some(Admission { endpoint: self.clone(), _token: self.connections.token() })
    }

    /// Waits until the connections have ended.
    async fn ended(&self) {
        self.connections.close();
        self.connections.wait().await;
    }
}

/// Counts one connection while it lives.
struct Admission {
    endpoint: Arc<Endpoint>,
    _token: tokio_util::task::task_tracker::TaskTrackerToken,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.endpoint.open.decrement(1);
    }
}

/// Serves plain connections.
struct Plain(Arc<Endpoint>);

impl Service<Io> for Plain {
    type Response = ();
    type Error = ();

    async fn call(&self, io: Io, _: ServiceCtx<'_, Self>) -> Result<(), ()> {
        let Some(_admission) = self.0.admit() else { return Ok(()) };
        handshake::serve(self.0.clone(), IoBoxed::from(io)).await;
        Ok(())
    }

    async fn shutdown(&self) {
        self.0.ended().await;
    }
}

/// Serves TLS connections.
///
/// ntex's `TlsAcceptor` is not used: when it has as many handshakes as it may, it stops the accepting of all
/// listeners, so that a few hundred connections that say nothing would keep everybody out.
struct Tls {
    endpoint: Arc<Endpoint>,
    tls: Arc<rustls::ServerConfig>,
}

impl Service<Io> for Tls {
    type Response = ();
    type Error = ();

    async fn call(&self, io: Io, _: ServiceCtx<'_, Self>) -> Result<(), ()> {
        let Some(_admission) = self.endpoint.admit() else { return Ok(()) };
        let limit = self.endpoint.config.mqtt_connect_timeout;
        // Boxed apart, like the handshake of MQTT.
        let handshake = Box::pin(async {
            let _permit = self.endpoint.tls_handshakes.acquire().await.ok()?;
            TlsServerFilter::create(io, self.tls.clone(), Millis::from(limit)).await.ok()
        });
        let io = tokio::select! {
            io = tokio::time::timeout(limit, handshake) => io.ok().flatten(),
            () = self.endpoint.shutdown.cancelled() => None,
        };
        if let Some(io) = io {
            handshake::serve(self.endpoint.clone(), IoBoxed::from(io)).await;
        }
        Ok(())
    }

    async fn shutdown(&self) {
        self.endpoint.ended().await;
    }
}
