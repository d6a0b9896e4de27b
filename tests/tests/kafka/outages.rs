//! Rows 1 to 8 and 21: brokers that are stopped, killed, paused and restarted under load.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use common::channel::Channel;
use futures_util::StreamExt;
use tests::brokers::Brokers;
use tests::devices::{DeviceDriver, HttpDevice, Refused};
use tests::fleet::{Fleet, Kind, Shape};
use tests::kafka::{Record, Topics, read};
use tests::mqtt::wire::Connect;
use tests::mqtt::{self, Client, Version};
use tests::process::resident_memory;
use tests::publishers::Publishers;
use tests::secrets::{payload, unique};
use tests::tenant::{Device, Tenant};
use tests::wait::eventually;
use tests::waiting::SHORT;

const ONE_OF_EACH: Shape = Shape { http: 1, mqtt: 1, command: 1 };
/// Patience of devices in these tests: an outage is told soon.
const IMPATIENT: &str = "--publish-timeout=3s";

/// Subscribes a device and keeps its connection.
async fn subscribed(tenant: &Tenant, device: &Device) -> Client {
    let connect = Connect { client_id: unique(), ..Connect::of(Version::V5, device) };
    let mut client = Client::connect_with(tenant.gate().mqtt, &connect).await.unwrap();
    assert_eq!(client.subscribe(&[("cmd", 1)]).await, Ok(vec![1]));
    client
}

/// Sends a command that must arrive, once. One for which the application got 503 may come before it.
async fn assert_commands_arrive(tenant: &Tenant, device: &Device, client: &mut Client) {
    let id = tenant.command(device, "after", &payload()).await;
    loop {
        let message = client.message().await.unwrap();
        match message.properties.user("command") {
            Some("in-doubt") => {}
            _ => return assert_eq!(message.properties.user("command-id"), Some(id.as_str())),
        }
    }
}

