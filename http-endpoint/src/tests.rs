//! The endpoint over real sockets, a channel and a registry in memory.

mod answers;
mod batches;
mod commands;
mod events;
mod limits;
mod replies;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::channel::{Channel, PublishError};
use common::id::DeviceKey;
use common::net::Listeners;
use common::service::{DeviceService, Limits, Shutdown};
use common::testing::{
    HttpClient, HttpResponse, MemoryChannel, MemorySentCommands, StaticAuthenticator, command,
    device_service, eventually,
};
use common::web::{PROBLEM_JSON, WebError};
use tokio::task::JoinHandle;

use crate::{Config, run};

/// An endpoint with one device, `d1` in the default application, whose password is `secret`.
struct TestEndpoint {
    address: SocketAddr,
    channel: MemoryChannel,
    devices: StaticAuthenticator,
    sent: MemorySentCommands,
    service: DeviceService,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), WebError>>,
}

impl TestEndpoint {
    async fn start() -> Self {
        Self::with(Limits::default(), Config::default()).await
    }

    async fn with(limits: Limits, config: Config) -> Self {
        let (channel, devices) = (MemoryChannel::new(), StaticAuthenticator::new());
        devices.set(&d1(), "secret");
        let sent = MemorySentCommands::new();
        let service = device_service(&channel, &devices, &sent, limits).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let listeners = Listeners { plain: Some(listener), tls: None };
        let task = tokio::spawn(run(config, listeners, service.clone(), shutdown.clone()));
        Self { address, channel, devices, sent, service, shutdown, task }
    }

    /// Sends a request on a connection of its own.
    async fn send(&self, request: impl AsRef<[u8]>) -> HttpClient {
        let mut client = HttpClient::connect(self.address).await.unwrap();
        client.send(request).await.unwrap();
        client
    }

    /// Sends a request and returns its answer.
    async fn ask(&self, request: impl AsRef<[u8]>) -> HttpResponse {
        self.send(request).await.response().await.unwrap()
    }

    /// Waits until the channel holds so many events of telemetry.
    async fn published(&self, count: usize) {
        eventually("telemetry is published", || self.channel.events(Channel::Telemetry).len() == count).await;
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn d1() -> DeviceKey {
    DeviceKey::from_bytes(b"default/d1").unwrap()
}

fn basic(user: &str, password: &str) -> String {
    format!("authorization: Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Makes a request of `d1` with the body `42`. `fields` are further header lines.
fn post(target: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let login = basic("d1", "secret");
    format!("POST {target} HTTP/1.1\r\nhost: x\r\n{login}\r\n{fields}content-length: 2\r\n\r\n42")
}

/// Asserts that a response is a problem.
fn assert_problem(response: &HttpResponse, status: u16) {
    assert_eq!(
        (response.status, response.header("content-type")),
        (status, Some(PROBLEM_JSON)),
        "{response:?}"
    );
    assert!(response.text().contains(&format!(r#""status":{status}"#)), "{response:?}");
}

fn unavailable() -> PublishError {
    PublishError::Unavailable("down".to_owned())
}

const SHORT: Duration = Duration::from_millis(200);
