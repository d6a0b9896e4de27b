//! CONNECT and CONNACK.

use common::auth::AuthError;
use common::service::Limits;
use mqtt_endpoint::Config;

use crate::client::{BOTH, CONNACK, Client, Connect, Version, Will};
use crate::fixture::Fixture;

/// Returns the code of the CONNACK that a CONNECT is answered with, and expects the close that follows.
fn refusal(fixture: &Fixture, version: Version, connect: &Connect) -> u8 {
    let (mut client, connack) = Client::try_connect(fixture, version, connect);
    assert_eq!((connack.kind, connack.body[0]), (CONNACK, 0));
    if connack.body[1] != 0 {
        client.expect_close();
    }
    connack.body[1]
}

fn codes(fixture: &Fixture, connect: &Connect) -> [u8; 2] {
    BOTH.map(|version| refusal(fixture, version, connect))
}

#[test]
fn wrong_credentials_are_refused() {
    let fixture = Fixture::start();
    for user in ["d1", "d1@default", "d1@other"] {
        assert_eq!(codes(&fixture, &Connect::new(user)), [0, 0], "{user}");
    }
    for user in ["d3", "d2@other", "d1@", "@default", "", "d1@default@x", "default/d1", "#", "+", "d1\u{1}"] {
        assert_eq!(codes(&fixture, &Connect::new(user)), [5, 0x86], "{user:?}");
    }
    let wrong = Connect { password: Some(b"wrong".to_vec()), ..Connect::new("d1") };
    assert_eq!(codes(&fixture, &wrong), [5, 0x86]);
    let binary = Connect { password: Some(b"\xff\xfe".to_vec()), ..Connect::new("d1") };
    assert_eq!(codes(&fixture, &binary), [5, 0x86]);
    let none = Connect { password: None, ..Connect::new("d1") };
    assert_eq!(codes(&fixture, &none), [5, 0x86]);
    assert_eq!(codes(&fixture, &Connect { user: None, password: None, ..none }), [5, 0x86]);
}

#[test]
fn a_registry_that_cannot_say_refuses() {
    let fixture = Fixture::start();
    fixture.authenticator.set_failure(Some(AuthError::Busy));
    assert_eq!(codes(&fixture, &Connect::new("d1")), [3, 0x97]);
    fixture.authenticator.set_failure(Some(AuthError::Unavailable));
    assert_eq!(codes(&fixture, &Connect::new("d1")), [3, 0x88]);
    fixture.authenticator.set_failure(None);
    assert_eq!(codes(&fixture, &Connect::new("d1")), [0, 0]);
}

#[test]
fn a_device_has_so_many_sessions_at_most() {
    let fixture = Fixture::with(Config::default(), Limits { max_device_connections: 1, ..Limits::default() });
    for version in BOTH {
        let first = Connect { client_id: "first".into(), ..Connect::new("d1") };
        let second = Connect { client_id: "second".into(), ..Connect::new("d1") };
        let held = Client::connect(&fixture, version, &first);
        let expected = if version == Version::V3 { 3 } else { 0x97 };
        assert_eq!(refusal(&fixture, version, &second), expected);
        held.disconnect(0);
    }
}

#[test]
fn connack_of_mqtt_5_says_what_this_server_is_not() {
    let fixture = Fixture::start();
    let connect = Connect { keep_alive: 0, properties: vec![0x11, 0, 0, 1, 0], ..Connect::new("d1") };
    let (_client, connack) = Client::try_connect(&fixture, Version::V5, &connect);
    let properties = &connack.body[3..];
    let says = |property: &[u8]| properties.windows(property.len()).any(|window| window == property);
    assert_eq!(connack.body[0], 0, "session present");
    assert!(says(&[0x11, 0, 0, 0, 0]), "session expiry interval 0: {properties:x?}");
    assert!(says(&[0x24, 1]), "maximum QoS 1: {properties:x?}");
    assert!(says(&[0x25, 0]), "retain available 0: {properties:x?}");
    assert!(says(&[0x29, 0]), "subscription identifiers available 0: {properties:x?}");
    assert!(says(&[0x2a, 0]), "shared subscription available 0: {properties:x?}");
    assert!(!says(&[0x28, 0]), "wildcard subscription available: {properties:x?}");
    assert!(says(&[0x21, 0, 100]), "receive maximum: {properties:x?}");
    assert!(says(&[0x22, 0, 16]), "topic alias maximum: {properties:x?}");
    assert!(says(&[0x27, 0, 4, 0x20, 0]), "maximum packet size: {properties:x?}");
    assert!(says(&[0x13, 4, 0xb0]), "server keep alive: {properties:x?}");
}

#[test]
fn the_keep_alive_is_capped() {
    let fixture = Fixture::start();
    let server_keep_alive = |keep_alive| {
        let connect = Connect { keep_alive, ..Connect::new("d1") };
        let (_client, connack) = Client::try_connect(&fixture, Version::V5, &connect);
        connack
            .body
            .windows(3)
            .find(|window| window[0] == 0x13)
            .map(|found| u16::from_be_bytes([found[1], found[2]]))
    };
    assert_eq!(server_keep_alive(u16::MAX), Some(1200));
    assert_eq!(server_keep_alive(0), Some(1200));
    assert_eq!(server_keep_alive(60), None);
}

