//! Commands that are kept while their device is away.

use serde_json::Value;

use crate::cloud::Cloud;
use crate::devices::DeviceDriver;
use crate::secrets::payload;
use crate::tenant::{Device, Tenant};
use crate::wait::eventually;
use crate::waiting::{LONG, SHORT, Waiting};

/// How many commands may be pending for a device, by default.
const MAX_PENDING: usize = 50;

async fn pending(tenant: &Tenant, device: &Device) -> Vec<Value> {
    let path = format!("{}/commands?state=pending", tenant.path(device));
    let list = tenant.api.get(&path).await.expect_status(200).json();
    list["items"].as_array().expect("a list has items").clone()
}

/// 20 commands that were sent while the device was away come in order, one in each wait.
pub async fn commands_with_ttl_wait_for_their_device_in_order<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let mut sent = Vec::new();
    for number in 0..20 {
        sent.push(tenant.command_with_ttl(&device, &format!("n{number}"), "10m").await);
    }
    assert_eq!(pending(&tenant, &device).await.len(), 20);
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let answer = driver.exchange(tenant.gate(), &device, "t", payload().as_bytes(), LONG).await;
        let command = answer.expect("telemetry is accepted").expect("a command comes within the wait");
        if received.last() != Some(&command.id) {
            received.push(command.id);
        }
    }
    assert_eq!(received, sent, "{}", D::NAME);
    for id in &sent {
        tenant.command_in(&device, id, "delivered").await;
    }
    // Another replica may be asked than the one that knew it.
    let nothing_waits = || async { pending(&tenant, &device).await.is_empty().then_some(()) };
    eventually("no command waits any more", nothing_waits).await;
}

/// A device that waits gets it within that same wait.
pub async fn a_command_with_ttl_for_a_device_that_is_there_is_delivered_at_once<D: DeviceDriver>(
    driver: D,
    cloud: &Cloud,
) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let waiting = Waiting::begin(driver, &tenant, &device, LONG).await;
    let answer = tenant.submit(&device, "set-temp?ttl=10m&wait=delivered&timeout=30s", &payload()).await;
    assert_eq!(answer.expect_status(200).json()["state"], "delivered");
    assert!(waiting.end().await.is_some());
    let again = Waiting::begin(driver, &tenant, &device, SHORT).await;
    assert_eq!(again.end().await, None);
}

/// What nobody fetched lapses, and that is known.
pub async fn a_pending_command_expires<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let answer = tenant.submit(&device, "set-temp?ttl=1s&wait=delivered&timeout=30s", &payload()).await;
    answer.expect_problem(409);
    assert_eq!(answer.json()["state"], "expired");
    let waiting = Waiting::begin(driver, &tenant, &device, SHORT).await;
    assert_eq!(waiting.end().await, None);
}

/// DELETE takes back what waits, and nothing else.
pub async fn a_pending_command_is_cancelled_and_no_other<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let path = |id: &str| format!("{}/commands/{id}", tenant.path(&device));
    let cancelled = tenant.command_with_ttl(&device, "first", "10m").await;
    let kept = tenant.command_with_ttl(&device, "second", "10m").await;
    let answer = tenant.api.delete(&path(&cancelled)).await;
    assert_eq!(answer.expect_status(200).json()["state"], "cancelled");
    tenant.api.delete(&path(&cancelled)).await.expect_problem(409);
    tenant.api.delete(&path("0193aaaa-0000-7000-8000-000000000000")).await.expect_problem(404);
    let waiting = Waiting::begin(driver, &tenant, &device, LONG).await;
    assert_eq!(waiting.end().await.map(|command| command.id), Some(kept.clone()));
    tenant.command_in(&device, &kept, "delivered").await;
    tenant.command_in(&device, &cancelled, "cancelled").await;
    tenant.api.delete(&path(&kept)).await.expect_problem(409);
}

/// Of several set points the last one counts.
pub async fn a_newer_command_supersedes_a_pending_one<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let mut ids = Vec::new();
    for number in 0..3 {
        let query = format!("set-temp-{number}?ttl=10m&supersede=temperature");
        let answer = tenant.submit(&device, &query, &payload()).await;
        ids.push(answer.expect_status(202).json()["id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(pending(&tenant, &device).await.len(), 1);
    let waiting = Waiting::begin(driver, &tenant, &device, LONG).await;
    assert_eq!(waiting.end().await.map(|command| command.id), Some(ids[2].clone()));
    for superseded in &ids[..2] {
        tenant.command_in(&device, superseded, "superseded").await;
    }
}

/// The same key and request is the same command; another request with it is refused.
pub async fn an_idempotency_key_makes_one_command<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let (path, body) = (format!("{}/commands", tenant.path(&device)), payload());
    let submit = |name: &str, body: &str| {
        let request = tenant.api.request(reqwest::Method::POST, &format!("{path}/{name}"));
        let request =
            request.header("idempotency-key", "order-42").header("content-type", "application/json");
        crate::api::send(request.body(body.to_owned()))
    };
    let waiting = Waiting::begin(driver, &tenant, &device, LONG).await;
    let first = submit("buy", &body).await.expect_status(202).json();
    let again = submit("buy", &body).await.expect_status(202).json();
    assert_eq!(first["id"], again["id"]);
    for (name, body) in [("sell", &body), ("buy", &payload()), ("buy?ttl=5m", &body)] {
        submit(name, body).await.expect_problem(409);
    }
    assert_eq!(waiting.end().await.map(|command| command.id.into()), Some(first["id"].clone()));
    let again = Waiting::begin(driver, &tenant, &device, SHORT).await;
    assert_eq!(again.end().await, None, "the second request made no second command");
}

/// The bound is told, and what is delivered makes room.
pub async fn too_many_pending_commands_are_refused<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    for _ in 0..MAX_PENDING {
        tenant.command_with_ttl(&device, "n", "10m").await;
    }
    let refused = tenant.submit(&device, "n?ttl=10m", &payload()).await;
    refused.expect_problem(429);
    assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("--max-pending")));
    let waiting = Waiting::begin(driver, &tenant, &device, LONG).await;
    assert!(waiting.end().await.is_some());
    eventually("there is room again", || async {
        let answer = tenant.submit(&device, "n?ttl=10m", &payload()).await;
        (answer.status == 202).then_some(())
    })
    .await;
}
