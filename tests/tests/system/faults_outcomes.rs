//! Rows 11 to 13, 15, 17 and 19: what is told of commands that a device did not acknowledge, missed, or might have had
//! twice.

use tests::devices::{DeviceDriver, HttpDevice, MqttDevice};
use tests::mqtt::wire::{self, Connect};
use tests::mqtt::{Client, Version};
use tests::outcomes::Outcomes;
use tests::scenarios::row_19_a_device_on_several_protocols_gets_each_command_once;
use tests::secrets::{payload, unique};
use tests::server::{Server, shared};
use tests::tenant::{Device, Tenant};
use tests::wait::eventually;
use tests::waiting::{LONG, Waiting};

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
const KEPT: &str = "10m";

/// Connects under the device's own client id, and subscribes.
async fn subscribed(tenant: &Tenant, version: Version, device: &Device) -> Client {
    Client::subscribed(tenant.gate().mqtt, version, device, "cmd/#").await
}

/// Returns the id of a command as its topic says it.
fn id_of(message: &wire::Publish) -> &str {
    message.topic.split('/').nth(2).unwrap()
}

#[tokio::test]
async fn row_11_a_command_without_a_puback_in_time_is_reported_no_ack() {
    let server = Server::start(&["--mqtt-ack-timeout=500ms"]).await;
    let tenant = server.cloud().tenant().await;
    for version in VERSIONS {
        let device = tenant.device().await;
        let mut outcomes = Outcomes::of(&tenant, &device).await;
        let mut client = subscribed(&tenant, version, &device).await;
        let id = tenant.command(&device, "silent", &payload()).await;
        assert_eq!(id_of(&client.unacknowledged_message().await.unwrap()), id);
        assert_eq!(outcomes.until_settled(&id).await, ["undelivered: no-ack"], "{version:?}");
    }
}

/// One that is kept is pending again, and is not ended by the first attempt.
#[tokio::test]
async fn row_11_a_kept_command_without_a_puback_in_time_is_tried_again() {
    let server = Server::start(&["--mqtt-ack-timeout=500ms"]).await;
    let tenant = server.cloud().tenant().await;
    for version in VERSIONS {
        let device = tenant.device().await;
        let mut outcomes = Outcomes::of(&tenant, &device).await;
        let mut client = subscribed(&tenant, version, &device).await;
        let id = tenant.command_with_ttl(&device, "silent", KEPT).await;
        assert_eq!(id_of(&client.unacknowledged_message().await.unwrap()), id);
        // Its connection is the newest still, and gets it after a while: as a new PUBLISH.
        let again = client.message().await.unwrap();
        assert_eq!((id_of(&again), again.dup), (&id[..], false));
        let told = ["pending", "pending: no-ack", "delivered: puback"];
        assert_eq!(outcomes.until_settled(&id).await, told, "{version:?}");
    }
}

#[tokio::test]
async fn row_12_a_device_that_reconnects_mid_command_gets_it_again_only_with_ttl() {
    let tenant = shared().cloud().tenant().await;
    for version in VERSIONS {
        let device = tenant.device().await;
        let mut outcomes = Outcomes::of(&tenant, &device).await;
        let mut client = subscribed(&tenant, version, &device).await;
        let plain = tenant.command(&device, "plain", &payload()).await;
        let kept = tenant.command_with_ttl(&device, "kept", KEPT).await;
        let mut first = Vec::new();
        for _ in 0..2 {
            first.push(id_of(&client.unacknowledged_message().await.unwrap()).to_owned());
        }
        assert_eq!(first, [plain.clone(), kept.clone()]);
        client.ping().await;
        assert_eq!(client.waiting_messages(), 0, "nothing comes twice on one connection");
        drop(client);
        let mut again = subscribed(&tenant, version, &device).await;
        let message = again.message().await.unwrap();
        assert_eq!((id_of(&message), message.dup), (&kept[..], false), "a new PUBLISH of the same command");
        assert_eq!(outcomes.until_settled(&plain).await, ["undelivered: connection-lost"]);
        let told = ["pending", "pending: connection-lost", "delivered: puback"];
        assert_eq!(outcomes.until_settled(&kept).await, told, "{version:?}");
        again.ping().await;
        assert_eq!(again.waiting_messages(), 0, "{version:?}: a command without ttl is not tried again");
    }
}

