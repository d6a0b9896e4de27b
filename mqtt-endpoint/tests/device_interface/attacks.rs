//! Packets that are made to do harm. After each the endpoint must serve others as before.

use std::io::Write;

use common::testing::eventually_blocking;

use crate::client::{BOTH, Client, Connect, Version, packet};
use crate::fixture::Fixture;

/// Expects that the server closes a connection, whatever it says before that.
pub(crate) fn expect_closed(mut client: Client) {
    while client.try_read().unwrap().is_some() {
        drop(client.stream.shutdown(std::net::Shutdown::Write));
    }
}

#[test]
fn a_length_is_not_believed_after_connect_either() {
    let fixture = Fixture::start();
    for version in BOTH {
        for first in [0x30, 0x82, 0xa2, 0xe0, 0x40] {
            let mut client = Client::device(&fixture, version, "d1");
            client.send(&[first, 0xff, 0xff, 0xff, 0x7f]);
            client.expect_end(0x95);
        }
    }
}

#[test]
fn malformed_packets_end_the_session() {
    let fixture = Fixture::start();
    let packets: [&[u8]; 12] = [
        // Topic, packet identifier or properties beyond the end of the packet.
        b"\x30\x01\0",
        b"\x30\x03\0\x09a",
        b"\x32\x03\0\x01a",
        // Packet identifier 0, QoS 3, invalid UTF-8.
        b"\x32\x06\0\x01a\0\0\0",
        b"\x36\x06\0\x01a\0\x01\0",
        b"\x30\x05\0\x02\xff\xfe\0",
        // Types that are the server's, or nobody's; wrong flags; SUBSCRIBE of nothing.
        b"\x00\0",
        b"\x20\x02\0\0",
        b"\x80\x06\0\x01\0\x01a\0",
        b"\x90\x03\0\x01\0",
        b"\xd0\0",
        b"\x82\x03\0\x01\0",
    ];
    for version in BOTH {
        for bytes in packets {
            let mut client = Client::device(&fixture, version, "d1");
            client.send(bytes);
            expect_closed(client);
        }
    }
    assert!(fixture.telemetry().is_empty());
    Client::device(&fixture, Version::V3, "d1").ping();
}

#[test]
fn reserved_bits_of_a_subscription_end_the_session() {
    let fixture = Fixture::start();
    for (version, options) in [(Version::V3, 0x05), (Version::V3, 0x81), (Version::V5, 0x41)] {
        let mut client = Client::device(&fixture, version, "d1");
        let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        client.send(&packet(0x82, &[&[0, 7], properties, b"\0\x03cmd", &[options]].concat()));
        client.expect_end(0x81);
    }
}

#[test]
fn bad_properties_end_the_session() {
    let fixture = Fixture::start();
    for properties in [
        // Unknown, of another packet, twice, cut off, a topic alias of 0, a server's subscription identifier.
        vec![0x7f, 0],
        vec![0x24, 1],
        vec![0x01, 1, 0x01, 1],
        vec![0x02, 0],
        vec![0x23, 0, 0],
        vec![0x0b, 5],
    ] {
        let mut client = Client::device(&fixture, Version::V5, "d1");
        client.publish_with("t", 1, 1, &properties, b"x");
        expect_closed(client);
    }
    assert!(fixture.telemetry().is_empty());
}

#[test]
fn a_flood_of_qos_2_with_one_identifier_is_no_flood() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        let flood = crate::client::publish(version, "t", 2, 1, &[], &[0; 100]).repeat(1000);
        // The server may close before all is sent.
        drop(client.stream.write_all(&flood));
        expect_closed(client);
    }
    assert!(fixture.telemetry().is_empty());
}

#[test]
fn a_flood_of_publishes_stays_within_the_window() {
    let fixture = Fixture::start();
    fixture.channel.hold();
    for version in BOTH {
        let held = fixture.channel.held();
        let mut client = Client::device(&fixture, version, "d1");
        client.stream.set_nonblocking(true).unwrap();
        let flood = crate::client::publish(version, "t", 0, 0, &[], &[0; 60_000]);
        let mut sent = 0;
        eventually_blocking("the server stops reading", || {
            match client.stream.write(&flood[sent..]) {
                Ok(written) => sent = (sent + written) % flood.len(),
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
            false
        });
        eventually_blocking("the window fills", || fixture.channel.held() - held == 9);
    }
}

#[test]
fn a_device_cannot_name_another_one() {
    let fixture = Fixture::start();
    for version in BOTH {
        let connect = Connect { client_id: "d2".into(), ..Connect::new("d1") };
        let mut client = Client::connect(&fixture, version, &connect);
        for (index, topic) in ["default/d2/t", "d2", "other/d1"].into_iter().enumerate() {
            client.publish(topic, 1, index as u16 + 1, b"x");
            assert_eq!(client.puback().1, 0);
        }
        client.subscribe(&[("cmd/d2", 1), ("d2/cmd", 1), ("default/d2/cmd/#", 1)]);
        fixture.send("default/d2", "set", b"secret");
        client.ping();
    }
    assert!(fixture.telemetry().iter().all(|event| event.device.as_str() == "default/d1"));
}
