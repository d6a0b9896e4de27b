//! The same over TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use common::testing::{PATIENCE, tls};
use mqtt_endpoint::Config;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::client::{BOTH, Connect, publish};
use crate::fixture::{Fixture, Setup};

struct Tls {
    fixture: Fixture,
    client: Arc<ClientConfig>,
}

fn start(config: Config) -> Tls {
    let (server, client) = tls().unwrap();
    let fixture = Fixture::set_up(Setup { config, tls: Some(server), ..Setup::default() });
    Tls { fixture, client: Arc::new(client) }
}

impl Tls {
    fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(self.fixture.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(self.client.clone(), name).unwrap(), self.socket())
    }
}

#[test]
fn telemetry_and_commands_go_over_tls() {
    let tls = start(Config::default());
    for version in BOTH {
        let mut stream = tls.connect();
        stream.write_all(&Connect::new("d1").packet(version)).unwrap();
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).unwrap();
        assert_eq!((connack[0], connack[3]), (0x20, 0));
        let mut rest = vec![0; usize::from(connack[1]) - 2];
        stream.read_exact(&mut rest).unwrap();
        let payload = vec![b'x'; 100_000];
        stream.write_all(&publish(version, "t", 1, 7, &[], &payload)).unwrap();
        let mut puback = [0; 4];
        stream.read_exact(&mut puback).unwrap();
        assert_eq!((puback[0], puback[3]), (0x40, 7));
    }
    assert!(tls.fixture.telemetry().iter().all(|event| event.data.len() == 100_000));
}

#[test]
fn a_handshake_that_is_not_finished_is_closed_in_time() {
    let tls = start(Config { mqtt_connect_timeout: Duration::from_millis(300), ..Config::default() });
    for opening in [b"".as_slice(), b"\x16\x03\x01", b"\x10\x0c\0\x04MQTT"] {
        let mut socket = tls.socket();
        socket.write_all(opening).unwrap();
        // At most an alert comes before the end.
        let mut alert = Vec::new();
        drop(socket.read_to_end(&mut alert));
        assert!(alert.len() < 20, "{alert:x?}");
    }
}

#[test]
fn idle_handshakes_do_not_keep_others_out_for_longer_than_their_time() {
    let config = Config {
        mqtt_max_tls_handshakes: 2,
        mqtt_connect_timeout: Duration::from_secs(2),
        ..Config::default()
    };
    let tls = start(config);
    let idle: Vec<_> = (0..2).map(|_| tls.socket()).collect();
    for socket in &idle {
        let mut socket = socket;
        assert_eq!(socket.read(&mut [0]).unwrap_or(0), 0);
    }
    let mut stream = tls.connect();
    stream.write_all(&Connect::new("d1").packet(BOTH[0])).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
}
