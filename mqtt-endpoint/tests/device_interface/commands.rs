//! SUBSCRIBE, and the commands that follow.

use std::time::Duration;

use common::command::Command;
use common::service::{Clock, Limits};
use common::testing::{command, eventually_blocking};
use mqtt_endpoint::Config;

use crate::client::{BOTH, Client, Connect, Version, packet, text, user_property};
use crate::fixture::{Fixture, device_key};
use crate::outcomes;

#[test]
fn only_the_filters_of_commands_are_granted() {
    let fixture = Fixture::start();
    for (version, refused) in [(Version::V3, 0x80), (Version::V5, 0x87)] {
        let mut client = Client::device(&fixture, version, "d1");
        assert_eq!(client.subscribe(&[("cmd", 0), ("cmd/#", 1), ("cmd", 2)]), [0, 1, 1]);
        let filters = [("#", 0), ("cmd", 0), ("+", 1), ("cmd/+", 1), ("temperature", 0), ("$SYS/#", 0)];
        assert_eq!(client.subscribe(&filters), [refused, 0, refused, refused, refused, refused]);
    }
    let mut client = Client::device(&fixture, Version::V3, "d1");
    assert_eq!(client.subscribe(&[("$share/g/cmd", 1)]), [0x80]);
    let mut client = Client::device(&fixture, Version::V5, "d1");
    assert_eq!(client.subscribe(&[("$share/g/cmd", 1), ("cmd", 1)]), [0x9e, 1]);
    assert_eq!(client.subscribe_with(&[0x0b, 1], &[("cmd", 1)]), [0xa1]);
}

#[test]
fn a_refused_filter_brings_no_commands() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        client.subscribe(&[("#", 1)]);
        fixture.send("default/d1", "set", b"x");
        client.ping();
    }
}

#[test]
fn a_command_comes_with_its_payload_on_cmd() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1@other");
        client.subscribe(&[("cmd", 1)]);
        let id = fixture.send("other/d1", "set-temp", b"\0{ 40 }");
        let received = client.receive();
        assert_eq!((received.topic.as_str(), received.qos), ("cmd", 1));
        assert_eq!(received.payload, b"\0{ 40 }");
        assert!(outcomes::outcomes(&id).is_empty());
        client.acknowledge(received.id.unwrap());
        outcomes::expect(&id, "delivered puback");
    }
}

#[test]
fn mqtt_5_says_which_command_it_is() {
    let fixture = Fixture::start();
    let mut client = Client::device(&fixture, Version::V5, "d1");
    client.subscribe(&[("cmd", 0)]);
    let mut sent = command(&device_key("default/d1"), "set-temp".parse().unwrap(), b"{}");
    sent.content_type = "application/json".into();
    let id = fixture.send_command(sent);
    let received = client.receive();
    let expiry = [2, 0, 0, 0];
    assert_eq!(received.properties[..4], expiry);
    assert!((1..=30).contains(&received.properties[4]), "never beyond the rest of its life");
    let rest = [
        [vec![3], text("application/json")].concat(),
        user_property("command", "set-temp"),
        user_property("command-id", &id),
    ];
    assert_eq!(received.properties[5..], rest.concat());
    outcomes::expect(&id, "delivered written");
}

#[test]
fn a_command_comes_once_on_the_topic_that_names_it() {
    let fixture = Fixture::start();
    for version in BOTH {
        for filters in [[("cmd/#", 1), ("cmd", 0)].as_slice(), &[("cmd/#", 1)]] {
            let mut client = Client::device(&fixture, version, "d1");
            client.subscribe(filters);
            let id = fixture.send("default/d1", "set", b"x");
            let received = client.receive();
            assert_eq!((received.topic, received.qos), (format!("cmd/set/{id}"), 1));
            client.acknowledge(received.id.unwrap());
            client.ping();
            outcomes::expect(&id, "delivered puback");
        }
    }
}

