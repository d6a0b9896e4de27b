//! Attacks over MQTT, each by its class. Those that every protocol knows are scenarios.

use std::net::SocketAddr;

use tests::cloud::Cloud;
use tests::devices::{DeviceDriver, HttpDevice, MqttDevice};
use tests::mqtt::wire::{self, Connect, Packet, Will};
use tests::mqtt::{Client, Refused, Version};
use tests::process::resident_memory;
use tests::raw::Raw;
use tests::secrets::payload;
use tests::server::{Server, shared};
use tests::wait::eventually;

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

/// What memory may grow by and still be called flat, in bytes.
const FLAT: u64 = 48 * 1024 * 1024;

/// Checks that an attack leaves the server's memory flat, and the server serving.
async fn flat_memory(server: &Server, attack: impl Future<Output = ()>) {
    let before = resident_memory(server.pid());
    attack.await;
    let grown = resident_memory(server.pid()).saturating_sub(before);
    assert!(grown < FLAT, "memory has grown by {grown} bytes");
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    assert_eq!(MqttDevice::<true>.publish(tenant.gate(), &device, "a", b"x").await, Ok(()));
}

#[tokio::test]
async fn attack_memory_before_connect() {
    let server = Server::start(&["--mqtt-connect-timeout=2s"]).await;
    let address = server.cloud().addresses.mqtt;
    flat_memory(&server, async {
        let mut connections = Vec::new();
        for _ in 0..20 {
            // 256 MB announced, 64 KiB sent.
            let mut connection = Raw::connect(address).await;
            connection.send([0x10, 0xff, 0xff, 0xff, 0x7f]).await;
            connection.send(vec![0; 64 * 1024]).await;
            connections.push(connection);
        }
        for connection in &mut connections {
            connection.read_to_end().await;
        }
    })
    .await;
    // What is no CONNECT, and lengths that are none.
    let mut firsts: Vec<Vec<u8>> =
        (0..=15).filter(|kind| *kind != 1).map(|kind| vec![kind << 4, 0xff, 0x7f]).collect();
    firsts.push(vec![0x10, 0xff, 0xff, 0xff, 0xff, 0x01]);
    firsts.push(wire::publish(Version::V311, b"a", 1, 1, b"x"));
    for first in firsts {
        let mut connection = Raw::connect(address).await;
        connection.send(&first).await;
        connection.read_to_end().await;
    }
}

#[tokio::test]
async fn attack_in_flight_flood() {
    let server = Server::start(&[]).await;
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    flat_memory(&server, async {
        for version in VERSIONS {
            let mut client = Client::connect(tenant.gate().mqtt, version, &device).await.unwrap();
            // The same id at QoS 2, again and again, and never a PUBREL (CVE-2023-28366).
            let publish = wire::publish(version, b"a", 2, 7, &vec![b'x'; 1024]);
            for _ in 0..20_000 {
                if client.try_send(&publish).await.is_err() {
                    break;
                }
            }
            let said = (version == Version::V5).then_some(0x9b);
            // The reset by what is still under way may overtake the DISCONNECT.
            let code = client.closed().await;
            assert!(code == said || code.is_none(), "{code:?}");
        }
    })
    .await;
    let mut client = Client::connect(tenant.gate().mqtt, Version::V5, &device).await.unwrap();
    assert_eq!(client.publish("a", 2, b"x").await, Err(Refused::Disconnect(0x9b)));
}

