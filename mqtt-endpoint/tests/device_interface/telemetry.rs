//! PUBLISH by a device.

use common::testing::eventually_blocking;
use std::time::Duration;

use common::channel::PublishError;
use common::event::OCTET_STREAM;
use common::service::Limits;
use mqtt_endpoint::Config;

use crate::client::{BOTH, Client, Connect, Version, publish, text, user_property};
use crate::fixture::Fixture;

#[test]
fn telemetry_is_persisted_byte_for_byte_before_puback() {
    let fixture = Fixture::start();
    for (index, version) in BOTH.into_iter().enumerate() {
        let mut client = Client::device(&fixture, version, "d1@other");
        client.publish("a:b/temperature", 1, 77, b"\0\xff{ }\n");
        assert_eq!(client.puback(), (77, 0));
        let event = fixture.telemetry().swap_remove(index);
        assert_eq!((event.device.as_str(), event.subject.as_str()), ("other/d1", "a:b/temperature"));
        assert_eq!((event.content_type.as_ref(), &event.data[..]), (OCTET_STREAM, b"\0\xff{ }\n".as_slice()));
    }
}

#[test]
fn puback_waits_for_the_channel() {
    let fixture = Fixture::start();
    for version in BOTH {
        fixture.channel.hold();
        let mut client = Client::device(&fixture, version, "d1");
        for id in 1..=3 {
            client.publish("t", 1, id, b"x");
        }
        eventually_blocking("three are in flight", || fixture.channel.held() == 3);
        client.ping();
        fixture.channel.release(Ok(()));
        assert_eq!([client.puback(), client.puback(), client.puback()], [(1, 0), (2, 0), (3, 0)]);
    }
}

#[test]
fn the_order_of_a_connection_is_kept() {
    let fixture = Fixture::start();
    for (round, version) in BOTH.into_iter().enumerate() {
        let mut client = Client::device(&fixture, version, "d1");
        let numbers = 1..=500_u16;
        for number in numbers.clone() {
            client.publish("t", u8::from(number % 3 != 0), number, &number.to_be_bytes());
        }
        for number in numbers.clone().filter(|number| number % 3 != 0) {
            assert_eq!(client.puback(), (number, 0));
        }
        client.ping();
        let events = fixture.telemetry().split_off(round * 500);
        let received: Vec<_> =
            events.iter().map(|event| u16::from_be_bytes([event.data[0], event.data[1]])).collect();
        assert_eq!(received, numbers.collect::<Vec<_>>());
    }
}

#[test]
fn a_channel_that_is_down_is_never_acknowledged() {
    let fixture = Fixture::start();
    fixture.channel.fail_all(Some(PublishError::Unavailable("down".into())));
    let mut client = Client::device(&fixture, Version::V5, "d1");
    client.publish("t", 1, 5, b"x");
    assert_eq!(client.puback(), (5, 0x80));
    client.publish("t", 0, 0, b"lost");
    client.ping();
    let mut client = Client::device(&fixture, Version::V3, "d1");
    client.publish("t", 0, 0, b"lost");
    client.ping();
    client.publish("t", 1, 5, b"x");
    client.expect_close();
}

#[test]
fn a_channel_that_does_not_answer_is_given_up_in_time() {
    let limits = Limits { publish_timeout: Duration::from_millis(300), ..Limits::default() };
    let fixture = Fixture::with(Config::default(), limits);
    fixture.channel.hold();
    let mut client = Client::device(&fixture, Version::V5, "d1");
    for id in 1..=3 {
        client.publish("t", 1, id, b"x");
    }
    assert_eq!([client.puback(), client.puback(), client.puback()], [(1, 0x80), (2, 0x80), (3, 0x80)]);
    let mut client = Client::device(&fixture, Version::V3, "d1");
    client.publish("t", 1, 1, b"x");
    client.expect_close();
}