#[test]
fn unsubscribing_the_last_filter_ends_the_connection() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        client.subscribe(&[("cmd", 0), ("cmd/#", 0)]);
        let codes = client.unsubscribe(&["cmd/#", "x"]);
        assert_eq!(codes, if version == Version::V3 { vec![] } else { vec![0, 0, 17] });
        outcomes::expect(&fixture.send("default/d1", "set", b"1"), "delivered written");
        assert_eq!(client.receive().topic, "cmd");
        client.unsubscribe(&["cmd"]);
        fixture.send("default/d1", "set", b"2");
        client.ping();
    }
}

#[test]
fn subscribing_again_loses_no_queued_command() {
    let config = Config { mqtt_max_unacknowledged: 1, ..Config::default() };
    let fixture = Fixture::with(config, Limits::default());
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        client.subscribe(&[("cmd", 1)]);
        let ids = [b"1", b"2", b"3"].map(|payload| fixture.send("default/d1", "set", payload));
        let first = client.receive();
        assert_eq!(client.subscribe(&[("cmd", 0)]), [0]);
        client.acknowledge(first.id.unwrap());
        assert_eq!(
            [client.receive(), client.receive()].map(|it| (it.payload, it.qos)),
            [(b"2".to_vec(), 0), (b"3".to_vec(), 0)]
        );
        outcomes::expect(&ids[0], "delivered puback");
        outcomes::expect(&ids[2], "delivered written");
        client.disconnect(0);
    }
}

#[test]
fn several_commands_are_under_way_in_order_up_to_receive_maximum() {
    let fixture = Fixture::start();
    let receive_maximum = Connect { properties: vec![0x21, 0, 2], ..Connect::new("d1") };
    let mut client = Client::connect(&fixture, Version::V5, &receive_maximum);
    client.subscribe(&[("cmd", 1)]);
    let payloads = [b"1", b"2", b"3", b"4"];
    let ids = payloads.map(|payload| fixture.send("default/d1", "set", payload));
    let (first, second) = (client.receive(), client.receive());
    client.ping();
    assert_eq!([&first.payload, &second.payload], [b"1", b"2"]);
    // Out of order, as a client may not; the server does not mind.
    client.acknowledge(second.id.unwrap());
    assert_eq!(client.receive().payload, b"3");
    client.ping();
    client.acknowledge(first.id.unwrap());
    assert_eq!(client.receive().payload, b"4");
    outcomes::expect(&ids[0], "delivered puback");
    outcomes::expect(&ids[1], "delivered puback");
}

#[test]
fn a_command_without_puback_is_undelivered_in_time() {
    let config = Config { mqtt_ack_timeout: Duration::from_secs(2), ..Config::default() };
    let fixture = Fixture::with(config, Limits::default());
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        client.subscribe(&[("cmd", 1)]);
        let id = fixture.send("default/d1", "set", b"x");
        let first = client.receive();
        outcomes::expect(&id, "undelivered no-ack");
        // Too late, but told all the same; the session goes on.
        client.acknowledge(first.id.unwrap());
        let next = fixture.send("default/d1", "set", b"y");
        let second = client.receive();
        client.acknowledge(second.id.unwrap());
        outcomes::expect(&next, "delivered puback");
        assert_eq!(outcomes::outcomes(&id), ["undelivered no-ack", "delivered late"]);
        // Once more is no news.
        client.acknowledge(first.id.unwrap());
        client.ping();
        assert_eq!(outcomes::outcomes(&id).len(), 2);
    }
}

#[test]
fn a_device_that_acknowledges_nothing_is_let_go() {
    let config = Config {
        mqtt_ack_timeout: Duration::from_millis(100),
        mqtt_max_unacknowledged: 2,
        ..Config::default()
    };
    let fixture = Fixture::with(config, Limits::default());
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        client.subscribe(&[("cmd", 1)]);
        let ids = [b"1", b"2", b"3"].map(|payload| fixture.send("default/d1", "set", payload));
        client.receive();
        client.receive();
        client.expect_end(0x83);
        outcomes::expect(&ids[0], "undelivered no-ack");
        outcomes::expect(&ids[1], "undelivered no-ack");
        outcomes::expect(&ids[2], "released");
    }
}

#[test]
fn a_puback_that_says_no_is_no_delivery() {
    let fixture = Fixture::start();
    let mut client = Client::device(&fixture, Version::V5, "d1");
    client.subscribe(&[("cmd", 1)]);
    let id = fixture.send("default/d1", "set", b"x");
    let [high, low] = client.receive().id.unwrap().to_be_bytes();
    client.send(&packet(0x40, &[high, low, 0x83]));
    outcomes::expect(&id, "undelivered no-ack");
}