#[test]
fn a_session_that_the_server_is_to_keep_is_not_present() {
    let fixture = Fixture::start();
    for version in BOTH {
        let connect = Connect { clean: false, ..Connect::new("d1") };
        for _ in 0..2 {
            let mut client = Client::connect(&fixture, version, &connect);
            assert!(client.subscribe(&[("cmd", 1)])[0] == 1);
            client.disconnect(0);
        }
    }
}

#[test]
fn a_client_id_may_be_left_to_the_server() {
    let fixture = Fixture::start();
    let empty = Connect { client_id: String::new(), ..Connect::new("d1") };
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (_client, connack) = Client::try_connect(&fixture, Version::V5, &empty);
        let at = connack.body.windows(3).position(|window| window == [0x12, 0, 36]).expect("assigned id");
        ids.push(connack.body[at + 3..at + 39].to_vec());
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(refusal(&fixture, Version::V3, &empty), 0);
    assert_eq!(refusal(&fixture, Version::V3, &Connect { clean: false, ..empty.clone() }), 2);
    assert_eq!(refusal(&fixture, Version::V5, &Connect { clean: false, ..empty }), 0);
}

#[test]
fn a_client_id_is_bounded_and_means_nothing_else() {
    let fixture = Fixture::start();
    let with_id = |client_id: &str| Connect { client_id: client_id.into(), ..Connect::new("d1") };
    assert_eq!(codes(&fixture, &with_id(&"x".repeat(256))), [0, 0]);
    assert_eq!(codes(&fixture, &with_id(&"x".repeat(257))), [2, 0x85]);
    for odd in ["#", "+", "a/b", "d2", "d1@other", "cmd/#", "ü", " "] {
        let mut client = Client::connect(&fixture, Version::V3, &with_id(odd));
        client.publish("who", 1, 1, odd.as_bytes());
        assert_eq!(client.puback(), (1, 0));
    }
    for event in fixture.telemetry() {
        assert_eq!(event.device.as_str(), "default/d1");
    }
}

#[test]
fn a_will_that_could_never_be_published_refuses() {
    let fixture = Fixture::with(Config::default(), Limits { max_payload: 100, ..Limits::default() });
    let with = |will: Will| Connect { will: Some(will), ..Connect::new("d1") };
    assert_eq!(codes(&fixture, &with(Will::new("state"))), [0, 0]);
    assert_eq!(codes(&fixture, &with(Will { retain: true, ..Will::new("state") })), [0, 0]);
    assert_eq!(codes(&fixture, &with(Will::new("cmd/x"))), [5, 0x87]);
    assert_eq!(codes(&fixture, &with(Will::new("a/#"))), [5, 0x90]);
    assert_eq!(codes(&fixture, &with(Will::new(""))), [5, 0x90]);
    assert_eq!(codes(&fixture, &with(Will { payload: vec![0; 101], ..Will::new("state") })), [5, 0x95]);
    let exactly_once = with(Will { qos: 2, ..Will::new("state") });
    assert_eq!(refusal(&fixture, Version::V5, &exactly_once), 0x9b);
    let mut client = Client::open(&fixture, Version::V3);
    client.send(&exactly_once.packet(Version::V3));
    client.expect_close();
}

#[test]
fn a_will_may_be_as_long_as_one_can_be() {
    let fixture = Fixture::start();
    for version in BOTH {
        let will = Will { payload: vec![b'x'; usize::from(u16::MAX)], ..Will::new("state") };
        Client::connect(&fixture, version, &Connect { will: Some(will), ..Connect::new("d1") }).vanish();
    }
    assert!(fixture.wait_for_telemetry(2).iter().all(|event| event.data.len() == 65_535));
}

#[test]
fn enhanced_authentication_is_refused() {
    let fixture = Fixture::start();
    let properties = [vec![0x15], crate::client::text("SCRAM")].concat();
    assert_eq!(refusal(&fixture, Version::V5, &Connect { properties, ..Connect::new("d1") }), 0x8c);
}

#[test]
fn another_version_is_told_so() {
    let fixture = Fixture::start();
    for opening in
        [b"\x10\x11\0\x06MQIsdp\x03\x02\0\x1e\0\x03abc".as_slice(), b"\x10\x0c\0\x04MQTT\x06\x02\0\x1e\0\0"]
    {
        let mut client = Client::open(&fixture, Version::V3);
        client.send(opening);
        let connack = client.read();
        assert_eq!((connack.kind, connack.body.as_slice()), (CONNACK, [0, 1].as_slice()));
        client.expect_close();
    }
}

#[test]
fn a_second_connect_ends_the_session() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        client.send(&Connect::new("d2").packet(version));
        client.expect_end(0x82);
    }
}
