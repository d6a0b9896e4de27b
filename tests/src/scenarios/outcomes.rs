//! What becomes of a command: told to whoever waits, to whoever asks, and as events.

use std::time::Duration;

use serde_json::Value;

use crate::api::Answer;
use crate::cloud::Cloud;
use crate::devices::{Command, DeviceDriver, Refused};
use crate::events::{EventStream, Query, Received};
use crate::secrets::payload;
use crate::tenant::{Device, Tenant};
use crate::wait::{eventually, within};
use crate::waiting::{LONG, Waiting};

impl Tenant {
    /// Asks for a command, until it is in a state.
    ///
    /// # Panics
    /// Panics if it does not come to that state in time.
    pub async fn command_in(&self, device: &Device, id: &str, state: &str) -> Value {
        let path = format!("{}/commands/{id}", self.path(device));
        let what = format!("command {id} is {state}");
        eventually(&what, || async {
            let answer = self.api.get(&path).await;
            let command = answer.expect_status(200).json();
            (command["state"] == state).then_some(command)
        })
        .await
    }

    /// Sends a command with parameters, and returns the answer whatever it is.
    pub async fn submit(&self, device: &Device, name_and_query: &str, payload: &str) -> Answer {
        let path = format!("{}/commands/{name_and_query}", self.path(device));
        self.api.post(&path, "application/json", payload.to_owned()).await
    }

    async fn outcomes(&self, device: &Device) -> EventStream {
        self.events(&Query::outcomes().of(&device.name)).await
    }
}

/// Reads outcomes up to a state that nothing follows on, for one command.
async fn outcomes_until(stream: &mut EventStream, id: &str, state: &str) -> Vec<Received> {
    let mut events: Vec<Received> = Vec::new();
    loop {
        let received = stream.next().await;
        if received.attribute("correlationid") != id {
            continue;
        }
        let is_last = received.attribute("type") == format!("io.drogue.command.{state}.v1");
        events.push(received);
        if is_last {
            return events;
        }
    }
}

/// Lets a device wait for one command and reply to it.
fn replier<D: DeviceDriver>(
    driver: D,
    tenant: &Tenant,
    device: &Device,
    status: u16,
    reply: &str,
) -> impl Future<Output = Command> + Send + 'static {
    let (tenant, device, reply) = (tenant.clone(), device.clone(), reply.to_owned());
    async move {
        let waiting = Waiting::begin(driver, &tenant, &device, LONG).await;
        let command = waiting.end().await.expect("a command comes");
        let replied = driver.reply(tenant.gate(), &device, &command.id, status, reply.as_bytes()).await;
        assert_eq!(replied, Ok(()));
        command
    }
}

/// Begins a wait of the device, and returns when the device is reachable.
async fn reachable<D: DeviceDriver>(driver: D, tenant: &Tenant, device: &Device) -> Waiting {
    Waiting::begin(driver, tenant, device, LONG).await
}

/// An id that a 202 gave can be asked for from that moment on.
pub async fn an_accepted_command_can_be_looked_up<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let waiting = reachable(driver, &tenant, &device).await;
    let answer = tenant.submit(&device, "set-temp", &payload()).await;
    let id = answer.expect_status(202).json()["id"].as_str().expect("an id").to_owned();
    let location = answer.header("location").to_owned();
    assert_eq!(location, format!("/v1/{}/commands/{id}", tenant.path(&device)));
    let command =
        tenant.api.get(location.strip_prefix("/v1/").expect("a path")).await.expect_status(200).json();
    assert_eq!((&command["id"], &command["name"]), (&id.clone().into(), &"set-temp".into()));
    assert!(waiting.end().await.is_some());
    let command = tenant.command_in(&device, &id, "delivered").await;
    let history = command["history"].as_array().expect("a history");
    let states: Vec<_> = history.iter().map(|step| step["state"].as_str().expect("a state")).collect();
    assert_eq!(states, ["accepted", "delivered"]);
    assert!(history.iter().all(|step| step["time"].is_string()) && command["expires"].is_string());
    let unknown = format!("{}/commands/0193aaaa-0000-7000-8000-000000000000", tenant.path(&device));
    tenant.api.get(&unknown).await.expect_problem(404);
}