#[test]
fn while_the_queue_to_the_channel_is_full_reading_stops_and_recovers() {
    let fixture = Fixture::start();
    for (round, version) in BOTH.into_iter().enumerate() {
        fixture.channel.fail_all(Some(PublishError::Overloaded));
        let mut client = Client::device(&fixture, version, "d1");
        for number in 1..=50_u16 {
            client.publish("t", u8::from(number % 2 == 0), number, &number.to_be_bytes());
        }
        fixture.channel.fail_all(None);
        for number in (1..=50).filter(|number| number % 2 == 0) {
            assert_eq!(client.puback(), (number, 0));
        }
        let events = fixture.telemetry().split_off(round * 50);
        let received: Vec<_> =
            events.iter().map(|event| u16::from_be_bytes([event.data[0], event.data[1]])).collect();
        assert_eq!(received, (1..=50).collect::<Vec<_>>());
    }
}

#[test]
fn a_queue_that_stays_full_is_told_in_time() {
    let limits = Limits { publish_timeout: Duration::from_millis(200), ..Limits::default() };
    let fixture = Fixture::with(Config::default(), limits);
    fixture.channel.fail_all(Some(PublishError::Overloaded));
    let mut client = Client::device(&fixture, Version::V5, "d1");
    client.publish("t", 1, 5, b"x");
    assert_eq!(client.puback(), (5, 0x97));
    let mut client = Client::device(&fixture, Version::V3, "d1");
    client.publish("t", 1, 5, b"x");
    client.expect_close();
}

#[test]
fn topics_that_are_no_subject_are_refused() {
    let fixture = Fixture::start();
    let slashes = "/".repeat(65_000);
    for (topic, code) in [
        ("cmd", 0x87),
        ("cmd/set/1", 0x87),
        ("commands/1", 0x87),
        ("reply", 0x90),
        ("", 0x90),
        ("a/#", 0x90),
        ("+", 0x90),
        ("a//b", 0x90),
        ("$SYS/x", 0x90),
        ("a\0b", 0x90),
        ("../d2/t", 0x90),
        (&slashes, 0x90),
    ] {
        let mut client = Client::device(&fixture, Version::V5, "d1");
        client.publish(topic, 1, 9, b"x");
        assert_eq!(client.puback(), (9, code), "{topic:?}");
        client.ping();
        client.publish(topic, 0, 0, b"x");
        client.expect_end(code);
        for qos in [0, 1] {
            let mut client = Client::device(&fixture, Version::V3, "d1");
            client.publish(topic, qos, 9, b"x");
            client.expect_close();
        }
    }
    assert!(fixture.telemetry().is_empty());
}

#[test]
fn a_payload_above_the_limit_ends_the_session() {
    let fixture = Fixture::with(Config::default(), Limits { max_payload: 1000, ..Limits::default() });
    for version in BOTH {
        for (size, qos) in [(1001, 1), (1001, 0), (1_000_000, 1)] {
            let mut client = Client::device(&fixture, version, "d1");
            client.publish("t", 1, 1, &[b'x'; 1000]);
            assert_eq!(client.puback(), (1, 0));
            // The server may close before all is sent.
            let packet = publish(version, "t", qos, 2, &[], &vec![b'x'; size]);
            drop(std::io::Write::write_all(&mut client.stream, &packet));
            client.expect_end(0x95);
        }
    }
    assert_eq!(fixture.telemetry().len(), 6);
}

#[test]
fn a_large_payload_comes_through_whole() {
    let fixture = Fixture::start();
    let payload: Vec<u8> = (0..256 * 1024).map(|number| number as u8).collect();
    for (index, version) in BOTH.into_iter().enumerate() {
        let mut client = Client::device(&fixture, version, "d1");
        client.publish("t", 1, 1, &payload);
        assert_eq!(client.puback(), (1, 0));
        assert!(fixture.telemetry()[index].data == payload);
    }
}

#[test]
fn qos_2_is_not_supported() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        client.publish("t", 2, 1, b"x");
        client.expect_end(0x9b);
    }
    assert!(fixture.telemetry().is_empty());
}

#[test]
fn a_retain_flag_is_ignored() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        let mut packet = publish(version, "t", 1, 1, &[], b"x");
        packet[0] |= 1;
        client.send(&packet);
        assert_eq!(client.puback(), (1, 0));
    }
    assert_eq!(fixture.telemetry().len(), 2);
}