#[tokio::test]
async fn attack_properties() {
    let server = Server::start(&[]).await;
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    let pair = [&[0x26][..], &wire::text(b"key"), &wire::text(&[b'v'; 200])].concat();
    flat_memory(&server, async {
        for round in 0..3_000 {
            // A will delay twice, a property that a will does not have, a length beyond the packet, 300 pairs.
            let properties = match round % 4 {
                0 => vec![0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 2],
                1 => vec![0x22, 0xff, 0xff],
                2 => vec![0x03, 0xff, 0xff, b'x'],
                _ => pair.repeat(300),
            };
            let will = Will { topic: "a".into(), payload: payload(), properties };
            let connect = Connect { will: Some(will), ..Connect::of(Version::V5, &device) };
            let mut connection = Raw::connect(tenant.gate().mqtt).await;
            connection.send(connect.encode()).await;
            if round % 4 != 3 {
                connection.finish().await;
                let answer = connection.read_to_end().await;
                assert!(!answer.as_bytes().starts_with(&[0x20, 3, 0, 0]), "bad properties were accepted");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn attack_topic_shape() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    let topics: [&[u8]; 9] =
        [&[b'/'; 65_000], b"", b"a\0b", b"\0", b"\xff\xfe", b"\xc0\x80", b"a/\xed\xa0\x80", b"a/+/b", b"#"];
    for topic in topics {
        for version in VERSIONS {
            for qos in [0, 1] {
                let mut client = Client::connect(tenant.gate().mqtt, version, &device).await.unwrap();
                client.send(&wire::publish(version, topic, qos, 1, b"x")).await;
                let shown = String::from_utf8_lossy(&topic[..topic.len().min(20)]).into_owned();
                assert_refused(&mut client, version, qos, &shown).await;
            }
        }
    }
    MqttDevice::<true>.publish(tenant.gate(), &device, "good", b"x").await.unwrap();
    assert_eq!(stream.next().await.attribute("subject"), "good");
}

/// Refused is: closed, with a DISCONNECT or not, or in version 5 at QoS 1 a PUBACK that says so.
async fn assert_refused(client: &mut Client, version: Version, qos: u8, topic: &str) {
    match client.next().await {
        None => {}
        Some(Packet::Disconnect { code, .. }) => assert!(code >= 0x80, "{topic:?}: {code:#x}"),
        Some(Packet::PubAck { code, .. }) if version == Version::V5 && qos == 1 => {
            assert!(code >= 0x80, "{topic:?}: {code:#x}");
        }
        Some(packet) => panic!("{topic:?} at QoS {qos} in {version:?}: {packet:?}"),
    }
}

#[tokio::test]
async fn attack_subscriptions_to_what_is_not_its_own() {
    let tenant = shared().cloud().tenant().await;
    let (device, victim) = (tenant.device().await, tenant.device().await);
    let filters = [
        "#",
        "+",
        "+/#",
        "cmd/+",
        "cmd/+/+",
        "/cmd",
        "cmd/",
        "CMD",
        "$SYS/#",
        "$share/g/cmd",
        &format!("cmd/{}", victim.name),
        &format!("{}/{}/#", tenant.app, victim.name),
    ];
    for version in VERSIONS {
        let refused = if version == Version::V5 { 0x87 } else { 0x80 };
        let mut client = Client::connect(tenant.gate().mqtt, version, &device).await.unwrap();
        for filter in filters {
            // Version 5 has a word of its own for shared subscriptions that are not supported.
            let code = if version == Version::V5 && filter.starts_with("$share") { 0x9e } else { refused };
            assert_eq!(client.subscribe(&[(filter, 0)]).await, Ok(vec![code]), "{filter}");
        }
        assert_eq!(client.subscribe(&[("#", 0), ("cmd", 2), ("x", 1)]).await, Ok(vec![refused, 1, refused]));
        tenant.command(&victim, "theirs", &payload()).await;
        tenant.command(&device, "mine", &payload()).await;
        assert_eq!(client.message().await.map(|message| message.topic), Some("cmd".into()));
        client.disconnect().await;
    }
}

#[tokio::test]
async fn attack_identity_in_client_id() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    let mut accepted = 0;
    for client_id in ["#", "+", "a/b", "../x", "d@other", "$SYS", "ä", &"x".repeat(500)] {
        for version in VERSIONS {
            let connect = Connect { client_id: client_id.to_owned(), ..Connect::of(version, &device) };
            // Whether such a client id is taken or not: it makes no other device of it.
            if let Ok(mut client) = Client::connect_with(tenant.gate().mqtt, &connect).await {
                client.publish("a", 1, b"x").await.unwrap();
                assert_eq!(stream.next().await.attribute("device"), device.name, "{client_id:?}");
                accepted += 1;
            }
        }
    }
    assert!(accepted > 0, "client ids are free text");
}

#[tokio::test]
async fn attack_keep_alive() {
    let server = Server::start(&["--mqtt-max-keep-alive=1"]).await;
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    for keep_alive in [0, 65_535] {
        for version in VERSIONS {
            let connect = Connect { keep_alive, ..Connect::of(version, &device) };
            let mut client = Client::connect_with(tenant.gate().mqtt, &connect).await.unwrap();
            if version == Version::V5 {
                assert_eq!(client.connected.number(0x13), Some(1), "Server Keep Alive");
            }
            let said = (version == Version::V5).then_some(0x8d);
            assert_eq!(client.closed().await, said, "a silent client of keep-alive {keep_alive} is closed");
        }
    }
    let device = shared().cloud().tenant().await.device().await;
    for (asked, granted) in [(0, Some(1200)), (65_535, Some(1200)), (60, None)] {
        let connect = Connect { keep_alive: asked, ..Connect::of(Version::V5, &device) };
        let client = Client::connect_with(shared().cloud().addresses.mqtt, &connect).await.unwrap();
        assert_eq!(client.connected.number(0x13), granted, "asked for {asked}");
    }
}

#[tokio::test]
async fn attack_malformed_credentials() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let of = |version| Connect::of(version, &device);
    for version in VERSIONS {
        let attempts = [
            Connect { user: None, password: None, ..of(version) },
            Connect { password: None, ..of(version) },
            Connect { user: None, ..of(version) },
            Connect { user: Some(String::new()), ..of(version) },
            Connect { user: Some("\0".into()), ..of(version) },
            Connect { password: Some(format!("{}\0", device.secret)), ..of(version) },
        ];
        for attempt in attempts {
            let refused = Client::connect_with(tenant.gate().mqtt, &attempt).await;
            assert!(refused.is_err(), "{version:?}: user {:?} was let in", attempt.user);
        }
    }
}

#[tokio::test]
async fn attack_revocation_and_will() {
    let tenant = shared().cloud().tenant().await;
    let mut stream = tenant.telemetry().await;
    let will =
        |topic: &str| Some(Will { topic: topic.to_owned(), payload: payload(), properties: Vec::new() });
    for version in VERSIONS {
        let revoked = tenant.device().await;
        let connect = Connect { will: will("of-the-revoked"), ..Connect::of(version, &revoked) };
        let mut client = Client::connect_with(tenant.gate().mqtt, &connect).await.unwrap();
        tenant.api.delete(&tenant.path(&revoked)).await.expect_status(204);
        client.closed().await;
        // What the device may not publish, its will may not either: that is told at CONNECT.
        let device = tenant.device().await;
        for topic in ["cmd", "commands/x", "a/+", "#", ""] {
            let connect = Connect { will: will(topic), ..Connect::of(version, &device) };
            let refused = Client::connect_with(tenant.gate().mqtt, &connect).await;
            assert!(refused.is_err(), "{version:?}: a will for {topic:?} was accepted");
        }
        // The one that is allowed shows that wills are published, and that the others would have been by now.
        let connect = Connect { will: will("allowed"), ..Connect::of(version, &device) };
        drop(Client::connect_with(tenant.gate().mqtt, &connect).await.unwrap());
        let received = stream.next().await;
        assert_eq!(
            (received.attribute("subject"), received.attribute("device")),
            ("allowed", &device.name[..])
        );
    }
}

#[tokio::test]
async fn attack_takeover_by_another_identity() {
    let (tenant, other) = (shared().cloud().tenant().await, shared().cloud().tenant().await);
    let victim = tenant.device().await;
    for attacker in [tenant.device().await, other.device().await] {
        for version in VERSIONS {
            let with_id = |device| Connect { client_id: victim.name.clone(), ..Connect::of(version, device) };
            let address = tenant.gate().mqtt;
            let mut client = Client::connect_with(address, &with_id(&victim)).await.unwrap();
            client.subscribe(&[("cmd", 1)]).await.unwrap();
            let mut attack = Client::connect_with(address, &with_id(&attacker)).await.unwrap();
            attack.subscribe(&[("cmd", 1)]).await.unwrap();
            let denied = victim.with_secret("wrong");
            assert!(Client::connect_with(address, &with_id(&denied)).await.is_err());
            tenant.command(&victim, "theirs", &payload()).await;
            assert!(client.message().await.is_some(), "the session of the victim goes on");
            attack.ping().await;
            assert_eq!(attack.waiting_messages(), 0);
        }
    }
}

#[tokio::test]
async fn attack_slow_clients() {
    let server = Server::start(&["--mqtt-connect-timeout=1s", "--mqtt-max-keep-alive=2"]).await;
    let cloud: &Cloud = server.cloud();
    // TCP alone, a TLS handshake that does not begin, half a CONNECT, half a CONNECT through plain on the TLS port.
    let half: &[u8] = &[0x10, 60, 0, 4, b'M', b'Q'];
    let cases: [(SocketAddr, &[u8]); 4] = [
        (cloud.addresses.mqtt, b""),
        (cloud.addresses.mqtts, b""),
        (cloud.addresses.mqtt, half),
        (cloud.addresses.mqtts, &[0x16, 3, 1, 0, 200, 1]),
    ];
    for (address, bytes) in cases {
        let mut connection = Raw::connect(address).await;
        connection.send(bytes).await;
        connection.read_to_end().await;
    }
    // Half a PUBLISH and then silence: keep-alive counts whole packets.
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let mut client = Client::connect(tenant.gate().mqtt, Version::V311, &device).await.unwrap();
    client.send(&wire::publish(Version::V311, b"a", 1, 1, b"xxxxxxxx")[..6]).await;
    assert_eq!(client.closed().await, None);
    // Those who come after are served.
    eventually("others are served", || async {
        HttpDevice.publish(tenant.gate(), &device, "a", b"x").await.ok()
    })
    .await;
}