/// `wait=delivered` is answered when the device has the command, and an event says the same.
pub async fn a_delivered_command_is_reported_to_whoever_waits_and_as_an_event<D: DeviceDriver>(
    driver: D,
    cloud: &Cloud,
) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.outcomes(&device).await;
    let waiting = reachable(driver, &tenant, &device).await;
    let answer = tenant.submit(&device, "set-temp?wait=delivered&timeout=30s", &payload()).await;
    let command = answer.expect_status(200).json();
    assert_eq!(command["state"], "delivered");
    let id = command["id"].as_str().expect("an id");
    assert_eq!(waiting.end().await.map(|command| command.id), Some(id.to_owned()));
    let events = outcomes_until(&mut stream, id, "delivered").await;
    let [delivered] = &events[..] else { panic!("one outcome: {events:?}") };
    assert!(["puback", "written"].contains(&delivered.attribute("confirmation")));
    assert_eq!(delivered.attribute("id"), format!("{id}.delivered.1"));
    assert_eq!(delivered.attribute("subject"), "set-temp");
    assert_eq!(delivered.attribute("causationid"), id);
}

/// A command without a `ttl` for a device that is away is known to have met no connection.
pub async fn row_10_a_command_for_an_absent_device_is_reported<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let (device, other) = (tenant.device().await, tenant.device().await);
    let elsewhere = reachable(driver, &tenant, &other).await;
    let mut stream = tenant.outcomes(&device).await;
    let answer = tenant.submit(&device, "set-temp?wait=delivered&timeout=30s", &payload()).await;
    answer.expect_problem(409);
    let command = answer.json();
    assert_eq!((&command["state"], &command["reason"]), (&"undelivered".into(), &"not-connected".into()));
    let id = command["id"].as_str().expect("an id");
    let events = outcomes_until(&mut stream, id, "undelivered").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].attribute("reason"), "not-connected");
    let command = tenant.command_in(&device, id, "undelivered").await;
    assert_eq!(command["reason"], "not-connected");
    assert!(!elsewhere.is_over());
}

/// 202 says that the command goes on.
pub async fn what_is_not_known_in_time_is_still_under_way<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let waiting = reachable(driver, &tenant, &device).await;
    let answer = tenant.submit(&device, "ask?wait=reply&timeout=1s", &payload()).await;
    let id = answer.expect_status(202).json()["id"].as_str().expect("an id").to_owned();
    assert!(answer.header("location").ends_with(&id));
    assert_eq!(waiting.end().await.map(|command| command.id), Some(id.clone()));
    tenant.command_in(&device, &id, "delivered").await;
    let replied = driver.reply(tenant.gate(), &device, &id, 200, b"{}").await;
    assert_eq!(replied, Ok(()));
    tenant.command_in(&device, &id, "replied").await;
    for bad in
        ["wait=soon", "wait=reply&timeout=61s", "wait=reply&timeout=0s", "timeout=5s", "ttl=1ms", "ttl=31d"]
    {
        tenant.submit(&device, &format!("ask?{bad}"), &payload()).await.expect_problem(400);
    }
}

/// `wait=reply` is answered with what the device says, as it says it.
pub async fn a_reply_is_the_answer<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.outcomes(&device).await;
    let mut telemetry = tenant.telemetry().await;
    let reply = payload();
    let device_side = tokio::spawn(replier(driver, &tenant, &device, 207, &reply));
    telemetry.next().await;
    let answer = tenant.submit(&device, "ask?wait=reply&timeout=30s", &payload()).await;
    answer.expect_status(200);
    assert_eq!((answer.header("command-status"), &answer.body[..]), ("207", reply.as_bytes()));
    let command = within("the device", device_side).await.expect("the device does not fail");
    let events = outcomes_until(&mut stream, &command.id, "replied").await;
    let replied = events.last().expect("there is one");
    assert_eq!((replied.attribute("status"), replied.attribute("subject")), ("207", "ask"));
    tenant.command_in(&device, &command.id, "replied").await;
}

