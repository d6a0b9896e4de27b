//! What becomes of commands, as applications learn it; a device service plays the device.

mod keys;

use common::auth::{Login, Secret};
use common::id::DeviceKey;
use common::outcome::{Confirmation, Outcome, Reason, Reply};
use common::registry::Scope;
use common::service::{Connection, Delivery, DeviceService, Limits, Protocol, Session};
use common::testing::{MemoryChannel, MemorySentCommands, PATIENCE, StaticAuthenticator, device_service};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::fixture::{Answer, Fixture, answer};

const DEVICE: &str = "/v1/apps/app/devices/d";
const PATH: &str = "/v1/apps/app/devices/d/commands/set";

/// A server, and a replica to which its device can connect.
struct Cloud {
    fixture: Fixture,
    service: DeviceService,
    token: String,
}

impl Cloud {
    async fn new() -> Self {
        let (channel, devices) = (MemoryChannel::new(), StaticAuthenticator::new());
        let fixture = Fixture::start(&channel).await;
        let token = fixture.token("app", &[Scope::Command]).await;
        devices.set(&DeviceKey::from_bytes(b"app/d").unwrap(), "secret");
        let sent = MemorySentCommands::new();
        let service = device_service(&channel, &devices, &sent, Limits::default()).await.unwrap();
        Self { fixture, service, token }
    }

    /// Connects the device.
    async fn connect(&self) -> (Session, Connection) {
        let login = Login { device: DeviceKey::from_bytes(b"app/d").unwrap(), secret: Secret::new("secret") };
        let session = self.service.log_in(Protocol::Mqtt, &login, None).await.unwrap();
        let connection = session.connect(session.queue()).await.unwrap();
        (session, connection)
    }

    /// Sends a command, and does not wait for the answer.
    fn send(&self, query: &str) -> JoinHandle<Answer> {
        let request = self.fixture.request(Method::POST, &format!("{PATH}?{query}"), &self.token);
        tokio::spawn(answer(request.body("on")))
    }

    async fn post(&self, query: &str) -> Answer {
        self.send(query).await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.fixture.get(path, &self.token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    async fn delete(&self, path: &str) -> Answer {
        self.fixture.delete(path, &self.token).await
    }
}

/// Waits for a command and begins to write it; returns its id, too.
async fn begun(connection: &Connection) -> (Delivery, common::id::EventId) {
    let received = tokio::time::timeout(PATIENCE, connection.receive()).await;
    let mut delivery = received.expect("a command comes").unwrap();
    let id = delivery.begin().unwrap().id;
    (delivery, id)
}

/// Returns the members of a problem that says what became of a command.
fn not_reached(answer: &Answer) -> (Value, Value) {
    answer.problem(409);
    let problem = answer.json();
    assert!(problem["history"].is_array() && problem["id"].is_string(), "{problem}");
    (problem["state"].clone(), problem["reason"].clone())
}

fn states(command: &Value) -> Vec<&str> {
    command["history"].as_array().unwrap().iter().map(|step| step["state"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_delivery_is_told_of_it() {
    let cloud = Cloud::new().await;
    let (_session, connection) = cloud.connect().await;
    let waiting = cloud.send("wait=delivered");
    let (delivery, id) = begun(&connection).await;
    assert!(!waiting.is_finished());
    delivery.finish(Outcome::Delivered(Confirmation::Puback));
    let answer = waiting.await.unwrap();
    let command = answer.json();
    assert_eq!(
        (answer.status, &command["state"], &command["id"]),
        (200, &json!("delivered"), &json!(id.as_str()))
    );
    assert_eq!(states(&command), ["accepted", "delivered"]);
    assert_eq!(cloud.get(&format!("{DEVICE}/commands/{id}")).await["state"], "delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_not_delivered_is_a_conflict_that_says_why() {
    let cloud = Cloud::new().await;
    let away = cloud.post("wait=delivered").await;
    assert_eq!(not_reached(&away), (json!("undelivered"), json!("not-connected")));
    let (_session, connection) = cloud.connect().await;
    let waiting = cloud.send("wait=reply");
    let (delivery, _) = begun(&connection).await;
    delivery.finish(Outcome::Undelivered(Reason::NoAck));
    assert_eq!(not_reached(&waiting.await.unwrap()), (json!("undelivered"), json!("no-ack")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reply_is_the_answer_as_the_device_gave_it() {
    let cloud = Cloud::new().await;
    let (session, connection) = cloud.connect().await;
    let waiting = cloud.send("wait=reply");
    let (delivery, id) = begun(&connection).await;
    delivery.finish(Outcome::Delivered(Confirmation::Puback));
    let reply = Reply::received(Some(403), Some("text/plain".into()), "no".into());
    session.reply(id, reply).await.unwrap();
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status, answer.body.as_ref()), (200, b"no".as_slice()));
    assert_eq!(
        (&answer.headers["command-status"], &answer.headers["content-type"]),
        (&"403".parse().unwrap(), &"text/plain".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waited_in_vain_has_a_command_that_is_still_under_way() {
    let cloud = Cloud::new().await;
    let late = cloud.post("ttl=1m&wait=delivered&timeout=10ms").await;
    assert_eq!(late.status, 202, "{late:?}");
    let location = late.headers["location"].to_str().unwrap().to_owned();
    let command = cloud.get(&location).await;
    assert_eq!((&command["id"], &command["state"]), (&late.json()["id"], &json!("pending")));
    let (_session, connection) = cloud.connect().await;
    let (delivery, id) = begun(&connection).await;
    assert_eq!(late.json()["id"], id.as_str());
    delivery.finish(Outcome::Delivered(Confirmation::Written));
    let delivered = async || cloud.get(&location).await["state"] == "delivered";
    common::testing::eventually_async("it is delivered", delivered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_shown_with_its_past() {
    let cloud = Cloud::new().await;
    let path = format!("{DEVICE}/connection");
    assert_eq!(cloud.get(&path).await, json!({ "connected": false }));
    let (session, connection) = cloud.connect().await;
    let connected = async |wanted: bool| cloud.get(&path).await["connected"] == wanted;
    common::testing::eventually_async("it is connected", async || connected(true).await).await;
    let shown = cloud.get(&path).await;
    let replica = cloud.service.incarnation();
    assert_eq!((&shown["protocol"], &shown["replica"]), (&json!("mqtt"), &json!(replica.as_str())));
    drop((connection, session));
    common::testing::eventually_async("it is away", async || connected(false).await).await;
    assert!(cloud.get(&path).await["since"].is_string());
    cloud.fixture.get("/v1/apps/app/devices/none/connection", &cloud.token).await.problem(404);
}
