//! Devices as resources: the controller against a real API server and a real server.

mod world;

use serde_json::{Value, json};
use tests::devices::{DeviceDriver, HttpDevice};
use tests::mqtt::{Client, Version};
use tests::process::Signal;
use tests::secrets;
use tests::server::Server;
use tests::wait::eventually;

use self::world::{NEVER, VERSION, World, kubectl};

const NAMESPACE: &str = "iot.drogue.io/namespace";

#[tokio::test]
async fn applications_and_devices_are_made_changed_and_deleted() {
    let Some(world) = World::begin("applications_and_devices_are_made_changed_and_deleted", NEVER).await
    else {
        return;
    };
    let device = world.device_with_password("d1").await;
    world.until("Application", &world.app, "Ready", ("True", "Applied")).await;
    let labels = world.registered(None).await.unwrap()["labels"].clone();
    assert_eq!(labels, json!({ NAMESPACE: world.namespace.name() }));

    world.application(json!({"site": "north"})).await;
    world.until_registered(None, |app| app.is_some_and(|app| app["labels"]["site"] == "north")).await;
    let credentials = world.secret("d1", "passwordSecret", &device.secret).await;
    let spec =
        |enabled: bool| json!({"enabled": enabled, "labels": {"floor": "2"}, "credentials": credentials});
    world.device("d1", spec(false)).await;
    let expected = json!({"name": "d1", "enabled": false, "labels": {"floor": "2"}});
    world.until_registered(Some("d1"), |device| device == Some(&expected)).await;
    assert!(!world.logs_in(&device).await);
    world.device("d1", spec(true)).await;
    eventually("the device logs in", || async { world.logs_in(&device).await.then_some(()) }).await;

    // The application waits for its device, and says so.
    world.delete("Application", &world.app).await;
    world.until("Application", &world.app, "Ready", ("False", "DevicesRemain")).await;
    assert!(world.registered(None).await.is_some());
    world.delete("Device", "d1").await;
    world.gone("Device", "d1").await;
    world.gone("Application", &world.app).await;
    assert!(world.registered(None).await.is_none());
    world.end().await;
}

#[tokio::test]
async fn a_restart_catches_up_and_ends_no_session() {
    let Some(mut world) = World::begin("a_restart_catches_up_and_ends_no_session", NEVER).await else {
        return;
    };
    let device = world.device_with_password("d1").await;
    world.device("d2", json!({})).await;
    world.until("Device", "d2", "Ready", ("True", "Applied")).await;
    let mut session = Client::subscribed(world.cloud.gate().mqtt, Version::V5, &device, "cmd").await;

    world.kill();
    world.device("d3", json!({})).await;
    world.delete("Device", "d2").await;
    world.start();
    world.gone("Device", "d2").await;
    world.until("Device", "d3", "Ready", ("True", "Applied")).await;
    assert!(world.registered(Some("d2")).await.is_none());
    let written = format!("wrote a device device={}/d1", world.app);
    eventually("the device is written again", || async { world.log().contains(&written).then_some(()) })
        .await;
    session.ping().await;
    let path = format!("{}/commands/x?wait=delivered", world.path(Some("d1")));
    let sent = world.cloud.operator.post(&path, "application/json", "{}");
    let (answer, message) = tokio::join!(sent, session.message());
    assert_eq!((answer.status, message.is_some()), (200, true));
    world.end().await;
}

