//! A real Knative: channels in memory, in a namespace of a test's own, and Pods for the processes of this machine.

pub mod kafka_channels;

use std::net::IpAddr;
use std::sync::OnceLock;

use common::channel::Channel;
use common::testing::skip;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use serde_json::{Value, json};
use url::Url;

use crate::fleet::{self, Fleet, Ground, Kind, Shape};
use crate::kube::{self as cluster, Namespace};
use crate::ports;
use crate::wait::eventually;

/// The variable that names this machine's address, as the cluster's dispatcher reaches it.
const HOST_IP: &str = "DROGUE_TEST_HOST_IP";
/// The variable that names the HTTP proxy through which channels are reached from this machine.
const GATEWAY: &str = "DROGUE_TEST_CHANNEL_GATEWAY";
const API: &str = "messaging.knative.dev/v1";
const KIND: &str = "InMemoryChannel";

/// The channels of a cloud, on Knative.
#[derive(Debug)]
pub struct Channels {
    namespace: Namespace,
    host: IpAddr,
    gateway: Url,
}

/// Makes channels that answer before their subscribers have, as the manifests make them. Says visibly that `test` is skipped
/// if the environment names no Knative.
///
/// # Panics
/// Panics if the cluster does not make them, or if none is named and `DROGUE_TEST_REQUIRE` lists `kube`.
pub async fn given(test: &str) -> Option<Channels> {
    channels(test, true).await
}

/// Makes channels that answer when all subscribers have.
///
/// # Panics
/// See [`given`].
pub async fn given_waiting(test: &str) -> Option<Channels> {
    channels(test, false).await
}

async fn channels(test: &str, at_once: bool) -> Option<Channels> {
    let namespace = cluster::given(test).await?;
    let (Some(host), Some(gateway)) = (variable(HOST_IP), variable(GATEWAY)) else {
        let because =
            format!("{HOST_IP} and {GATEWAY} do not say how Knative and this machine reach each other");
        skip(test, "kube", &because);
        return None;
    };
    let channels = Channels {
        namespace,
        host: host.parse().expect("an address"),
        gateway: gateway.parse().expect("a URL"),
    };
    for channel in Channel::ALL {
        let annotations = json!({ "messaging.knative.dev/async-handler": at_once.to_string() });
        let metadata = json!({ "name": channel.as_str(), "annotations": annotations });
        channels.namespace.apply(json!({ "apiVersion": API, "kind": KIND, "metadata": metadata })).await;
    }
    Some(channels)
}

#[expect(clippy::disallowed_methods, reason = "tests have no command line to take this from")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns two of each kind of endpoint on channels that all tests of this process share. Says visibly that `test` is skipped
/// if the environment names no Knative.
///
/// # Panics
/// Panics if the fleet does not start.
pub fn shared(test: &str) -> Option<&'static Fleet<Channels>> {
    static SHARED: OnceLock<Option<Fleet<Channels>>> = OnceLock::new();
    let started = fleet::share(&SHARED, || async { Some(fleet(given(test).await?, 2).await) });
    if started.is_none() {
        skip(test, "kube", "the environment names no Knative");
    }
    started
}

/// Starts so many endpoints of each kind, each with a Pod of its own.
///
/// # Panics
/// Panics if one does not become ready.
pub async fn fleet(channels: Channels, each: usize) -> Fleet<Channels> {
    for kind in [Kind::Http, Kind::Mqtt, Kind::Command] {
        for number in 0..each {
            channels.pod(&pod_of(kind, number)).await;
        }
    }
    Fleet::start(channels, Shape { http: each, mqtt: each, command: each }, &[]).await
}

/// Returns the name of the Pod of a process.
pub fn pod_of(kind: Kind, number: usize) -> String {
    format!("{}-{number}", kind.program())
}

impl Channels {
    /// Returns the namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Returns this machine's address, as the dispatcher reaches it.
    pub fn host(&self) -> IpAddr {
        self.host
    }

    /// Returns the proxy through which channels are reached.
    pub fn gateway(&self) -> &Url {
        &self.gateway
    }

    /// Makes a Pod that stands for a process of this machine.
    ///
    /// # Panics
    /// Panics if the cluster does not make it.
    pub async fn pod(&self, name: &str) {
        let image = "example.invalid/process-of-this-machine";
        self.namespace
            .apply(json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "name": name },
                // No scheduler takes it, and without a node it would be deleted at once.
                "spec": { "nodeName": "tests", "containers": [{ "name": "main", "image": image }] },
            }))
            .await;
        let ip = self.host.to_string();
        let status = json!({ "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] });
        let pod =
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "status": status });
        self.namespace.apply_status(pod).await;
    }

    /// Deletes a Pod, as a kubelet does once its process has ended.
    ///
    /// # Panics
    /// Panics if the cluster refuses.
    pub async fn delete_pod(&self, name: &str) {
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        let deleted = self.namespace.objects("v1", "Pod").delete(name, &at_once).await;
        deleted.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Returns the Subscriptions that belong to a Pod.
    ///
    /// # Panics
    /// Panics if the cluster does not answer.
    pub async fn subscriptions_of(&self, pod: &str) -> Vec<DynamicObject> {
        let api: Api<DynamicObject> = self.namespace.objects(API, "Subscription");
        let all = api.list(&ListParams::default()).await.expect("the cluster answers");
        let is_owner = |object: &DynamicObject| {
            object.metadata.owner_references.iter().flatten().any(|owner| owner.name == pod)
        };
        all.items.into_iter().filter(is_owner).collect()
    }

    /// Waits until a Pod has no Subscription any more.
    ///
    /// # Panics
    /// Panics if it keeps one.
    pub async fn wait_until_unsubscribed(&self, pod: &str) {
        let is_gone = || async { self.subscriptions_of(pod).await.is_empty().then_some(()) };
        eventually(&format!("{pod} leaves no Subscription behind"), is_gone).await;
    }

    /// Waits until each channel is ready, and returns where they take events.
    ///
    /// # Panics
    /// Panics if one does not become ready.
    pub async fn urls(&self) -> Vec<(Channel, Url)> {
        let api: Api<DynamicObject> = self.namespace.objects(API, KIND);
        let mut urls = Vec::new();
        for channel in Channel::ALL {
            let url = || async {
                let object = api.get(channel.as_str()).await.ok()?;
                object.data.pointer("/status/address/url").and_then(Value::as_str)?.parse().ok()
            };
            urls.push((channel, eventually(&format!("{channel} has an address"), url).await));
        }
        urls
    }
}

impl Ground for Channels {
    fn options(&self, kind: Kind, number: usize) -> Vec<String> {
        let own = if kind == Kind::Command { Channel::Commands } else { Channel::Telemetry };
        let resources = Channel::ALL.map(|channel| format!("{channel}={KIND}/{channel}")).join(",");
        let port = ports::free().port();
        vec![
            // What a SinkBinding says.
            format!("--sink=http://{own}-kn-channel.{}.svc.cluster.local", self.namespace.name()),
            format!("--channel={resources}"),
            format!("--subscriber-listen=0.0.0.0:{port}"),
            format!("--pod-name={}", pod_of(kind, number)),
            format!("--kube-namespace={}", self.namespace.name()),
        ]
    }

    fn environment(&self) -> Vec<(String, String)> {
        let gateway = self.gateway.to_string();
        vec![("http_proxy".into(), gateway), ("no_proxy".into(), "127.0.0.1,localhost".into())]
    }
}
