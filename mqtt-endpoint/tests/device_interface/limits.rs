//! Limits on connections.

use common::testing::eventually_blocking;
use std::time::Duration;

use common::service::Limits;
use mqtt_endpoint::Config;

use crate::client::{BOTH, Client, Connect, Version};
use crate::fixture::Fixture;

#[test]
fn a_connection_that_says_nothing_is_closed_in_time() {
    let config = Config { mqtt_connect_timeout: Duration::from_millis(200), ..Config::default() };
    let fixture = Fixture::with(config, Limits::default());
    let connect = Connect::new("d1").packet(Version::V5);
    for sent in [0, 1, 5, connect.len() - 1] {
        let mut client = Client::open(&fixture, Version::V5);
        client.send(&connect[..sent]);
        assert_eq!(client.try_read().unwrap(), None, "{sent} bytes");
    }
}

#[test]
fn connections_in_all_are_limited() {
    let fixture = Fixture::with(Config { max_connections: 2, ..Config::default() }, Limits::default());
    let [mut first, second] = ["d1", "d2"].map(|user| Client::device(&fixture, Version::V3, user));
    let mut third = Client::open(&fixture, Version::V3);
    assert_eq!(third.try_read().unwrap(), None);
    first.ping();
    second.disconnect(0);
    eventually_blocking("there is room again", || {
        let mut client = Client::open(&fixture, Version::V3);
        drop(std::io::Write::write_all(&mut client.stream, &Connect::new("d2").packet(Version::V3)));
        client.try_read().is_ok_and(|packet| packet.is_some())
    });
}

#[test]
fn the_longest_packet_is_an_option() {
    let config = Config { mqtt_max_packet_size: Some(2000), ..Config::default() };
    let fixture = Fixture::with(config, Limits::default());
    for version in BOTH {
        let mut client = Client::device(&fixture, version, "d1");
        let head = 1 + 2 + 2 + 1 + 2 + usize::from(version == Version::V5);
        client.publish("t", 1, 1, &vec![b'x'; 2000 - head]);
        assert_eq!(client.puback(), (1, 0));
        client.publish("t", 1, 2, &vec![b'x'; 2001 - head]);
        client.expect_end(0x95);
    }
}

#[test]
fn a_device_that_sends_in_small_pieces_is_understood() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut client = Client::open(&fixture, version);
        let mut bytes = Connect::new("d1").packet(version);
        bytes.extend(crate::client::publish(version, "t", 1, 1, &[], b"slow"));
        for byte in bytes {
            client.send(&[byte]);
        }
        assert_eq!(client.read().body[1], 0);
        assert_eq!(client.puback(), (1, 0));
    }
    assert_eq!(&fixture.telemetry()[0].data[..], b"slow");
}