#[tokio::test]
async fn a_secret_that_appears_or_changes_counts_at_once() {
    let Some(world) = World::begin("a_secret_that_appears_or_changes_counts_at_once", NEVER).await else {
        return;
    };
    world.application(json!({})).await;
    let credentials = json!([{"tokenSecret": {"name": "later", "key": "it"}}]);
    world.device("d1", json!({ "credentials": credentials })).await;
    let missing = world.until("Device", "d1", "Ready", ("False", "SecretMissing")).await;
    assert_eq!(missing["message"], "there is no Secret 'later'");

    let first = world.known("d1", &secrets::token());
    world.secret("later", "tokenSecret", &first.secret).await;
    let ready = world.until("Device", "d1", "Ready", ("True", "Applied")).await;
    assert!(world.logs_in(&first).await);
    let second = first.with_secret(secrets::token());
    world.secret("later", "tokenSecret", &second.secret).await;
    eventually("the new token counts", || async { world.logs_in(&second).await.then_some(()) }).await;
    assert!(!world.logs_in(&first).await);
    // It was ready all the time.
    let still = world.condition("Device", "d1", "Ready").await.unwrap();
    assert_eq!(still["lastTransitionTime"], ready["lastTransitionTime"]);
    world.secret("later", "tokenSecret", "no token").await;
    let refused = world.until("Device", "d1", "Ready", ("False", "Refused")).await;
    assert!(refused["message"].as_str().unwrap().contains("credentials[0]"), "{refused}");
    world.end().await;
}

#[tokio::test]
async fn what_others_made_is_left_alone_until_the_operator_gives_it_away() {
    let test = "what_others_made_is_left_alone_until_the_operator_gives_it_away";
    let Some(world) = World::begin(test, NEVER).await else { return };
    let operator = &world.cloud.operator;
    operator.put(&world.path(None), &json!({"labels": {"mine": "yes"}})).await.expect_status(201);
    operator.put(&world.path(Some("d1")), &json!({"labels": {"mine": "yes"}})).await.expect_status(201);
    world.application(json!({})).await;
    world.device("d1", json!({})).await;
    let refused = world.until("Application", &world.app, "Ready", ("False", "NotOurs")).await;
    let label = format!("\"{NAMESPACE}\": \"{}\"", world.namespace.name());
    assert!(refused["message"].as_str().unwrap().contains(&label), "{refused}");
    world.until("Device", "d1", "Ready", ("False", "ApplicationNotReady")).await;

    for (kind, name) in [("Device", "d1"), ("Application", &world.app)] {
        world.delete(kind, name).await;
        world.gone(kind, name).await;
    }
    assert_eq!(world.registered(Some("d1")).await.unwrap()["labels"], json!({"mine": "yes"}));

    world.application(json!({})).await;
    world.until("Application", &world.app, "Ready", ("False", "NotOurs")).await;
    let adopted = json!({"labels": { NAMESPACE: world.namespace.name() }});
    operator.put(&world.path(None), &adopted).await.expect_status(200);
    world.until("Application", &world.app, "Ready", ("True", "Applied")).await;
    world.end().await;
}

#[tokio::test]
async fn the_status_shows_how_a_device_is_connected() {
    let Some(world) = World::begin("the_status_shows_how_a_device_is_connected", NEVER).await else { return };
    let device = world.device_with_password("d1").await;
    world.until("Device", "d1", "Connected", ("False", "Away")).await;

    let session = Client::subscribed(world.cloud.gate().mqtt, Version::V311, &device, "cmd").await;
    world.until("Device", "d1", "Connected", ("True", "Mqtt")).await;
    let status = world.resource("Device", "d1").await.unwrap()["status"].clone();
    assert_eq!((&status["id"], &status["connection"]["protocol"]), (&json!("d1"), &json!("mqtt")));
    let table = kubectl(&["get", "devices", "-n", world.namespace.name()], b"");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "APPLICATION", "ID", "CONNECTED", "OVER", "SINCE", "READY", "AGE"]);
    assert_eq!(rows[1][..5], ["d1", &world.app, "d1", "True", "mqtt"], "{table}");
    assert_eq!(rows[1][6], "True", "{table}");

    session.disconnect().await;
    world.until("Device", "d1", "Connected", ("False", "Away")).await;
    let gate = world.cloud.gate();
    let wait = std::time::Duration::from_secs(50);
    let waiting = tokio::spawn(async move { HttpDevice.exchange(gate, &device, "t", b"{}", wait).await });
    world.until("Device", "d1", "Connected", ("True", "Http")).await;
    // What is deleted is connected no longer.
    world.delete("Device", "d1").await;
    assert_eq!(waiting.await.unwrap(), Ok(None));
    world.end().await;
}

