//! Rows 13, 15, 25 and 26: devices that connect again, all at once, or no more.

use serde_json::json;
use tests::devices::{DeviceDriver, HttpDevice};
use tests::mqtt::wire::{self, Connect};
use tests::mqtt::{self, Client, Version};
use tests::process::resident_memory;
use tests::secrets::{password, payload};
use tests::server::{Server, shared};
use tests::tenant::{Device, Tenant};
use tests::wait::{eventually, within};

/// The reason codes of MQTT 5 that these tests name.
const NOT_AUTHORIZED: u8 = 0x87;
const TAKEN_OVER: u8 = 0x8e;

async fn subscribed(tenant: &Tenant, version: Version, device: &Device) -> Client {
    Client::subscribed(tenant.gate().mqtt, version, device, "cmd").await
}

#[tokio::test]
async fn row_13_the_same_client_id_takes_the_session_over() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    for version in [Version::V311, Version::V5] {
        let mut old = subscribed(&tenant, version, &device).await;
        let mut new = subscribed(&tenant, version, &device).await;
        let said = (version == Version::V5).then_some(TAKEN_OVER);
        assert_eq!(old.closed().await, said);
        tenant.command(&device, "later", &payload()).await;
        assert!(new.message().await.is_some());
        new.disconnect().await;
    }
}

#[tokio::test]
async fn row_15_a_late_end_of_the_old_connection_does_not_end_the_new_one() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    for round in 0..20 {
        let old = subscribed(&tenant, Version::V311, &device).await;
        let mut new = old.give_way(round % 2 == 0, subscribed(&tenant, Version::V311, &device)).await;
        new.ping().await;
        let id = tenant.command(&device, "still-there", &payload()).await;
        let message = new.message().await;
        assert!(message.is_some(), "command {id} in round {round}: {:?}", shared().outcomes(&id));
    }
}

#[tokio::test]
async fn row_15_an_old_connection_of_another_client_ends_without_the_new_one() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let connect = |id: &str| Connect { client_id: id.to_owned(), ..Connect::of(Version::V5, &device) };
    let mut old = Client::connect_with(tenant.gate().mqtt, &connect("old")).await.unwrap();
    old.subscribe(&[("cmd", 0)]).await.unwrap();
    let mut new = Client::connect_with(tenant.gate().mqtt, &connect("new")).await.unwrap();
    new.subscribe(&[("cmd", 0)]).await.unwrap();
    old.send(&wire::DISCONNECT).await;
    old.closed().await;
    for _ in 0..5 {
        tenant.command(&device, "still-there", &payload()).await;
        assert!(new.message().await.is_some());
    }
}

/// The devices of a reconnect storm. Each has a password, so each costs an argon2.
const STORM: usize = 200;

#[tokio::test]
async fn row_25_a_reconnect_storm_is_admitted_bit_by_bit_and_established_sessions_stay() {
    let server = Server::start(&[]).await;
    let tenant = server.cloud().tenant().await;
    let devices = with_passwords(&tenant).await;
    let established = tenant.device().await;
    let mut client = subscribed(&tenant, Version::V5, &established).await;
    let before = resident_memory(server.pid());
    let storm =
        devices.into_iter().map(|device| tokio::spawn(connect_until_admitted(tenant.clone(), device)));
    let storm: Vec<_> = storm.collect();
    while !storm.iter().all(tokio::task::JoinHandle::is_finished) {
        tenant.command(&established, "meanwhile", &payload()).await;
        assert!(client.message().await.is_some(), "an established session stays");
        // An argon2 takes 19 MiB: as many as there are threads are under way, not as many as there are devices.
        let grown = resident_memory(server.pid()).saturating_sub(before);
        assert!(grown < STORM as u64 / 2 * 19 * 1024 * 1024, "memory has grown by {grown} bytes");
    }
    for device in storm {
        device.await.unwrap();
    }
}

async fn with_passwords(tenant: &Tenant) -> Vec<Device> {
    let devices: Vec<_> = (0..STORM).map(|_| tenant.stranger().with_secret(password())).collect();
    let line = |device: &Device| json!({"name": device.name, "credentials": [{"password": device.secret}]});
    let lines: String = devices.iter().map(|device| format!("{}\n", line(device))).collect();
    let path = format!("apps/{}/devices", tenant.app);
    tenant.api.post(&path, "application/x-ndjson", lines).await.expect_status(200);
    devices
}

/// Tries until it is let in; being told to come again later is no failure, anything else is.
async fn connect_until_admitted(tenant: Tenant, device: Device) {
    within("the device is let in", async {
        loop {
            match Client::connect(tenant.gate().mqtt, Version::V5, &device).await {
                Ok(mut client) => return client.ping().await,
                Err(mqtt::Refused::Connect(0x88 | 0x89 | 0x97)) => tokio::task::yield_now().await,
                Err(refused) => panic!("{refused:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn row_26_a_live_session_ends_when_its_device_changes() {
    let tenant = shared().cloud().tenant().await;
    type Change = fn(&Device) -> Option<serde_json::Value>;
    let changes: [(&str, Change); 3] = [
        ("deleted", |_| None),
        ("disabled", |_| Some(json!({"enabled": false}))),
        ("another password", |_| Some(json!({"credentials": [{"password": password()}]}))),
    ];
    for (what, change) in changes {
        let device = tenant.device().await;
        let mut v5 = subscribed(&tenant, Version::V5, &device).await;
        let other_client = Connect { client_id: "old".into(), ..Connect::of(Version::V311, &device) };
        let mut v311 = Client::connect_with(tenant.gate().mqtt, &other_client).await.unwrap();
        let path = tenant.path(&device);
        match change(&device) {
            Some(body) => drop(tenant.api.put(&path, &body).await.expect_status(200)),
            None => drop(tenant.api.delete(&path).await.expect_status(204)),
        }
        assert_eq!(v5.closed().await, Some(NOT_AUTHORIZED), "{what}");
        assert_eq!(v311.closed().await, None, "{what}");
        let again = Client::connect(tenant.gate().mqtt, Version::V5, &device).await;
        assert!(matches!(again, Err(mqtt::Refused::Connect(0x86))), "{what}: {again:?}");
    }
}

#[tokio::test]
async fn a_device_has_so_many_connections_and_no_more() {
    let tenant = shared().cloud().tenant().await;
    let (device, other) = (tenant.device().await, tenant.device().await);
    let connect =
        |number: usize| Connect { client_id: format!("c{number}"), ..Connect::of(Version::V5, &device) };
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(Client::connect_with(tenant.gate().mqtt, &connect(number)).await.unwrap());
    }
    let refused = Client::connect_with(tenant.gate().mqtt, &connect(10)).await.unwrap_err();
    assert!(matches!(refused, mqtt::Refused::Connect(0x97 | 0x89)), "{refused:?}");
    assert_eq!(HttpDevice.publish(tenant.gate(), &other, "a", b"x").await, Ok(()));
    drop(clients.pop());
    eventually("the place of a closed connection is free", || async {
        Client::connect_with(tenant.gate().mqtt, &connect(10)).await.ok()
    })
    .await;
}
