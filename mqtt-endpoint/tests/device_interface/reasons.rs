//! Reason strings of MQTT 5.

use common::channel::PublishError;
use common::service::Limits;
use mqtt_endpoint::Config;

use crate::client::{Client, Connect, DISCONNECT, PUBACK, Packet, SUBACK, Version, Will, packet};
use crate::fixture::Fixture;

const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
const MAXIMUM_PACKET_SIZE: u8 = 0x27;

/// Expects a packet of this type with such words in its reason string.
fn expect(packet: &Packet, kind: u8, words: &str) {
    assert_eq!(packet.kind, kind, "{packet:?}");
    let reason = packet.reason().unwrap_or_default();
    assert!(reason.contains(words), "{reason:?} does not say {words:?}");
    assert!(!reason.ends_with('.'), "{reason:?} ends with a period");
}

fn connect_with(fixture: &Fixture, properties: &[u8]) -> Client {
    let connect = Connect { properties: properties.to_vec(), ..Connect::new("d1") };
    Client::connect(fixture, Version::V5, &connect)
}

/// Subscribes to what is no command, and returns SUBACK.
fn subscribe_to_all(client: &mut Client) -> Packet {
    client.send(&packet(0x82, b"\0\x07\0\0\x03cmd\x01\0\x01#\0"));
    client.read()
}

#[test]
fn connack_says_why_a_device_is_not_let_in() {
    let limits = Limits { max_device_connections: 1, max_payload: 100, ..Limits::default() };
    let fixture = Fixture::with(Config::default(), limits);
    let _first = Client::connect(&fixture, Version::V5, &Connect::new("d1"));
    let refusal = |connect: &Connect| {
        let (_client, connack) = Client::try_connect(&fixture, Version::V5, connect);
        connack.reason().expect("a reason string").to_owned()
    };
    let wrong = Connect { password: Some(b"wrong".to_vec()), ..Connect::new("d1") };
    assert!(refusal(&wrong).contains("device[@application]"));
    let second = Connect { client_id: "second".into(), ..Connect::new("d1") };
    assert!(refusal(&second).contains("--max-device-connections"));
    let will = |will| Connect { will: Some(will), ..Connect::new("d2") };
    assert!(refusal(&will(Will { payload: vec![0; 101], ..Will::new("t") })).contains("--max-payload"));
    assert!(refusal(&will(Will { qos: 2, ..Will::new("t") })).contains("QoS 2"));
    let unasked = Connect { properties: vec![REQUEST_PROBLEM_INFORMATION, 0], ..second };
    assert!(refusal(&unasked).contains("--max-device-connections"));
}

#[test]
fn puback_says_why_a_message_was_refused() {
    let fixture = Fixture::start();
    let mut client = Client::device(&fixture, Version::V5, "d1");
    let mut publish = |topic| {
        client.publish(topic, 1, 1, b"x");
        client.read()
    };
    assert_eq!(publish("t").properties(), b"");
    expect(&publish("cmd/x"), PUBACK, "'cmd'");
    expect(&publish("a b"), PUBACK, "A-Z a-z 0-9");
    fixture.channel.fail_all(Some(PublishError::Unavailable("secret.example.com".into())));
    let down = publish("t");
    expect(&down, PUBACK, "--publish-timeout");
    assert!(!down.reason().unwrap_or_default().contains("secret"));
}

#[test]
fn suback_says_why_a_filter_was_refused() {
    let fixture = Fixture::start();
    let mut client = Client::device(&fixture, Version::V5, "d1");
    let suback = subscribe_to_all(&mut client);
    expect(&suback, SUBACK, "cmd/#");
    assert!(suback.body.ends_with(&[1, 0x87]), "{suback:?}");
    client.send(&packet(0x82, b"\0\x07\0\0\x03cmd\x01"));
    assert_eq!(client.read().properties(), b"");
}

#[test]
fn disconnect_names_the_limit_that_was_met() {
    let config = Config { mqtt_max_packet_size: Some(2000), mqtt_max_in_flight: 1, ..Config::default() };
    let fixture = Fixture::with(config, Limits { max_payload: 100, ..Limits::default() });
    let disconnect = |send: &dyn Fn(&mut Client)| {
        let mut client = Client::device(&fixture, Version::V5, "d1");
        send(&mut client);
        client.read()
    };
    let payload = disconnect(&|client| client.publish("t", 1, 1, &[0; 101]));
    expect(&payload, DISCONNECT, "--max-payload");
    let packet = disconnect(&|client| client.publish("t", 1, 1, &[0; 2000]));
    expect(&packet, DISCONNECT, "--mqtt-max-packet-size");
    let alias = disconnect(&|client| client.publish_with("t", 1, 1, &[0x23, 0, 17], b"x"));
    expect(&alias, DISCONNECT, "--mqtt-max-topic-aliases");
    let quality = disconnect(&|client| client.publish("t", 2, 1, b"x"));
    expect(&quality, DISCONNECT, "QoS 2");
    fixture.channel.hold();
    let in_flight = disconnect(&|client| (1..=2).for_each(|id| client.publish("t", 1, id, b"x")));
    expect(&in_flight, DISCONNECT, "--mqtt-max-in-flight");
}

#[test]
fn a_device_that_wants_no_problem_information_gets_it_in_disconnect_only() {
    let fixture = Fixture::start();
    let mut client = connect_with(&fixture, &[REQUEST_PROBLEM_INFORMATION, 0]);
    client.publish("cmd/x", 1, 1, b"x");
    let puback = client.read();
    assert_eq!((puback.kind, puback.body.as_slice()), (PUBACK, [0, 1, 0x87, 0].as_slice()));
    let suback = subscribe_to_all(&mut client);
    assert_eq!((suback.kind, suback.body.as_slice()), (SUBACK, [0, 7, 0, 1, 0x87].as_slice()));
    client.publish("t", 2, 1, b"x");
    expect(&client.read(), DISCONNECT, "QoS 2");
}

#[test]
fn what_the_device_does_not_take_is_left_out() {
    let fixture = Fixture::start();
    for limit in (50..=200).step_by(10) {
        let mut client = connect_with(&fixture, &[MAXIMUM_PACKET_SIZE, 0, 0, 0, limit]);
        let suback = subscribe_to_all(&mut client);
        client.publish("cmd/x", 1, 1, b"x");
        let puback = client.read();
        client.publish("t", 2, 1, b"x");
        let disconnect = client.read();
        assert_eq!((suback.kind, puback.kind, disconnect.kind), (SUBACK, PUBACK, DISCONNECT));
        for answer in [suback, puback, disconnect] {
            assert!(answer.body.len() + 2 <= usize::from(limit), "{limit}: {answer:?}");
            assert!(limit > 50 || answer.reason().is_none(), "{limit}: {answer:?}");
            assert!(limit < 130 || answer.reason().is_some(), "{limit}: {answer:?}");
        }
    }
    let properties = vec![MAXIMUM_PACKET_SIZE, 0, 0, 0, 20];
    let wrong = Connect { password: Some(b"wrong".to_vec()), properties, ..Connect::new("d1") };
    let (_client, connack) = Client::try_connect(&fixture, Version::V5, &wrong);
    assert_eq!((connack.body[1], connack.reason()), (0x86, None));
    assert!(connack.body.len() + 2 <= 20, "{connack:?}");
}