/// A device's refusal is an answer, and not a failure of the server.
pub async fn a_device_may_reject<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let mut telemetry = tenant.telemetry().await;
    let device_side = tokio::spawn(replier(driver, &tenant, &device, 403, "{}"));
    telemetry.next().await;
    let answer = tenant.submit(&device, "open-door?wait=reply&timeout=30s", &payload()).await;
    assert_eq!(answer.expect_status(200).header("command-status"), "403");
    within("the device", device_side).await.expect("the device does not fail");
}

/// Only the device that was sent a command may reply to it.
pub async fn a_reply_of_another_device_is_refused<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let (device, other) = (tenant.device().await, tenant.device().await);
    let waiting = reachable(driver, &tenant, &device).await;
    let id = tenant.command(&device, "ask", &payload()).await;
    assert!(waiting.end().await.is_some());
    tenant.command_in(&device, &id, "delivered").await;
    let foreign = driver.reply(tenant.gate(), &other, &id, 200, b"{}").await;
    let unknown =
        driver.reply(tenant.gate(), &device, "0193aaaa-0000-7000-8000-000000000000", 200, b"{}").await;
    let refused = match D::NAME {
        "HTTP" => Err(Refused::Message("404".to_owned())),
        "MQTT 5" => Err(Refused::Message("Publish(135)".to_owned())),
        _ => Ok(()),
    };
    assert_eq!((foreign, unknown), (refused.clone(), refused));
    let own = driver.reply(tenant.gate(), &device, &id, 201, b"{}").await;
    assert_eq!(own, Ok(()));
    tenant.command_in(&device, &id, "replied").await;
    for status in [99, 600] {
        assert!(driver.reply(tenant.gate(), &device, &id, status, b"{}").await.is_err(), "{status}");
    }
}

/// The first reply counts.
pub async fn a_second_reply_is_refused<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.outcomes(&device).await;
    let mut telemetry = tenant.telemetry().await;
    let device_side = tokio::spawn(replier(driver, &tenant, &device, 200, "{}"));
    telemetry.next().await;
    let id = tenant.command(&device, "ask", &payload()).await;
    within("the device", device_side).await.expect("the device does not fail");
    tenant.command_in(&device, &id, "replied").await;
    let again = driver.reply(tenant.gate(), &device, &id, 500, b"{}").await;
    match D::NAME {
        "HTTP" => assert_eq!(again, Err(Refused::Message("409".to_owned()))),
        "MQTT 5" => assert!(again.is_err()),
        _ => assert_eq!(again, Ok(())),
    }
    let events = outcomes_until(&mut stream, &id, "replied").await;
    assert_eq!(events.last().map(|event| event.attribute("status")), Some("200"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let command = tenant.command_in(&device, &id, "replied").await;
    let states = command["history"].as_array().expect("a history");
    assert_eq!(states.iter().filter(|step| step["state"] == "replied").count(), 1);
}

/// Whether a device can be reached, and over what, can be asked for.
pub async fn a_connection_can_be_looked_up<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let path = format!("{}/connection", tenant.path(&device));
    let before = tenant.api.get(&path).await.expect_status(200).json();
    assert_eq!(before["connected"], false);
    let waiting = reachable(driver, &tenant, &device).await;
    let connected = eventually("the device is connected", || async {
        let connection = tenant.api.get(&path).await.expect_status(200).json();
        (connection["connected"] == true).then_some(connection)
    })
    .await;
    let protocol = if D::NAME == "HTTP" { "http" } else { "mqtt" };
    assert_eq!(connected["protocol"], protocol);
    assert!(connected["since"].is_string() && connected["replica"].is_string(), "{connected}");
    assert_eq!(connected["until"].is_string(), D::NAME == "HTTP", "{connected}");
    waiting.hang_up().await;
    eventually("the device is away", || async {
        let connection = tenant.api.get(&path).await.expect_status(200).json();
        (connection["connected"] == false && connection["since"].is_string()).then_some(())
    })
    .await;
    let stranger = tenant.stranger();
    tenant.api.get(&format!("{}/connection", tenant.path(&stranger))).await.expect_problem(404);
}
