//! Device endpoints in this process, over a channel and a registry that fail when they are told to.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use common::id::DeviceKey;
use common::net::{Listen, Listeners};
use common::service::{Clock, DeviceService, Limits, Shutdown};
use common::testing::{MemoryChannel, MemorySentCommands, StaticAuthenticator};

use crate::cloud::Gate;
use crate::secrets;
use crate::tenant::Device;

/// The application of all devices here.
const APP: &str = "faults";

/// The endpoints of one replica, with everything around them in memory.
#[derive(Debug)]
pub struct Endpoints {
    /// The channel that they publish to.
    pub channel: MemoryChannel,
    /// The registry that they ask.
    pub registry: StaticAuthenticator,
    /// The shell that they share.
    pub service: DeviceService,
    gate: Gate,
    shutdown: Shutdown,
}

impl Endpoints {
    /// Starts them with default limits.
    pub async fn start() -> Self {
        Self::start_with(Limits::default(), Clock::system()).await
    }

    /// Starts them over a channel and a registry of their own.
    pub async fn start_with(limits: Limits, clock: Clock) -> Self {
        Self::over(MemoryChannel::new(), StaticAuthenticator::new(), limits, clock).await
    }

    /// Starts them over a channel and a registry that other replicas may share.
    ///
    /// # Panics
    /// Panics if they do not start.
    pub async fn over(
        channel: MemoryChannel,
        registry: StaticAuthenticator,
        limits: Limits,
        clock: Clock,
    ) -> Self {
        let (sink, authenticator) = (Arc::new(channel.clone()), Arc::new(registry.clone()));
        let sent = Arc::new(MemorySentCommands::new());
        let service = DeviceService::start(sink, &channel, authenticator, sent, limits, clock).await;
        let service = service.expect("a channel in memory can be subscribed to");
        let shutdown = Shutdown::new();
        let (http, at_http) = listener();
        let (mqtt, at_mqtt) = listener();
        serve(http, mqtt, service.clone(), shutdown.clone());
        Self { channel, registry, service, gate: Gate { http: at_http, mqtt: at_mqtt }, shutdown }
    }

    /// Returns where devices connect.
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// Makes a device.
    ///
    /// # Panics
    /// Panics never: the name is an id.
    pub fn device(&self) -> Device {
        let device = Device { app: APP.to_owned(), name: secrets::unique(), secret: secrets::password() };
        self.registry.set(&key(&device), &device.secret);
        device
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Serves on a thread of its own, as a `main` does: the endpoints' futures are not sent between threads.
fn serve(http: Listeners, mqtt: Listeners, service: DeviceService, shutdown: Shutdown) {
    let http_config = http_endpoint::Config::default();
    let mqtt_config = mqtt_endpoint::Config::default();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime starts").block_on(async {
            let http = http_endpoint::run(http_config, http, service.clone(), shutdown.clone());
            let mqtt = mqtt_endpoint::run(mqtt_config, mqtt, service, shutdown);
            let (http, mqtt) = tokio::join!(http, mqtt);
            http.expect("the HTTP endpoint serves");
            mqtt.expect("the MQTT endpoint serves");
        });
    });
}

/// Returns the key of a device.
///
/// # Panics
/// Panics if its name is no id.
pub fn key(device: &Device) -> DeviceKey {
    DeviceKey::from_bytes(format!("{}/{}", device.app, device.name).as_bytes()).expect("names are ids")
}

/// Limits under which a publish that is not acknowledged fails soon.
pub fn impatient() -> Limits {
    Limits { publish_timeout: Duration::from_millis(500), ..Limits::default() }
}

fn listener() -> (Listeners, SocketAddr) {
    let any = Listen::At(([127, 0, 0, 1], 0).into());
    let plain: Option<TcpListener> = any.bind("--listen").expect("a free port");
    let address = plain.as_ref().and_then(|listener| listener.local_addr().ok());
    (Listeners { plain, tls: None }, address.expect("a bound listener has an address"))
}