#[tokio::test]
async fn row_13_commands_behind_a_takeover_are_delivered_by_the_new_connection() {
    let tenant = shared().cloud().tenant().await;
    for version in VERSIONS {
        let device = tenant.device().await;
        let mut outcomes = Outcomes::of(&tenant, &device).await;
        let mut old = subscribed(&tenant, version, &device).await;
        let unknown = tenant.command(&device, "before", &payload()).await;
        assert_eq!(id_of(&old.unacknowledged_message().await.unwrap()), unknown);
        let mut new = subscribed(&tenant, version, &device).await;
        old.closed().await;
        let later = tenant.command(&device, "later", &payload()).await;
        assert_eq!(id_of(&new.message().await.unwrap()), later);
        assert_eq!(outcomes.until_settled(&later).await, ["delivered: puback"]);
        assert_eq!(outcomes.until_settled(&unknown).await, ["undelivered: connection-lost"]);
    }
}

#[tokio::test]
async fn row_15_behind_a_late_end_of_the_old_connection_commands_are_delivered() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let mut outcomes = Outcomes::of(&tenant, &device).await;
    for round in 0..20 {
        let old = subscribed(&tenant, Version::V311, &device).await;
        let mut new = old.give_way(round % 2 == 0, subscribed(&tenant, Version::V311, &device)).await;
        let id = tenant.command(&device, "still-there", &payload()).await;
        let received = new.message().await;
        assert_eq!(outcomes.until_settled(&id).await, ["delivered: puback"], "round {round}");
        assert_eq!(received.as_ref().map(id_of), Some(&id[..]));
    }
}

#[tokio::test]
async fn row_17_a_command_for_a_client_that_vanished_is_not_reported_delivered() {
    let tenant = shared().cloud().tenant().await;
    row_17(HttpDevice, &tenant).await;
    row_17(MqttDevice::<false>, &tenant).await;
    row_17(MqttDevice::<true>, &tenant).await;
}

/// A command that nobody took, whether it met the connection or its end; then one that certainly met none.
async fn row_17<D: DeviceDriver>(driver: D, tenant: &Tenant) {
    let device = tenant.device().await;
    let mut outcomes = Outcomes::of(tenant, &device).await;
    for _ in 0..10 {
        Waiting::begin(driver, tenant, &device, LONG).await.hang_up().await;
        let id = tenant.command(&device, "nobody", &payload()).await;
        let end = outcomes.end(&id).await;
        let missed = ["undelivered: not-connected", "undelivered: connection-lost"];
        assert!(missed.contains(&&end[..]), "{}: {end}", D::NAME);
    }
    let path = format!("{}/connection", tenant.path(&device));
    eventually("the device is known to be away", || async {
        (tenant.api.get(&path).await.expect_status(200).json()["connected"] == false).then_some(())
    })
    .await;
    let id = tenant.command(&device, "nobody", &payload()).await;
    assert_eq!(outcomes.until_settled(&id).await, ["undelivered: not-connected"], "{}", D::NAME);
}

/// What the connection that went away had is pending again, and comes in the next wait.
#[tokio::test]
async fn row_17_a_kept_command_outlives_clients_that_vanish() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let mut outcomes = Outcomes::of(&tenant, &device).await;
    let connect = Connect { client_id: unique(), ..Connect::of(Version::V311, &device) };
    let mut client = Client::connect_with(tenant.gate().mqtt, &connect).await.unwrap();
    client.subscribe(&[("cmd/#", 1)]).await.unwrap();
    let id = tenant.command_with_ttl(&device, "kept", KEPT).await;
    assert_eq!(id_of(&client.unacknowledged_message().await.unwrap()), id);
    drop(client);
    let answer = HttpDevice.exchange(tenant.gate(), &device, "t", payload().as_bytes(), LONG).await;
    assert_eq!(answer.unwrap().map(|command| command.id), Some(id.clone()));
    let told = ["pending", "pending: connection-lost", "delivered: written"];
    assert_eq!(outcomes.until_settled(&id).await, told);
}

#[tokio::test]
async fn row_19_over_http_and_mqtt_at_once_each_command_comes_once() {
    row_19_a_device_on_several_protocols_gets_each_command_once(shared().cloud()).await;
}
