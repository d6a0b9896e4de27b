//! PUBLISH of replies to commands.

use std::time::Duration;

use common::channel::PublishError;
use common::event::{Event, OCTET_STREAM, extension};
use common::outcome::State;
use common::service::Limits;
use common::testing::{command, eventually_blocking};
use common::web::admin::install_metrics;
use mqtt_endpoint::Config;

use crate::client::{BOTH, Client, Connect, PUBACK, Version, Will, binary, publish, text, user_property};
use crate::fixture::{Fixture, device_key};
use crate::outcomes;

const CORRELATION_DATA: u8 = 9;
const UNKNOWN: &str = "0193aaaa-0000-7000-8000-000000000000";

/// Sends `d1` a command at QoS 0, and returns its id when the device has it.
fn deliver(fixture: &Fixture, client: &mut Client) -> String {
    client.subscribe(&[("cmd/#", 0)]);
    let id = fixture.send("default/d1", "ask", b"?");
    assert_eq!(client.receive().topic, format!("cmd/ask/{id}"));
    id
}

/// Makes `d1`'s command known as delivered by another replica, and returns its id.
fn delivered_elsewhere(fixture: &Fixture) -> String {
    let command = command(&device_key("default/d1"), "ask".parse().unwrap(), b"?");
    fixture.sent.set(&command, State::Delivered);
    command.id.as_str().to_owned()
}

fn reply_to<'a>(outcomes: &'a [Event], id: &str) -> Option<&'a Event> {
    outcomes.iter().find(|event| event.id.as_str() == format!("{id}.replied.1"))
}

fn correlation(data: &str) -> Vec<u8> {
    [vec![CORRELATION_DATA], binary(data.as_bytes())].concat()
}

#[test]
fn a_reply_is_persisted_byte_for_byte_before_puback() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        client.subscribe(&[("cmd/#", 1)]);
        let id = fixture.send("default/d1", "ask", b"?");
        let received = client.receive();
        // Before the command is acknowledged: a reply implies that.
        fixture.channel.hold();
        client.publish(&format!("reply/{id}/207"), 1, 77, b"\0\xff{ }\n");
        eventually_blocking("it is in flight", || fixture.channel.held() == 1);
        client.ping();
        fixture.channel.release(Ok(()));
        assert_eq!(client.puback(), (77, 0));
        client.acknowledge(received.id.unwrap());
        outcomes::expect(&id, "delivered puback");
        let outcomes = fixture.replies();
        let event = reply_to(&outcomes, &id).unwrap();
        assert_eq!((event.device.as_str(), event.subject.as_str()), ("default/d1", "ask"));
        assert_eq!((event.content_type.as_ref(), &event.data[..]), (OCTET_STREAM, b"\0\xff{ }\n".as_slice()));
        assert_eq!(event.extension(extension::STATUS), Some("207"));
        client.disconnect(0);
    }
}

#[test]
fn a_reply_at_qos_0_needs_no_status() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        for id in [deliver(&fixture, &mut client), delivered_elsewhere(&fixture)] {
            client.publish(&format!("reply/{id}"), 0, 0, b"42");
            eventually_blocking("the reply arrives", || reply_to(&fixture.replies(), &id).is_some());
            let outcomes = fixture.replies();
            assert_eq!(reply_to(&outcomes, &id).unwrap().extension(extension::STATUS), Some("200"));
        }
        client.ping();
        client.disconnect(0);
    }
}

#[test]
fn only_the_device_that_was_sent_the_command_may_reply() {
    let fixture = Fixture::start();
    for (version, refused) in [(Version::V3, 0), (Version::V5, 0x87)] {
        let mut client = Client::device(&fixture, version, "d1");
        let own = deliver(&fixture, &mut client);
        let mut other = Client::device(&fixture, version, "d2");
        other.publish(&format!("reply/{own}"), 0, 0, b"x");
        // All are answered in the order in which they came, however long one takes.
        other.publish(&format!("reply/{own}/200"), 1, 1, b"x");
        other.publish(&format!("reply/{UNKNOWN}"), 1, 2, b"x");
        other.publish("t", 1, 3, b"x");
        let [first, second] = [other.read(), other.read()];
        assert_eq!(
            (first.kind, &first.body[..2], &second.body[..2]),
            (PUBACK, b"\0\x01".as_slice(), b"\0\x02".as_slice())
        );
        assert_eq!((first.body.get(2).copied().unwrap_or(0), &first.body[2..]), (refused, &second.body[2..]));
        if version == Version::V5 {
            assert!(first.reason().unwrap().contains("no such command"), "{first:?}");
        }
        assert_eq!(other.puback(), (3, 0));
        other.ping();
        client.publish(&format!("reply/{own}"), 1, 4, b"x");
        assert_eq!(client.puback(), (4, 0));
        client.disconnect(0);
    }
    assert_eq!(fixture.replies().len(), 2);
}