#[test]
fn properties_of_mqtt_5_become_attributes() {
    let fixture = Fixture::start();
    let mut client = Client::device(&fixture, Version::V5, "d1");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let properties = [
        vec![0x03],
        text("application/json"),
        user_property("traceparent", trace),
        user_property("device", "d2"),
        vec![0x02, 0, 0, 0, 1, 0x01, 1],
    ]
    .concat();
    client.publish_with("t", 1, 1, &properties, b"{}");
    assert_eq!(client.puback(), (1, 0));
    let event = &fixture.telemetry()[0];
    assert_eq!((event.content_type.as_ref(), event.device.as_str()), ("application/json", "default/d1"));
    assert_eq!(event.extensions, [("traceparent".into(), trace.to_owned())]);
    client.publish_with("t", 1, 2, &[vec![0x03], text("a\r\nb: c")].concat(), b"{}");
    assert_eq!(client.puback(), (2, 0x90));
}

#[test]
fn topic_aliases_are_honoured() {
    let fixture = Fixture::start();
    let mut client = Client::device(&fixture, Version::V5, "d1");
    client.publish_with("a/b", 1, 1, &[0x23, 0, 16], b"1");
    assert_eq!(client.puback(), (1, 0));
    client.publish_with("", 1, 2, &[0x23, 0, 16], b"2");
    assert_eq!(client.puback(), (2, 0));
    assert_eq!(fixture.telemetry()[1].subject, "a/b");
    for bad in [[0x23, 0, 3], [0x23, 0, 17], [0x23, 0xff, 0xff]] {
        let mut client = Client::device(&fixture, Version::V5, "d1");
        client.publish_with("", 1, 1, &bad, b"x");
        client.expect_end(0x94);
    }
}

#[test]
fn a_topic_that_is_refused_sets_its_alias_all_the_same() {
    let fixture = Fixture::start();
    let mut client = Client::device(&fixture, Version::V5, "d1");
    for (id, (topic, code)) in (1..).zip([("good", 0), ("cmd/x", 0x87), ("", 0x87), ("good", 0), ("", 0)]) {
        client.publish_with(topic, 1, id, &[0x23, 0, 1], b"x");
        assert_eq!(client.puback(), (id, code), "{topic:?}");
    }
    let mut client = Client::device(&fixture, Version::V5, "d1");
    for (id, topic) in (1..).zip(["cmd/x", ""]) {
        client.publish_with(topic, 1, id, &[0x23, 0, 1], b"x");
        assert_eq!(client.puback(), (id, 0x87), "{topic:?}");
    }
    assert!(fixture.telemetry().iter().map(|event| event.subject.as_str()).eq(["good"; 3]));
}

#[test]
fn receive_maximum_is_kept() {
    let fixture = Fixture::with(Config { mqtt_max_in_flight: 3, ..Config::default() }, Limits::default());
    fixture.channel.hold();
    let mut client = Client::device(&fixture, Version::V5, "d1");
    for id in 1..=4 {
        client.publish("t", 1, id, b"x");
    }
    client.expect_end(0x93);
    assert_eq!(fixture.telemetry().len(), 3);
    // 3.1.1 has no such limit: the fourth waits in the connection.
    let mut client = Client::device(&fixture, Version::V3, "d1");
    for id in 1..=4 {
        client.publish("t", 1, id, b"x");
    }
    eventually_blocking("three more are in flight", || fixture.channel.held() == 6);
    fixture.channel.release(Ok(()));
    for id in 1..=4 {
        assert_eq!(client.puback(), (id, 0));
    }
}

#[test]
fn what_was_published_before_the_connection_was_dropped_is_there() {
    let fixture = Fixture::start();
    for (round, version) in BOTH.into_iter().enumerate() {
        let mut client = Client::open(&fixture, version);
        let mut packets = Connect::new("d1").packet(version);
        for id in 1..=200 {
            packets.extend(publish(version, "t", 1, id, &[], b"x"));
        }
        client.send(&packets);
        drop(client.stream.shutdown(std::net::Shutdown::Write));
        assert_eq!(fixture.wait_for_telemetry((round + 1) * 200).len(), (round + 1) * 200);
    }
}
