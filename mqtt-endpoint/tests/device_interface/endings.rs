//! How sessions end: DISCONNECT, takeover, revocation, shutdown, silence; and the will.

use common::testing::eventually_blocking;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::event::OCTET_STREAM;
use common::service::{Clock, Limits};
use common::time::Timestamp;
use mqtt_endpoint::Config;

use crate::client::{BOTH, Client, Connect, DISCONNECT, Version, Will, text};
use crate::fixture::{Fixture, Setup, device_key};
use crate::outcomes;

#[test]
fn the_same_client_id_takes_the_session_over() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut old = Client::device(&fixture, version, "d1");
        old.subscribe(&[("cmd", 1)]);
        let mut new = Client::device(&fixture, version, "d1");
        new.subscribe(&[("cmd", 1)]);
        let id = fixture.send("default/d1", "set", b"x");
        old.expect_end(0x8e);
        drop(old);
        // The late close of the old connection takes nothing from the new one.
        let received = new.receive();
        new.acknowledge(received.id.unwrap());
        outcomes::expect(&id, "delivered puback");
        new.disconnect(0);
    }
}

#[test]
fn another_device_takes_nothing_over() {
    let fixture = Fixture::start();
    for version in BOTH {
        let [mut first, mut second, mut third] =
            ["d1", "d2", "d1@other"].map(|user| Client::connect(&fixture, version, &Connect::new(user)));
        for client in [&mut first, &mut second, &mut third] {
            client.ping();
        }
    }
}

#[test]
fn a_login_that_fails_takes_nothing_over() {
    let fixture = Fixture::start();
    for version in BOTH {
        let mut held = Client::connect(&fixture, version, &Connect::new("d1"));
        let wrong = Connect { password: Some(b"wrong".to_vec()), ..Connect::new("d1") };
        let (_client, connack) = Client::try_connect(&fixture, version, &wrong);
        assert_ne!(connack.body[1], 0);
        held.ping();
        held.disconnect(0);
    }
}

#[test]
fn a_device_that_was_changed_is_shut_out() {
    let fixture = Fixture::start();
    for version in BOTH {
        fixture.authenticator.set(&device_key("default/d1"), crate::fixture::PASSWORD);
        let connect = Connect { will: Some(Will::new("last-words")), ..Connect::new("d1") };
        let mut client = Client::connect(&fixture, version, &connect);
        client.subscribe(&[("cmd", 1)]);
        fixture.authenticator.remove(&device_key("default/d1"));
        client.expect_end(0x87);
        let (_client, connack) = Client::try_connect(&fixture, version, &connect);
        assert_ne!(connack.body[1], 0);
    }
    assert!(fixture.telemetry().is_empty(), "the will of a device that was shut out");
}

#[test]
fn a_will_is_telemetry_when_the_connection_is_lost() {
    let fixture = Fixture::start();
    for (index, version) in BOTH.into_iter().enumerate() {
        let properties = match version {
            Version::V3 => Vec::new(),
            // Will Delay, which counts as 0, and a content type.
            Version::V5 => [vec![0x18, 0, 0, 0xff, 0xff, 3], text("text/plain")].concat(),
        };
        let will = Will { properties, ..Will::new("state/online") };
        let client = Client::connect(&fixture, version, &Connect { will: Some(will), ..Connect::new("d1") });
        client.vanish();
        let event = fixture.wait_for_telemetry(index + 1).swap_remove(index);
        assert_eq!((event.device.as_str(), event.subject.as_str()), ("default/d1", "state/online"));
        let content_type = if version == Version::V3 { OCTET_STREAM } else { "text/plain" };
        assert_eq!((&event.data[..], event.content_type.as_ref()), (b"gone".as_slice(), content_type));
    }
}

#[test]
fn a_will_is_kept_back_by_disconnect_but_not_by_0x04() {
    let fixture = Fixture::start();
    let connect = |topic: &str| Connect { will: Some(Will::new(topic)), ..Connect::new("d1") };
    for version in BOTH {
        Client::connect(&fixture, version, &connect("kept-back")).disconnect(0);
    }
    Client::connect(&fixture, Version::V5, &connect("wanted")).disconnect(4);
    assert_eq!(fixture.wait_for_telemetry(1)[0].subject, "wanted");
    let old = Client::connect(&fixture, Version::V3, &connect("taken-over"));
    let _new = Client::connect(&fixture, Version::V3, &Connect::new("d1"));
    assert_eq!(fixture.wait_for_telemetry(2)[1].subject, "taken-over");
    drop(old);
    assert_eq!(fixture.telemetry().len(), 2);
}