#[tokio::test]
async fn an_id_is_one_and_has_one_resource_and_stays() {
    let Some(world) = World::begin("an_id_is_one_and_has_one_resource_and_stays", NEVER).await else {
        return;
    };
    world.application(json!({})).await;
    world.device("wrong", json!({"id": "a/b"})).await;
    let wrong = world.until("Device", "wrong", "Ready", ("False", "InvalidId")).await;
    assert!(wrong["message"].as_str().unwrap().contains("'a/b'"), "{wrong}");

    world.device("a-first", json!({"id": "d_1", "labels": {"of": "first"}})).await;
    world.until("Device", "a-first", "Ready", ("True", "Applied")).await;
    world.device("b-second", json!({"id": "d_1", "labels": {"of": "second"}})).await;
    let second = world.until("Device", "b-second", "Ready", ("False", "Duplicate")).await;
    assert!(second["message"].as_str().unwrap().contains("'a-first'"), "{second}");
    assert_eq!(world.registered(Some("d_1")).await.unwrap()["labels"]["of"], "first");
    for changed in [json!({"id": "d_2"}), json!({}), json!({"id": "d_1", "application": "other"})] {
        let spec = merged(json!({"application": world.app}), changed);
        let patch = json!([{"op": "replace", "path": "/spec", "value": spec}]).to_string();
        let refused = std::process::Command::new("kubectl")
            .args(["-n", world.namespace.name(), "patch", "device", "a-first", "--type=json", "-p", &patch])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("cannot be changed"), "{said}");
    }
    world.delete("Device", "a-first").await;
    world.until("Device", "b-second", "Ready", ("True", "Applied")).await;
    assert_eq!(world.registered(Some("d_1")).await.unwrap()["labels"]["of"], "second");
    world.end().await;
}

fn merged(mut object: Value, more: Value) -> Value {
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

#[tokio::test]
async fn what_others_change_is_put_right() {
    let Some(world) = World::begin("what_others_change_is_put_right", "2s").await else { return };
    let device = world.device_with_password("d1").await;
    let operator = &world.cloud.operator;
    let path = world.path(Some("d1"));
    let change =
        json!({"enabled": false, "labels": {"x": "y"}, "credentials": [{"token": secrets::token()}]});
    operator.put(&path, &change).await.expect_status(200);
    eventually("the device logs in", || async { world.logs_in(&device).await.then_some(()) }).await;
    assert_eq!(world.registered(Some("d1")).await.unwrap()["labels"], json!({}));
    operator.delete(&path).await.expect_status(204);
    eventually("the device logs in", || async { world.logs_in(&device).await.then_some(()) }).await;
    operator.delete(&world.path(None)).await.expect_status(204);
    eventually("the device logs in", || async { world.logs_in(&device).await.then_some(()) }).await;
    assert_eq!(world.registered(None).await.unwrap()["labels"][NAMESPACE], world.namespace.name());
    world.end().await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_waited_for() {
    let test = "a_server_that_does_not_answer_is_waited_for";
    let server = Server::start(&[]).await;
    let Some(world) = World::begin_with(test, NEVER, Some(server.cloud())).await else { return };
    world.device_with_password("d1").await;
    server.signal(Signal::Stop);
    world.device("d2", json!({})).await;
    world.delete("Device", "d1").await;
    let failed = world.until("Device", "d2", "Ready", ("False", "Unreachable")).await;
    assert!(failed["message"].as_str().unwrap().contains("cannot reach"), "{failed}");
    world.until("Device", "d1", "Ready", ("False", "Unreachable")).await;
    // What is known of the application is so still.
    world.until("Application", &world.app, "Ready", ("True", "Applied")).await;
    server.signal(Signal::Continue);
    world.until("Device", "d2", "Ready", ("True", "Applied")).await;
    world.gone("Device", "d1").await;
    assert!(world.registered(Some("d1")).await.is_none());
    assert!(world.namespace.knows(VERSION, "Device").await);
    world.end().await;
}
