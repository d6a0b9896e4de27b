//! What the endpoint uses of its machine: memory, and the threads that serve.

use std::io::Write;
use std::sync::Arc;

use common::BoxFuture;
use common::auth::{AuthError, Authenticator, ChangeObserver, Login};
use common::testing::{StaticAuthenticator, eventually_blocking};
use tokio::sync::Semaphore;

use crate::attacks::expect_closed;
use crate::client::{Client, Connect, Version, packet, text, variable_length};
use crate::fixture::{Fixture, PASSWORD, Setup, device_key};

/// Returns the resident memory of this process in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_is_not_connect_costs_nothing() {
    let fixture = Fixture::alone();
    let openings: [&[u8]; 8] = [
        b"\x10\xff\xff\xff\x7f\0\x04MQTT\x04",
        b"\x10\x80\x80\x80\x80\x01",
        b"\x30\xff\xff\xff\x7f",
        b"\xff\xff\xff\x7f",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"\xc0\0",
        b"\x10\x02\0\0",
    ];
    let before = resident();
    for _ in 0..50 {
        for opening in openings {
            let mut client = Client::open(&fixture, Version::V3);
            client.send(opening);
            assert_eq!(client.try_read().unwrap(), None, "{opening:x?}");
        }
    }
    // A single one that was believed would cost 256 MiB.
    assert!(resident() < before + 100 * 1024, "{before} KiB became {} KiB", resident());
}

#[test]
fn bad_will_properties_again_and_again_leave_memory_flat() {
    let fixture = Fixture::alone();
    let mut body = b"\0\x04MQTT\x05\xc6\0\x3c\0".to_vec();
    body.extend(text("client"));
    // Will properties: user properties without end, then one that is unknown.
    let mut properties = [vec![0x26], text("key"), text(&"x".repeat(1000))].concat().repeat(20);
    properties.push(0x7f);
    body.extend(variable_length(properties.len()));
    body.extend(properties);
    let connect = packet(0x10, &body);
    let attack = |count| {
        for _ in 0..count {
            let mut client = Client::open(&fixture, Version::V5);
            client.send(&connect);
            drop(client.stream.shutdown(std::net::Shutdown::Write));
            expect_closed(client);
        }
    };
    attack(200);
    let before = resident();
    attack(1000);
    assert!(resident() < before + 15 * 1024, "{before} KiB became {} KiB", resident());
}

#[test]
fn a_flood_of_pings_by_a_device_that_does_not_read_is_bounded() {
    let fixture = Fixture::alone();
    let mut client = Client::device(&fixture, Version::V3, "d1");
    client.stream.set_nonblocking(true).unwrap();
    let pings = [0xc0, 0].repeat(50_000);
    let before = resident();
    let mut blocked = 0;
    eventually_blocking("the server stops reading", || {
        match client.stream.write(&pings) {
            Ok(_) => blocked = 0,
            Err(_) => blocked += 1,
        }
        blocked > 100
    });
    assert!(resident() < before + 50 * 1024, "{before} KiB became {} KiB", resident());
    Client::device(&fixture, Version::V3, "d2").ping();
}

#[test]
fn connect_is_not_flooded_into_memory() {
    let fixture = Fixture::alone();
    let before = resident();
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let mut client = Client::open(&fixture, Version::V5);
            // Promises 70,000 bytes and sends few.
            client.send(b"\x10\xf0\xa2\x04\0\x04MQTT\x05\xc2\0\x3c\0");
            client
        })
        .collect();
    Client::device(&fixture, Version::V3, "d1").ping();
    assert!(resident() < before + 10 * 1024, "{before} KiB became {} KiB", resident());
    drop(clients);
}

/// A registry that answers logins one by one, when it is told to.
struct Slow {
    known: StaticAuthenticator,
    gate: Arc<Semaphore>,
}

impl Authenticator for Slow {
    fn authenticate<'a>(&'a self, login: &'a Login) -> BoxFuture<'a, Result<(), AuthError>> {
        Box::pin(async {
            self.gate.acquire().await.unwrap().forget();
            self.known.authenticate(login).await
        })
    }

    fn observe(&self, observer: ChangeObserver) {
        self.known.observe(observer);
    }
}

#[test]
fn while_many_log_in_sessions_go_on() {
    let (known, gate) = (StaticAuthenticator::new(), Arc::new(Semaphore::new(1)));
    for number in 0..200 {
        known.set(&device_key(&format!("default/many-{number}")), PASSWORD);
    }
    known.set(&device_key("default/d1"), PASSWORD);
    let slow = Slow { known, gate: gate.clone() };
    let fixture = Fixture::set_up(Setup { authenticator: Some(Arc::new(slow)), ..Setup::default() });
    let mut established = Client::device(&fixture, Version::V5, "d1");
    established.subscribe(&[("cmd", 0)]);
    let mut storm: Vec<_> = (0..200)
        .map(|number| {
            let mut client = Client::open(&fixture, Version::V3);
            client.send(&Connect::new(&format!("many-{number}")).packet(Version::V3));
            client
        })
        .collect();
    established.publish("t", 1, 1, b"x");
    assert_eq!(established.puback(), (1, 0));
    fixture.send("default/d1", "set", b"x");
    assert_eq!(established.receive().payload, b"x");
    // Some do not wait for it.
    storm.truncate(150);
    gate.add_permits(200);
    for client in &mut storm {
        assert_eq!(client.read().body, [0, 0]);
    }
    established.ping();
}