#[test]
fn a_silent_device_is_let_go() {
    let fixture = Fixture::start();
    for version in BOTH {
        let connect = Connect { keep_alive: 1, will: Some(Will::new("silence")), ..Connect::new("d1") };
        let mut silent = Client::connect(&fixture, version, &connect);
        silent.expect_silence_end();
    }
    assert_eq!(fixture.wait_for_telemetry(2)[1].subject, "silence");
}

impl Client {
    /// Expects the end of a session without closing this side first, which would be heard.
    fn expect_silence_end(&mut self) {
        match self.version {
            Version::V3 => assert_eq!(self.try_read().unwrap(), None),
            Version::V5 => assert_eq!((self.read().kind, self.try_read().unwrap()), (DISCONNECT, None)),
        }
    }
}

#[test]
fn a_device_that_is_held_up_by_the_channel_is_not_silent() {
    let config = Config { mqtt_max_in_flight: 1, ..Config::default() };
    let fixture = Fixture::with(config, Limits::default());
    fixture.channel.hold();
    let mut client = Client::connect(&fixture, Version::V3, &Connect { keep_alive: 2, ..Connect::new("d1") });
    client.publish("t", 1, 1, b"x");
    eventually_blocking("it is in flight", || fixture.channel.held() == 1);
    client.send(&[0xc0, 0]);
    std::thread::sleep(Duration::from_secs(4));
    fixture.channel.release(Ok(()));
    assert_eq!(client.puback(), (1, 0));
    assert_eq!(client.read().kind, crate::client::PINGRESP);
}

#[test]
fn a_wall_clock_that_jumps_changes_nothing_for_a_session() {
    let offset = Arc::new(AtomicI64::new(0));
    let (jumping, system) = (offset.clone(), Clock::system());
    let clock = Clock::with_wall(move || {
        Timestamp::from_millis(system.wall().as_millis() + jumping.load(Ordering::Relaxed))
    });
    let fixture = Fixture::set_up(Setup { clock, ..Setup::default() });
    let mut client =
        Client::connect(&fixture, Version::V5, &Connect { keep_alive: 60, ..Connect::new("d1") });
    for hours in [1, -1, 1_000_000] {
        offset.store(hours * 3_600_000, Ordering::Relaxed);
        client.publish("t", 1, 1, b"x");
        assert_eq!(client.puback(), (1, 0));
    }
}

#[test]
fn a_shutdown_flushes_acknowledgements_and_says_goodbye() {
    for version in BOTH {
        let mut fixture = Fixture::start();
        let mut busy = Client::device(&fixture, version, "d1");
        let mut idle = Client::device(&fixture, version, "d2");
        idle.subscribe(&[("cmd", 1)]);
        let mut unborn = Client::open(&fixture, version);
        fixture.channel.hold();
        busy.publish("t", 1, 1, b"x");
        eventually_blocking("it is in flight", || fixture.channel.held() == 1);
        fixture.shutdown.cancel();
        idle.expect_end(0x8b);
        unborn.expect_close();
        fixture.channel.release(Ok(()));
        assert_eq!(busy.puback(), (1, 0));
        busy.expect_end(0x8b);
        fixture.stop().unwrap();
    }
}

#[test]
fn a_shutdown_ends_within_the_grace_time() {
    let config = Config { grace: Duration::from_secs(2), ..Config::default() };
    let mut fixture = Fixture::with(config, Limits::default());
    fixture.channel.hold();
    let mut client = Client::device(&fixture, Version::V5, "d1");
    client.publish("t", 1, 1, b"x");
    eventually_blocking("it is in flight", || fixture.channel.held() == 1);
    fixture.stop().unwrap();
    // No PUBACK for what the channel has not acknowledged.
    client.expect_end(0x8b);
}

#[test]
fn a_disconnect_while_the_channel_is_silent_leaves_nothing_behind() {
    let fixture = Fixture::start();
    fixture.channel.hold();
    for (index, version) in BOTH.into_iter().enumerate() {
        let mut client = Client::device(&fixture, version, "d1");
        client.publish("t", 1, 1, b"x");
        eventually_blocking("it is in flight", || fixture.channel.held() == index + 1);
        client.vanish();
    }
    // The shutdown at the end of the test waits for every connection: none may be stuck.
    fixture.channel.release(Ok(()));
    Client::device(&fixture, Version::V3, "d1").disconnect(0);
}
