//! Devices that were away while commands were kept for them, and how they come back for them.

use serde_json::Value;

use crate::api::http_client;
use crate::devices::{DeviceDriver, HttpDevice};
use crate::mqtt::wire::Connect;
use crate::mqtt::{Client, Version};
use crate::outcomes::Outcomes;
use crate::secrets::{payload, unique};
use crate::tenant::{Device, Tenant};
use crate::wait::{eventually, within};
use crate::waiting::LONG;

/// How a device comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// By one MQTT connection.
    Mqtt(Version),
    /// By one HTTP request after the other.
    Http,
    /// By an HTTP request that takes all in one response.
    Batch,
}

/// A device that comes back in a way, and what was sent to it so far.
#[derive(Debug)]
struct Returner {
    how: Return,
    device: Device,
    sent: Vec<String>,
    /// The ids that it received, without those that came again.
    received: Vec<String>,
    again: usize,
}

/// Devices that are away, one for each way to come back.
#[derive(Debug)]
pub struct Returners(Vec<Returner>);

impl Returners {
    /// Makes the devices.
    pub async fn new(tenant: &Tenant) -> Self {
        let mqtt = [Version::V311, Version::V5].map(Return::Mqtt);
        let mut all = Vec::new();
        for how in mqtt.into_iter().chain([Return::Http, Return::Batch]) {
            let (sent, received) = (Vec::new(), Vec::new());
            all.push(Returner { how, device: tenant.device().await, sent, received, again: 0 });
        }
        Self(all)
    }

    /// Sends each of them so many commands that are kept.
    ///
    /// # Panics
    /// Panics if one is not accepted.
    pub async fn send(&mut self, tenant: &Tenant, count: usize) {
        for returner in &mut self.0 {
            for _ in 0..count {
                let name = format!("n{}", returner.sent.len());
                returner.sent.push(tenant.command_with_ttl(&returner.device, &name, "10m").await);
            }
        }
    }

    /// Lets those that do not take all at once come back, and go away in the middle: when `count` have come.
    pub async fn begin(&mut self, tenant: &Tenant, count: usize) {
        for returner in self.0.iter_mut().filter(|returner| returner.how != Return::Batch) {
            let last = returner.sent[count - 1].clone();
            returner.receive(tenant, &last).await;
        }
    }

    /// Lets them come back until they have all, in order, and checks that this is what is told of each command.
    ///
    /// # Panics
    /// Panics if a command is missing or came out of order, or if one came again that had no reason to.
    pub async fn finish(mut self, tenant: &Tenant) {
        for returner in &mut self.0 {
            let (last, undisturbed) =
                (returner.sent[returner.sent.len() - 1].clone(), returner.received.is_empty());
            let responses = returner.receive(tenant, &last).await;
            let how = returner.how;
            assert_eq!(returner.received, returner.sent, "{how:?}");
            assert!(returner.again == 0 || !undisturbed, "{how:?}: a command came again");
            if how == Return::Batch && undisturbed {
                assert_eq!(responses, 1, "all pending come in one batch");
            }
            let mut outcomes = Outcomes::of(tenant, &returner.device).await;
            for id in &returner.sent {
                let confirmation = if matches!(how, Return::Mqtt(_)) { "puback" } else { "written" };
                assert_eq!(outcomes.end(id).await, format!("delivered: {confirmation}"), "{how:?}");
            }
            let path = format!("{}/commands?state=pending", tenant.path(&returner.device));
            let pending = tenant.api.get(&path).await.expect_status(200).json();
            assert_eq!(pending["items"], Value::Array(Vec::new()), "{how:?}");
        }
    }
}

impl Returner {
    /// Connects until a command has come, and returns how many connections or responses that took.
    async fn receive(&mut self, tenant: &Tenant, last: &str) -> usize {
        match self.how {
            Return::Mqtt(version) => self.subscribe(tenant, version, last).await,
            Return::Http | Return::Batch => {
                let mut responses = 0;
                while !self.received.iter().any(|id| id == last) {
                    let ids = match self.how {
                        Return::Batch => batch(tenant, &self.device).await,
                        Return::Http | Return::Mqtt(_) => one(tenant, &self.device).await,
                    };
                    responses += usize::from(!ids.is_empty());
                    ids.into_iter().for_each(|id| self.note(id));
                }
                responses
            }
        }
    }

    async fn subscribe(&mut self, tenant: &Tenant, version: Version, last: &str) -> usize {
        let connect = Connect { client_id: unique(), ..Connect::of(version, &self.device) };
        let mut client = eventually("the device is let in", || async {
            Client::connect_with(tenant.gate().mqtt, &connect).await.ok()
        })
        .await;
        assert_eq!(client.subscribe(&[("cmd/#", 1)]).await, Ok(vec![1]));
        while !self.received.iter().any(|id| id == last) {
            let message = client.message().await.expect("the session goes on");
            self.note(message.topic.split('/').nth(2).expect("the topic is cmd/{name}/{id}").to_owned());
        }
        client.disconnect().await;
        1
    }

    /// Notes what came. What came before may come again: its acknowledgement may not have been heard.
    fn note(&mut self, id: String) {
        if self.received.contains(&id) {
            self.again += 1;
        } else {
            self.received.push(id);
        }
    }
}

async fn one(tenant: &Tenant, device: &Device) -> Vec<String> {
    let answer = HttpDevice.exchange(tenant.gate(), device, "t", payload().as_bytes(), LONG).await;
    answer.expect("telemetry is accepted").into_iter().map(|command| command.id).collect()
}

async fn batch(tenant: &Tenant, device: &Device) -> Vec<String> {
    let url = format!("http://{}/v1/t?ttd=50", tenant.gate().http);
    let request = http_client().post(url).basic_auth(device.user(), Some(&device.secret)).body(payload());
    let request = request.header("accept", "application/cloudevents-batch+json");
    let answer = within("the end of the wait", request.send()).await.expect("the endpoint answers");
    assert_eq!(answer.status(), 202);
    let body = within("the body", answer.bytes()).await.expect("the body is whole");
    if body.is_empty() {
        return Vec::new();
    }
    let events: Vec<Value> = serde_json::from_slice(&body).expect("a batch is a JSON array");
    events.iter().map(|event| event["id"].as_str().expect("an event has an id").to_owned()).collect()
}