#[test]
fn no_reply_follows_on_an_end() {
    let fixture = Fixture::start();
    for (version, refused) in [(Version::V3, 0), (Version::V5, 0x83)] {
        let mut client = Client::device(&fixture, version, "d1");
        let id = deliver(&fixture, &mut client);
        client.publish(&format!("reply/{id}/200"), 1, 1, b"1");
        client.publish(&format!("reply/{id}/500"), 1, 2, b"2");
        assert_eq!([client.puback(), client.puback()], [(1, 0), (2, refused)]);
        let cancelled = command(&device_key("default/d1"), "ask".parse().unwrap(), b"?");
        fixture.sent.set(&cancelled, State::Cancelled);
        client.publish(&format!("reply/{}", cancelled.id), 1, 3, b"x");
        assert_eq!(client.puback(), (3, refused));
        client.publish(&format!("reply/{}", cancelled.id), 0, 0, b"x");
        client.ping();
        let outcomes = fixture.replies();
        assert_eq!(reply_to(&outcomes, &id).unwrap().data, "1");
        client.disconnect(0);
    }
    assert_eq!(fixture.replies().len(), 2);
}

#[test]
fn topics_of_replies_that_have_another_form_are_refused() {
    let fixture = Fixture::start();
    let id = delivered_elsewhere(&fixture);
    for topic in [
        "",
        "/",
        &format!("/{id}/"),
        &format!("/{id}/99"),
        &format!("/{id}/600"),
        &format!("/{id}/200/x"),
        "/a b",
    ] {
        let topic = format!("reply{topic}");
        let mut client = Client::device(&fixture, Version::V5, "d1");
        client.publish(&topic, 1, 9, b"x");
        let puback = client.read();
        assert_eq!((puback.kind, puback.body[2]), (PUBACK, 0x90), "{topic}");
        assert!(puback.reason().unwrap().contains("reply/{id}/{status}"), "{puback:?}");
        client.publish(&topic, 0, 0, b"x");
        client.expect_end(0x90);
        for qos in [0, 1] {
            let mut client = Client::device(&fixture, Version::V3, "d1");
            client.publish(&topic, qos, 9, b"x");
            client.expect_close();
        }
    }
    assert!(fixture.replies().is_empty() && fixture.telemetry().is_empty());
}

#[test]
fn mqtt_5_replies_by_response_topic_and_correlation_data() {
    let fixture = Fixture::start();
    let mut client = Client::device(&fixture, Version::V5, "d1");
    let id = deliver(&fixture, &mut client);
    let topic = format!("reply/{id}");
    for (packet, data) in [(1, UNKNOWN), (2, ""), (3, &id[1..])] {
        client.publish_with(&topic, 1, packet, &correlation(data), b"x");
        assert_eq!(client.puback(), (packet, 0x87), "{data}");
    }
    for (packet, status) in [(4, "99"), (5, "ok")] {
        client.publish_with(&topic, 1, packet, &user_property("status", status), b"x");
        assert_eq!(client.puback(), (packet, 0x90), "{status}");
    }
    assert!(fixture.replies().is_empty());
    let properties = [
        correlation(&id),
        [vec![3], text("application/json")].concat(),
        user_property("x", "y"),
        user_property("status", "403"),
    ];
    client.publish_with(&topic, 1, 6, &properties.concat(), b"{}");
    assert_eq!(client.puback(), (6, 0));
    let event = &fixture.replies()[0];
    assert_eq!((event.content_type.as_ref(), &event.data[..]), ("application/json", b"{}".as_slice()));
    assert_eq!(event.extension(extension::STATUS), Some("403"));

    // The status of the topic counts, and an alias may stand for it.
    let (first, second) = (delivered_elsewhere(&fixture), delivered_elsewhere(&fixture));
    let alias = vec![0x23, 0, 1];
    let both = [alias.clone(), user_property("status", "500")].concat();
    client.publish_with(&format!("reply/{first}/201"), 1, 7, &both, b"x");
    client.publish_with("", 1, 8, &alias, b"x");
    assert_eq!([client.puback(), client.puback()], [(7, 0), (8, 0x83)]);
    client.publish_with(&format!("reply/{second}"), 0, 0, &[alias.clone(), correlation("x")].concat(), b"x");
    client.publish_with("", 1, 9, &both, b"x");
    assert_eq!(client.puback(), (9, 0));
    let outcomes = fixture.replies();
    let status = |id| reply_to(&outcomes, id).unwrap().extension(extension::STATUS);
    assert_eq!((status(&first), status(&second)), (Some("201"), Some("500")));
}

