//! A device that hangs up while it waits, plain and by TLS. A process of its own, as metrics are counted in it.
#![cfg(test)]

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use common::channel::Channel;
use common::id::DeviceKey;
use common::net::Listeners;
use common::service::{Limits, Shutdown};
use common::testing::{
    HttpClient, MemoryChannel, PATIENCE, StaticAuthenticator, command, device_service, eventually, tls,
};
use common::web::admin::install_metrics;
use http_endpoint::{Config, run};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// d1:secret
const LOGIN: &str = "authorization: Basic ZDE6c2VjcmV0";

fn post(target: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nhost: x\r\n{LOGIN}\r\ncontent-length: 2\r\n\r\n42")
}

#[tokio::test]
async fn a_command_for_a_device_that_hung_up_goes_to_nobody() {
    let metrics = install_metrics().unwrap();
    let (channel, devices) = (MemoryChannel::new(), StaticAuthenticator::new());
    let device = DeviceKey::from_bytes(b"default/d1").unwrap();
    devices.set(&device, "secret");
    // With one connection at most, a second request tells whether the first is still there.
    let limits = Limits { max_device_connections: 1, ..Limits::default() };
    let service = device_service(&channel, &devices, limits).await.unwrap();
    let (plain, secure) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (plain_address, tls_address) = (plain.local_addr().unwrap(), secure.local_addr().unwrap());
    let (server, client) = tls().unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let listeners = Listeners { plain: Some(plain), tls: Some((secure, server)) };
    let shutdown = Shutdown::new();
    let endpoint = tokio::spawn(run(Config::default(), listeners, service, shutdown.clone()));

    let send = || channel.send(command(&device, "set-temp".parse().unwrap(), b"40"));
    let count = |metric: &str| {
        let rendered = metrics.render();
        rendered.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse().ok()).unwrap_or(0)
    };
    for round in 1..=2 {
        let socket = TcpStream::connect(plain_address).await.unwrap();
        wait_and_hang_up(socket, &channel, plain_address).await;
        send();
        assert_eq!(count("drogue_commands_foreign_total"), 2 * round - 1);

        let socket = TcpStream::connect(tls_address).await.unwrap();
        let socket = connector.connect(ServerName::try_from("localhost").unwrap(), socket).await.unwrap();
        wait_and_hang_up(socket, &channel, plain_address).await;
        send();
        assert_eq!(count("drogue_commands_foreign_total"), 2 * round);
    }
    assert!(!metrics.render().contains("drogue_commands_total{"), "{}", metrics.render());

    // Who stays gets it, and only then it counts as delivered.
    let mut client = wait_on(TcpStream::connect(plain_address).await.unwrap(), &channel).await;
    send();
    assert_eq!(client.response().await.unwrap().text(), "40");
    let delivered = r#"drogue_commands_total{state="delivered",detail="written"}"#;
    eventually("it is counted", || count(delivered) == 1).await;
    shutdown.cancel();
    endpoint.await.unwrap().unwrap();
}

/// Lets `d1` wait on a connection.
async fn wait_on<S: AsyncRead + AsyncWrite + Unpin>(socket: S, channel: &MemoryChannel) -> HttpClient<S> {
    let waits = || {
        let events = channel.events(Channel::Telemetry);
        events.iter().filter(|event| event.extension("ttd").is_some()).count()
    };
    let before = waits();
    let mut client = HttpClient::new(socket);
    client.send(post("/v1/t?ttd=60")).await.unwrap();
    eventually("it waits", || waits() > before).await;
    client
}

/// Lets `d1` wait on a connection, closes that, and returns when its place is free and the log has its end.
async fn wait_and_hang_up<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    channel: &MemoryChannel,
    address: SocketAddr,
) {
    let waiting = wait_on(socket, channel).await;
    let mut other = HttpClient::connect(address).await.unwrap();
    assert_eq!(ask(&mut other).await, 429);
    drop(waiting);
    let freed = async { while ask(&mut other).await == 429 {} };
    tokio::time::timeout(PATIENCE, freed).await.expect("the place is not freed");
    let count = |kind: &str| {
        let events = channel.events(Channel::Commands);
        events.iter().filter(|event| event.kind.contains(kind)).count()
    };
    eventually("the log says so", || count(".connected.") == count(".disconnected.")).await;
}

async fn ask(client: &mut HttpClient) -> u16 {
    client.send(post("/v1/t?ttd=0.001")).await.unwrap();
    client.response().await.unwrap().status
}