#[test]
fn a_command_on_its_way_when_the_connection_ends_is_lost() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        client.subscribe(&[("cmd", 1)]);
        let id = fixture.send("default/d1", "set", b"x");
        client.receive();
        client.vanish();
        outcomes::expect(&id, "undelivered connection-lost");
    }
}

#[test]
fn a_command_above_the_maximum_packet_size_is_not_sent() {
    let fixture = Fixture::start();
    let small = Connect { properties: vec![0x27, 0, 0, 0, 200], ..Connect::new("d1") };
    let mut client = Client::connect(&fixture, Version::V5, &small);
    client.subscribe(&[("cmd", 1)]);
    outcomes::expect(&fixture.send("default/d1", "set", &[b'x'; 200]), "undelivered overflow");
    let id = fixture.send("default/d1", "set", b"x");
    let received = client.receive();
    client.acknowledge(received.id.unwrap());
    outcomes::expect(&id, "delivered puback");
}

#[test]
fn an_expired_command_is_not_delivered() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        client.subscribe(&[("cmd", 1)]);
        let fresh = command(&device_key("default/d1"), "set".parse().unwrap(), b"x");
        let expired = Command { expires: Clock::system().wall(), ..fresh };
        outcomes::expect(&fixture.send_command(expired), "expired");
        client.ping();
    }
}

#[test]
fn a_device_that_does_not_read_fills_only_its_own_queue() {
    let limits = Limits { command_queue: 20, ..Limits::default() };
    let fixture = Fixture::with(Config::default(), limits);
    static LARGE: [u8; 200_000] = [b'x'; 200_000];
    for (version, qos) in [(Version::V3, 0), (Version::V5, 1)] {
        let mut stuck = Client::device(&fixture, version, "d1");
        stuck.subscribe(&[("cmd", qos)]);
        let mut other = Client::device(&fixture, version, "d2");
        other.subscribe(&[("cmd", 1)]);
        let mut ids = Vec::new();
        eventually_blocking("the queue overflows", || {
            ids.push(fixture.send("default/d1", "set", &LARGE));
            // What the connection takes is bounded: the buffers of the socket, a window and the queue.
            assert!(ids.len() < 200, "nothing overflows");
            ids.iter().any(|id| outcomes::outcomes(id) == ["undelivered overflow"])
        });
        let id = fixture.send("default/d2", "set", b"x");
        let received = other.receive();
        other.acknowledge(received.id.unwrap());
        outcomes::expect(&id, "delivered puback");
        stuck.vanish();
        eventually_blocking("every command has come to an end", || {
            ids.iter().all(|id| outcomes::outcomes(id).len() == 1)
        });
    }
}

#[test]
fn the_newest_connection_gets_the_command() {
    let fixture = Fixture::start();
    for version in BOTH {
        let [mut old, mut new] = ["old", "new"].map(|client_id| {
            let connect = Connect { client_id: client_id.into(), ..Connect::new("d1") };
            let mut client = Client::connect(&fixture, version, &connect);
            client.subscribe(&[("cmd", 0)]);
            client
        });
        fixture.send("default/d1", "set", b"1");
        assert_eq!(new.receive().payload, b"1");
        old.ping();
        new.disconnect(0);
        fixture.wait_for_connections(1);
        fixture.send("default/d1", "set", b"2");
        assert_eq!(old.receive().payload, b"2");
        old.disconnect(0);
    }
}

#[test]
fn an_application_that_answers_at_once_is_not_too_early() {
    let fixture = Fixture::start();
    fixture.channel.on_publish(|channel, _, event| {
        channel.send(command(&event.device, "set".parse().unwrap(), b"now"));
    });
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        client.subscribe(&[("cmd", 0)]);
        for id in 1..=100 {
            client.publish("t", 1, id, b"x");
            let mut kinds = [client.read().kind, client.read().kind];
            kinds.sort_unstable();
            assert_eq!(kinds, [3, 4]);
        }
    }
}
