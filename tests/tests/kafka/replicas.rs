//! Rows 12, 14, 21, 23 and 26: several replicas that hold the same device, one after the other.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use common::channel::Channel;
use tests::cloud::Gate;
use tests::devices::{DeviceDriver, HttpDevice};
use tests::fleet::{Fleet, Kind, Shape, shared};
use tests::kafka::Topics;
use tests::mqtt::{Client, Version};
use tests::outcomes::Outcomes;
use tests::process::Signal;
use tests::secrets::payload;
use tests::tenant::{Device, Tenant};
use tests::wait::within;
use tests::waiting::LONG;
use tokio_util::sync::CancellationToken;

const TAKEN_OVER: u8 = 0x8e;
const NOT_AUTHORIZED: u8 = 0x87;

async fn subscribed(gate: Gate, version: Version, device: &Device) -> Client {
    Client::subscribed(gate.mqtt, version, device, "cmd").await
}

async fn assert_gets_the_next(tenant: &Tenant, device: &Device, client: &mut Client) {
    let mut outcomes = Outcomes::of(tenant, device).await;
    let sent = payload();
    let id = tenant.command(device, "next", &sent).await;
    assert_eq!(client.message().await.unwrap().payload, sent.as_bytes());
    assert_eq!(outcomes.until_settled(&id).await, ["delivered: puback"], "it has one owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_14_the_same_client_id_on_another_replica_takes_the_session_over() {
    let Some(fleet) = shared("row 14") else { return };
    let tenant = fleet.cloud().tenant().await;
    let gates = fleet.cloud().gates();
    for version in [Version::V311, Version::V5] {
        let device = tenant.device().await;
        let mut old = subscribed(gates[0], version, &device).await;
        for round in 1..=6 {
            let mut new = subscribed(gates[round % 2], version, &device).await;
            let said = (version == Version::V5).then_some(TAKEN_OVER);
            assert_eq!(old.closed().await, said, "round {round}");
            assert_gets_the_next(&tenant, &device, &mut new).await;
            // What the old replica does about its end comes late, and must not end the new session.
            new.ping().await;
            assert_gets_the_next(&tenant, &device, &mut new).await;
            assert_eq!(new.waiting_messages(), 0, "each command comes once");
            old = new;
        }
    }
}

/// Commands that are sent while a device moves to and fro: each has one owner, and what is told of it is what it saw.
#[tokio::test(flavor = "multi_thread")]
async fn row_14_a_device_that_moves_under_load_gets_each_command_once_by_its_one_owner() {
    const MOVES: usize = 40;
    let Some(fleet) = shared("row 14 under load") else { return };
    let tenant = fleet.cloud().tenant().await;
    let device = tenant.device().await;
    let stop = CancellationToken::new();
    let senders: Vec<_> = (0..3).map(|_| tokio::spawn(send_until(&tenant, &device, &stop))).collect();
    let mut connections = tokio::task::JoinSet::new();
    for round in 0..MOVES {
        let client = subscribed(fleet.cloud().gates()[round % 2], Version::V5, &device).await;
        connections.spawn(receive_all(client));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    let mut ends = HashMap::new();
    let mut outcomes = Outcomes::of(&tenant, &device).await;
    for sender in senders {
        for id in sender.await.unwrap() {
            ends.insert(id.clone(), outcomes.end(&id).await);
        }
    }
    tenant.api.delete(&tenant.path(&device)).await.expect_status(204);
    let mut received = Vec::new();
    while let Some(ids) = connections.join_next().await {
        received.extend(ids.unwrap());
    }
    let different: HashSet<_> = received.iter().collect();
    eprintln!("{MOVES} moves: {} commands sent, {} received", ends.len(), received.len());
    assert_eq!(different.len(), received.len(), "a command came twice");
    assert!(received.len() > MOVES, "{} of {} commands came", received.len(), ends.len());
    for (id, end) in &ends {
        let fits = match end.as_str() {
            "delivered: puback" => different.contains(id),
            "undelivered: not-connected" => !different.contains(id),
            "undelivered: connection-lost" => true,
            _ => false,
        };
        assert!(fits, "{id}: {end}; received: {}", different.contains(id));
    }
}

/// Sends commands without `ttl` as fast as they are accepted, and returns their ids.
fn send_until(
    tenant: &Tenant,
    device: &Device,
    stop: &CancellationToken,
) -> impl Future<Output = Vec<String>> + Send + 'static {
    let (tenant, device, stop) = (tenant.clone(), device.clone(), stop.clone());
    async move {
        let mut ids = Vec::new();
        while !stop.is_cancelled() {
            ids.push(tenant.command(&device, "moving", &payload()).await);
        }
        ids
    }
}

/// Receives until the session ends, and returns the ids of the commands.
async fn receive_all(mut client: Client) -> Vec<String> {
    let mut ids = Vec::new();
    while let Some(message) = client.message().await {
        ids.extend(message.properties.user("command-id").map(str::to_owned));
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn row_14_sessions_that_connect_at_the_same_time_leave_one() {
    let Some(fleet) = shared("row 14") else { return };
    let tenant = fleet.cloud().tenant().await;
    let gates = fleet.cloud().gates();
    for _ in 0..10 {
        let device = tenant.device().await;
        let mut outcomes = Outcomes::of(&tenant, &device).await;
        let at = |gate: usize| {
            let (gate, device) = (gates[gate], device.clone());
            async move {
                let mut client = Client::connect(gate.mqtt, Version::V5, &device).await.unwrap();
                // The one that loses may be ended before it has its SUBACK.
                client.subscribe(&[("cmd", 1)]).await.ok().map(|_| client)
            }
        };
        let (one, other) = tokio::join!(at(0), at(1));
        let id = tenant.command(&device, "only-once", &payload()).await;
        let mut got = Vec::new();
        for mut client in [one, other].into_iter().flatten() {
            got.push(within("a command or the end", client.message()).await.is_some());
        }
        assert_eq!(got.iter().filter(|got| **got).count(), 1, "{got:?}");
        assert_eq!(outcomes.until_settled(&id).await, ["delivered: puback"], "it has one owner");
    }
}

/// A command that the old replica's session did not acknowledge: only one with `ttl` comes again, on the new replica.
#[tokio::test(flavor = "multi_thread")]
async fn row_12_a_device_that_reconnects_to_another_replica_gets_a_command_again_only_with_ttl() {
    let Some(fleet) = shared("row 12") else { return };
    let tenant = fleet.cloud().tenant().await;
    let gates = fleet.cloud().gates();
    for version in [Version::V311, Version::V5] {
        let device = tenant.device().await;
        let mut outcomes = Outcomes::of(&tenant, &device).await;
        let mut old = subscribed(gates[0], version, &device).await;
        let plain = tenant.command(&device, "plain", &payload()).await;
        old.unacknowledged_message().await.unwrap();
        let sent = payload();
        let kept = tenant.submit(&device, "kept?ttl=10m", &sent).await.expect_status(202).json();
        let kept = kept["id"].as_str().unwrap().to_owned();
        old.unacknowledged_message().await.unwrap();
        let mut new = subscribed(gates[1], version, &device).await;
        let again = new.message().await.unwrap();
        assert_eq!((&again.payload[..], again.dup), (sent.as_bytes(), false));
        old.closed().await;
        assert_eq!(outcomes.until_settled(&plain).await, ["undelivered: connection-lost"]);
        let told = ["pending", "pending: connection-lost", "delivered: puback"];
        assert_eq!(outcomes.until_settled(&kept).await, told, "{version:?}");
        new.ping().await;
        assert_eq!(new.waiting_messages(), 0, "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_26_a_revoked_device_is_out_on_every_replica() {
    let Some(fleet) = shared("row 26") else { return };
    let tenant = fleet.cloud().tenant().await;
    let device = tenant.device().await;
    let gates = fleet.cloud().gates();
    let mut sessions = Vec::new();
    for (number, gate) in (0..).zip(gates) {
        let connect = tests::mqtt::wire::Connect {
            client_id: format!("client-{number}"),
            ..tests::mqtt::wire::Connect::of(Version::V5, &device)
        };
        sessions.push(Client::connect_with(gate.mqtt, &connect).await.unwrap());
    }
    let waits: Vec<_> = gates
        .iter()
        .map(|gate| {
            let (gate, device) = (*gate, device.clone());
            tokio::spawn(async move { HttpDevice.exchange(gate, &device, "a", b"x", LONG).await })
        })
        .collect();
    let mut stream = tenant.events(&tests::events::Query::telemetry().from_earliest()).await;
    stream.take(gates.len()).await;
    tenant.api.delete(&tenant.path(&device)).await.expect_status(204);
    let all_out = async {
        for session in &mut sessions {
            assert_eq!(session.closed().await, Some(NOT_AUTHORIZED));
        }
        for wait in waits {
            assert_eq!(wait.await.unwrap(), Ok(None));
        }
    };
    // Two seconds are promised. A busy machine may add to that, but not the length of the wait.
    tokio::time::timeout(LONG / 2, all_out).await.expect("sessions end long before their waits do");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_a_command_that_lapsed_while_the_replica_lagged_is_not_delivered() {
    let Some(servers) = tests::kafka::given("row 23") else { return };
    let shape = Shape { http: 0, mqtt: 1, command: 1 };
    let mut fleet = Fleet::start(Topics::new(servers), shape, &[]).await;
    let tenant = fleet.cloud().tenant().await;
    let device = tenant.device().await;
    let mut outcomes = Outcomes::of(&tenant, &device).await;
    let mut client = subscribed(tenant.gate(), Version::V5, &device).await;
    fleet.of(Kind::Mqtt)[0].signal(Signal::Stop);
    let late = tenant.command_with_ttl(&device, "late", "1s").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let in_time = tenant.command(&device, "in-time", &payload()).await;
    fleet.of(Kind::Mqtt)[0].signal(Signal::Continue);
    let message = client.message().await.unwrap();
    assert_eq!(message.properties.user("command-id"), Some(in_time.as_str()));
    assert_eq!(outcomes.end(&late).await, "expired");
}

/// The reader of a replica was away while its records were deleted: its devices connect anew, and get what comes then.
#[tokio::test(flavor = "multi_thread")]
async fn row_21_a_gap_in_the_commands_ends_sessions_and_the_replica_goes_on() {
    let Some(servers) = tests::kafka::given("a gap") else { return };
    let shape = Shape { http: 0, mqtt: 1, command: 1 };
    let mut fleet = Fleet::start(Topics::new(servers), shape, &["--kafka-partitions=1"]).await;
    let tenant = fleet.cloud().tenant().await;
    let device = tenant.device().await;
    let mut client = subscribed(tenant.gate(), Version::V5, &device).await;
    fleet.of(Kind::Mqtt)[0].signal(Signal::Stop);
    // More than a request for records that is under way brings along.
    for _ in 0..40 {
        tenant.command(&device, "missed", &"x".repeat(200 << 10)).await;
    }
    fleet.topics().delete_records(Channel::Commands, 41).await;
    fleet.of(Kind::Mqtt)[0].signal(Signal::Continue);
    while client.message().await.is_some() {}
    let mut again = subscribed(tenant.gate(), Version::V5, &device).await;
    assert_gets_the_next(&tenant, &device, &mut again).await;
    assert!(fleet.metric("drogue_kafka_interruptions_total").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_21_a_replica_that_restarts_serves_its_devices_again() {
    let Some(servers) = tests::kafka::given("row 21") else { return };
    let shape = Shape { http: 1, mqtt: 1, command: 2 };
    let mut fleet = Fleet::start(Topics::new(servers), shape, &[]).await;
    let tenant = fleet.cloud().tenant().await;
    let device = tenant.device().await;
    for round in 0..3 {
        let mut client = subscribed(tenant.gate(), Version::V311, &device).await;
        assert_gets_the_next(&tenant, &device, &mut client).await;
        fleet.of(Kind::Command)[round % 2].restart().await;
        assert_gets_the_next(&tenant, &device, &mut client).await;
        fleet.of(Kind::Mqtt)[0].restart().await;
        assert_eq!(client.closed().await, None);
    }
}