/// What was accepted must be in the topic, counted by a reader that shares nothing with the product.
async fn assert_nothing_accepted_is_lost(fleet: &Fleet, accepted: &HashSet<String>) -> Vec<Record> {
    let records = read(fleet.topics().servers(), &fleet.topics().of(Channel::Telemetry)).await;
    let kept: HashSet<_> = records.iter().map(|record| record.header("ce_subject").to_owned()).collect();
    let lost: Vec<_> = accepted.difference(&kept).collect();
    assert!(lost.is_empty(), "{} of {} accepted events are lost: {lost:?}", lost.len(), accepted.len());
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_01_02_03_21_an_outage_is_told_loses_nothing_and_ends_by_itself() {
    let Some(mut brokers) = Brokers::start("outages", 1).await else { return };
    let fleet = Fleet::start(Topics::new(brokers.servers()), ONE_OF_EACH, &[IMPATIENT]).await;
    let tenant = fleet.cloud().tenant().await;
    let (device, publisher) = (tenant.device().await, tenant.device().await);
    let mut client = subscribed(&tenant, &device).await;
    let publishers = Publishers::start(&tenant, &publisher);
    for outage in ["kill", "pause", "stop"] {
        publishers.told().accept_more(200).await;
        match outage {
            "kill" => brokers.kill(1),
            "pause" => brokers.pause(1),
            _ => brokers.stop(1).await,
        }
        fleet.wait_until_ready(false).await;
        publishers.told().refuse_more(4).await;
        assert_refused_everywhere(&tenant, &device).await;
        match outage {
            "pause" => brokers.resume(1),
            _ => brokers.restart(1),
        }
        fleet.wait_until_ready(true).await;
        publishers.told().accept_more(200).await;
        // The same connection as before: nothing was restarted.
        assert_commands_arrive(&tenant, &device, &mut client).await;
    }
    let told = publishers.stop().await;
    let records = assert_nothing_accepted_is_lost(&fleet, &told.accepted()).await;
    eprintln!(
        "{} accepted, {} refused, {} in the topic",
        told.accepted().len(),
        told.refused(),
        records.len()
    );
}

async fn assert_refused_everywhere(tenant: &Tenant, device: &Device) {
    let unavailable = Err(Refused::Message("503".to_owned()));
    assert_eq!(HttpDevice.publish(tenant.gate(), device, "a", b"x").await, unavailable);
    let waiting = HttpDevice.exchange(tenant.gate(), device, "a", b"x", SHORT).await;
    assert_eq!(waiting, Err(Refused::Message("503".to_owned())));
    let connect = |version| Connect { client_id: unique(), ..Connect::of(version, device) };
    let mut v5 = Client::connect_with(tenant.gate().mqtt, &connect(Version::V5)).await.unwrap();
    let refused = v5.publish("a", 1, payload().as_bytes()).await.unwrap_err();
    assert!(matches!(refused, mqtt::Refused::Publish(0x80 | 0x97)), "{refused:?}");
    let mut v311 = Client::connect_with(tenant.gate().mqtt, &connect(Version::V311)).await.unwrap();
    assert_eq!(v311.publish("a", 1, payload().as_bytes()).await, Err(mqtt::Refused::Closed));
    let path = format!("{}/commands/in-doubt", tenant.path(device));
    tenant.api.post(&path, "text/plain", payload()).await.expect_problem(503);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_04_a_change_of_leaders_loses_nothing() {
    let Some(mut brokers) = Brokers::start("row 4", 3).await else { return };
    let fleet = Fleet::start(Topics::new(brokers.servers()), ONE_OF_EACH, &[]).await;
    let tenant = fleet.cloud().tenant().await;
    let mut publishers = Vec::new();
    for _ in 0..3 {
        publishers.push(Publishers::start(&tenant, &tenant.device().await));
    }
    for id in 1..=3 {
        for publishers in &publishers {
            publishers.told().accept_more(100).await;
        }
        if id == 2 {
            brokers.stop(id).await;
        } else {
            brokers.kill(id);
        }
        for publishers in &publishers {
            publishers.told().accept_more(100).await;
        }
        brokers.restart(id);
        brokers.wait_until_alive(3).await;
    }
    let mut accepted = HashSet::new();
    for publishers in publishers {
        accepted.extend(publishers.stop().await.accepted());
    }
    let records = assert_nothing_accepted_is_lost(&fleet, &accepted).await;
    let places: HashSet<_> = records.iter().map(|record| (record.key.as_str(), record.partition)).collect();
    assert_eq!(places.len(), 3, "each device has one partition: {places:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_04_a_device_that_sends_in_a_row_finds_its_order_kept() {
    let Some(mut brokers) = Brokers::start("row 4", 3).await else { return };
    let fleet = Fleet::start(Topics::new(brokers.servers()), ONE_OF_EACH, &[]).await;
    let tenant = fleet.cloud().tenant().await;
    let device = tenant.device().await;
    let mut client = Client::connect(tenant.gate().mqtt, Version::V5, &device).await.unwrap();
    let mut accepted = Vec::new();
    for round in 0..4 {
        let ids: Vec<_> = {
            let mut ids = Vec::new();
            for number in 0..50 {
                let subject = format!("n{:05}", round * 50 + number);
                ids.push((client.send_publish(&subject, 1, b"x").await, subject));
                // In the middle of a row a broker goes, or comes back.
                match (round, number) {
                    (0, 25) => brokers.kill(1),
                    (1, 25) => brokers.restart(1),
                    (2, 25) => brokers.kill(2),
                    (3, 25) => brokers.restart(2),
                    _ => {}
                }
            }
            ids
        };
        for (id, subject) in ids {
            if client.acknowledged(id).await.is_ok() {
                accepted.push(subject);
            }
        }
    }
    assert!(accepted.len() >= 50, "only {} were accepted", accepted.len());
    brokers.wait_until_alive(3).await;
    let records = assert_nothing_accepted_is_lost(&fleet, &accepted.iter().cloned().collect()).await;
    let mut seen = HashSet::new();
    let first: Vec<_> =
        records.iter().map(|record| record.header("ce_subject")).filter(|one| seen.insert(*one)).collect();
    assert!(first.is_sorted(), "{first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_05_a_full_queue_is_told_takes_bounded_memory_and_recovers() {
    let Some(brokers) = Brokers::start("row 5", 1).await else { return };
    let queue = "--kafka-property=queue.buffering.max.kbytes=4096";
    let mut fleet = Fleet::start(Topics::new(brokers.servers()), ONE_OF_EACH, &[queue, "--log=info"]).await;
    let tenant = fleet.cloud().tenant().await;
    let device = tenant.device().await;
    let gate = tenant.gate();
    assert_eq!(HttpDevice.publish(gate, &device, "before", b"x").await, Ok(()));
    let pid = fleet.of(Kind::Http)[0].pid();
    let before = resident_memory(pid);
    brokers.pause(1);
    let payload = vec![b'x'; 200 << 10];
    // Many times what the queue takes, and more than the bound; 40 at a time, as their bodies take memory, too.
    let flood = futures_util::stream::iter(0..600)
        .map(|_| HttpDevice.publish(gate, &device, "flood", &payload))
        .buffer_unordered(40);
    let mut answers = HashMap::new();
    flood
        .for_each(|answer| {
            *answers.entry(format!("{answer:?}")).or_insert(0) += 1;
            std::future::ready(())
        })
        .await;
    assert!(answers.contains_key("Err(Message(\"429\"))"), "{answers:?}");
    assert!(answers.contains_key("Err(Message(\"503\"))"), "{answers:?}");
    let grown = resident_memory(pid).saturating_sub(before);
    assert!(grown < 48 << 20, "{} MiB for a queue of 4 MiB", grown >> 20);
    brokers.resume(1);
    eventually("telemetry is taken again", || async {
        HttpDevice.publish(gate, &device, "after", b"x").await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_07_a_disconnect_while_the_broker_is_silent_leaves_nothing_behind() {
    let Some(brokers) = Brokers::start("row 7", 1).await else { return };
    let options = ["--max-device-connections=1", "--publish-timeout=30s"];
    let fleet = Fleet::start(Topics::new(brokers.servers()), ONE_OF_EACH, &options).await;
    let tenant = fleet.cloud().tenant().await;
    let device = tenant.device().await;
    let connect = || Connect { client_id: unique(), ..Connect::of(Version::V5, &device) };
    // What is looked up in the registry once need not be looked up again.
    Client::connect_with(tenant.gate().mqtt, &connect()).await.unwrap().disconnect().await;
    brokers.pause(1);
    for _ in 0..3 {
        let mut client = eventually("the only connection is free", || async {
            Client::connect_with(tenant.gate().mqtt, &connect()).await.ok()
        })
        .await;
        client.send_publish("pending", 1, payload().as_bytes()).await;
        client.ping().await;
        drop(client);
        let waiting = HttpDevice.exchange(tenant.gate(), &device, "a", b"x", SHORT);
        assert!(
            tokio::time::timeout(Duration::from_millis(300), waiting).await.is_err(),
            "the broker is silent"
        );
    }
    brokers.resume(1);
    fleet.wait_until_ready(true).await;
    assert_eq!(HttpDevice.publish(tenant.gate(), &device, "after", b"x").await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_06_08_killed_endpoints_lose_no_accepted_event() {
    let Some(servers) = tests::kafka::given("row 8 on Kafka") else { return };
    let mut fleet = Fleet::start(Topics::new(servers), ONE_OF_EACH, &["--log=info"]).await;
    let tenant = fleet.cloud().tenant().await;
    let publishers = Publishers::start(&tenant, &tenant.device().await);
    for _ in 0..5 {
        for kind in [Kind::Http, Kind::Mqtt] {
            publishers.told().accept_more(100).await;
            fleet.of(kind)[0].restart().await;
        }
    }
    let accepted = publishers.stop().await.accepted();
    let records = assert_nothing_accepted_is_lost(&fleet, &accepted).await;
    assert!(records.len() >= accepted.len());
}