#[test]
fn a_channel_that_is_down_is_never_acknowledged() {
    let limits = Limits { publish_timeout: Duration::from_millis(300), ..Limits::default() };
    let fixture = Fixture::with(Config::default(), limits);
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        let id = deliver(&fixture, &mut client);
        let topic = format!("reply/{id}");
        let mut failures: Vec<Box<dyn Fn()>> = vec![
            Box::new(|| fixture.channel.fail_next(PublishError::Unavailable("down".into()))),
            Box::new(|| fixture.channel.hold()),
        ];
        failures.push(Box::new(|| fixture.sent.set_failing(true)));
        for (fail, topic) in failures.iter().zip([&topic, &topic, &format!("reply/{UNKNOWN}")]) {
            let mut client = Client::connect(
                &fixture,
                version,
                &Connect { client_id: "other".into(), ..Connect::new("d1") },
            );
            fail();
            client.publish(topic, 0, 0, b"lost");
            client.ping();
            fail();
            client.publish(topic, 1, 5, b"x");
            match version {
                Version::V3 => client.expect_close(),
                Version::V5 => assert_eq!(client.puback(), (5, 0x80)),
            }
            fixture.channel.release(Ok(()));
        }
        fixture.sent.set_failing(false);
        client.publish(&topic, 1, 5, b"x");
        assert_eq!(client.puback(), (5, 0));
        client.disconnect(0);
    }
}

#[test]
fn replies_and_telemetry_have_one_order_and_wait_for_a_full_queue() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        let ids: Vec<_> = (0..10).map(|_| deliver(&fixture, &mut client)).collect();
        fixture.channel.fail_next(PublishError::Overloaded);
        let before = (fixture.replies().len(), fixture.telemetry().len());
        let mut packets = Vec::new();
        for (number, id) in (1..).step_by(2).zip(&ids) {
            packets.extend(publish(version, &format!("reply/{id}/200"), 1, number, &[], b"x"));
            packets.extend(publish(version, "t", 1, number + 1, &[], b"x"));
        }
        client.send(&packets);
        for number in 1..=20 {
            assert_eq!(client.puback(), (number, 0));
        }
        let replied: Vec<_> =
            fixture.replies()[before.0..].iter().map(|event| event.id.to_string()).collect();
        assert_eq!(replied, ids.iter().map(|id| format!("{id}.replied.1")).collect::<Vec<_>>());
        assert_eq!(fixture.telemetry().len() - before.1, 10);
        client.disconnect(0);
    }
}

#[test]
fn replies_count_for_the_limits_of_a_session() {
    let config = Config { mqtt_max_in_flight: 1, ..Config::default() };
    let fixture = Fixture::with(config, Limits { max_payload: 1000, ..Limits::default() });
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        let id = deliver(&fixture, &mut client);
        client.publish(&format!("reply/{id}"), 1, 1, &[0; 1001]);
        client.expect_end(0x95);
        for quality in [2, 1] {
            let mut client = Client::device(&fixture, version, "d1");
            fixture.channel.hold();
            client.publish(&format!("reply/{id}"), quality, 1, b"x");
            match (quality, version) {
                (2, _) => client.expect_end(0x9b),
                (_, Version::V3) => eventually_blocking("it is in flight", || fixture.channel.held() == 1),
                (_, Version::V5) => {
                    client.publish("t", 1, 2, b"x");
                    client.expect_end(0x93);
                }
            }
            fixture.channel.release(Ok(()));
        }
    }
}

#[test]
fn a_will_is_no_reply() {
    let fixture = Fixture::start();
    let id = delivered_elsewhere(&fixture);
    let will = Some(Will::new(&format!("reply/{id}/200")));
    let connect = Connect { will, ..Connect::new("d1") };
    for (version, code) in [(Version::V3, 5), (Version::V5, 0x87)] {
        let (_client, connack) = Client::try_connect(&fixture, version, &connect);
        assert_eq!(connack.body[1], code);
    }
}

#[test]
fn what_is_dropped_is_counted() {
    let fixture = Fixture::alone();
    let metrics = install_metrics().unwrap();
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        client.publish(&format!("reply/{UNKNOWN}"), 0, 0, b"x");
        client.publish(&format!("reply/{UNKNOWN}"), 1, 1, b"x");
        client.puback();
    }
    let rendered = metrics.render();
    assert!(
        rendered.contains("drogue_replies_total{protocol=\"mqtt\",result=\"not-found\"} 4\n"),
        "{rendered}"
    );
}
