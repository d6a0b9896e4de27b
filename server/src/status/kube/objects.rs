//! What the objects of a namespace say of themselves.

use std::fmt;

use ::kube::api::DynamicObject;
use ::kube::core::gvk::GroupVersionKind;
use common::kubernetes::conditions::{condition, outdated, unready};
use serde::Serialize;
use serde_json::Value;

/// A kind of object that the cloud is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Deployment,
    Service,
    KnativeService,
    InMemoryChannel,
    KafkaChannel,
    Channel,
    Subscription,
    SinkBinding,
}

impl Kind {
    /// All kinds, in the order in which they are shown.
    pub(super) const ALL: [Self; 8] = [
        Self::Deployment,
        Self::Service,
        Self::KnativeService,
        Self::InMemoryChannel,
        Self::KafkaChannel,
        Self::Channel,
        Self::Subscription,
        Self::SinkBinding,
    ];

    /// Returns the versions that can be read, the first one that the cluster serves is.
    pub(super) fn versions(self) -> Vec<GroupVersionKind> {
        let (group, versions, kind): (_, &[&str], _) = match self {
            Self::Deployment => ("apps", &["v1"], "Deployment"),
            Self::Service => ("", &["v1"], "Service"),
            Self::KnativeService => ("serving.knative.dev", &["v1"], "Service"),
            Self::InMemoryChannel => ("messaging.knative.dev", &["v1"], "InMemoryChannel"),
            Self::KafkaChannel => ("messaging.knative.dev", &["v1", "v1beta1"], "KafkaChannel"),
            Self::Channel => ("messaging.knative.dev", &["v1"], "Channel"),
            Self::Subscription => ("messaging.knative.dev", &["v1"], "Subscription"),
            Self::SinkBinding => ("sources.knative.dev", &["v1"], "SinkBinding"),
        };
        versions.iter().map(|version| GroupVersionKind::gvk(group, version, kind)).collect()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deployment => "Deployment",
            Self::Service => "Service",
            Self::KnativeService => "Knative Service",
            Self::InMemoryChannel => "InMemoryChannel",
            Self::KafkaChannel => "KafkaChannel",
            Self::Channel => "Channel",
            Self::Subscription => "Subscription",
            Self::SinkBinding => "SinkBinding",
        })
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An object, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) ready: bool,
    /// Where it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<String>,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

impl Row {
    /// Judges an object by its status.
    pub(super) fn of(kind: Kind, object: &DynamicObject) -> Self {
        let reason = match kind {
            Kind::Deployment => deployment(object),
            Kind::Service => service(object),
            Kind::KnativeService
            | Kind::InMemoryChannel
            | Kind::KafkaChannel
            | Kind::Channel
            | Kind::Subscription
            | Kind::SinkBinding => unready(object, "Ready"),
        };
        Self {
            kind,
            name: object.metadata.name.clone().unwrap_or_default(),
            ready: reason.is_none(),
            address: address(kind, object),
            reason: reason.map(|reason| without_subscriber(reason, object)),
        }
    }
}

/// Returns the address that an object says it has. That of a subscriber is left out: it holds what lets events in.
fn address(kind: Kind, object: &DynamicObject) -> Option<String> {
    let status = &object.data["status"];
    let address = match kind {
        Kind::KnativeService => &status["url"],
        Kind::InMemoryChannel | Kind::KafkaChannel | Kind::Channel => &status["address"]["url"],
        Kind::SinkBinding => &status["sinkUri"],
        Kind::Deployment | Kind::Service | Kind::Subscription => &Value::Null,
    };
    address.as_str().map(str::to_owned)
}

fn without_subscriber(reason: String, object: &DynamicObject) -> String {
    let uris = [
        &object.data["spec"]["subscriber"]["uri"],
        &object.data["status"]["physicalSubscription"]["subscriberUri"],
    ];
    let uris = uris.into_iter().filter_map(Value::as_str).filter(|uri| !uri.is_empty());
    uris.fold(reason, |reason, uri| reason.replace(uri, "its subscriber"))
}

/// Says why not all replicas of a Deployment are there, if so.
fn deployment(object: &DynamicObject) -> Option<String> {
    if let Some(reason) = outdated(object) {
        return Some(reason);
    }
    let count = |value: &Value, default| value.as_i64().unwrap_or(default);
    let wanted = count(&object.data["spec"]["replicas"], 1);
    let status = &object.data["status"];
    let updated = count(&status["updatedReplicas"], 0);
    let available = count(&status["availableReplicas"], 0);
    if available >= wanted && updated >= wanted {
        return None;
    }
    let said = ["ReplicaFailure", "Progressing", "Available"].into_iter().find_map(|kind| {
        let condition = condition(object, kind)?;
        // A failure is bad when it is true.
        let is_bad = (condition["status"] == "True") == (kind == "ReplicaFailure");
        condition["message"].as_str().filter(|message| is_bad && !message.is_empty())
    });
    let said = said.map_or_else(String::new, |message| format!(": {message}"));
    Some(format!("{available} of {wanted} replicas are available, {updated} up to date{said}"))
}

/// Says why a Service is not reached as it is meant to be, if so.
fn service(object: &DynamicObject) -> Option<String> {
    let waits = object.data["spec"]["type"] == "LoadBalancer" && ingress(object).is_none();
    waits.then(|| "the load balancer has no address yet".to_owned())
}

/// Returns the host of a Service's load balancer.
pub(super) fn ingress(object: &DynamicObject) -> Option<&str> {
    let ingress = object.data["status"]["loadBalancer"]["ingress"].as_array()?;
    let host = |entry: &'static str| move |ingress: &Value| ingress[entry].as_str().map(str::len).is_some();
    let first =
        |entry| ingress.iter().find(|&ingress| host(entry)(ingress)).and_then(|one| one[entry].as_str());
    first("ip").or_else(|| first("hostname"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn row(kind: Kind, spec: Value, status: Value) -> Row {
        let metadata = json!({"name": "x", "generation": 2});
        Row::of(kind, &object(json!({"metadata": metadata, "spec": spec, "status": status})))
    }

    fn reason(kind: Kind, spec: Value, status: Value) -> Option<String> {
        let row = row(kind, spec, status);
        assert_eq!(row.ready, row.reason.is_none());
        row.reason
    }

    #[test]
    fn a_deployment_is_ready_when_all_replicas_are() {
        let of = |replicas: Value, updated: i64, available: i64, conditions: Value| {
            let status = json!({"updatedReplicas": updated, "availableReplicas": available,
                "conditions": conditions});
            reason(Kind::Deployment, json!({"replicas": replicas}), status)
        };
        assert_eq!(of(json!(2), 2, 2, json!([])), None);
        assert_eq!(of(json!(null), 1, 1, json!([])), None);
        assert_eq!(of(json!(0), 0, 0, json!([])), None);
        let some = of(json!(2), 2, 1, json!([])).unwrap();
        assert_eq!(some, "1 of 2 replicas are available, 2 up to date");
        let old = of(json!(2), 1, 2, json!([])).unwrap();
        assert_eq!(old, "2 of 2 replicas are available, 1 up to date");
        let failure = json!([
            {"type": "Available", "status": "False", "message": "too few"},
            {"type": "Progressing", "status": "True", "message": "goes on"},
            {"type": "ReplicaFailure", "status": "True", "message": "no quota"}
        ]);
        assert!(of(json!(1), 0, 0, failure.clone()).unwrap().ends_with(": no quota"));
        let failure = json!(failure.as_array().unwrap()[..2]);
        assert!(of(json!(1), 0, 0, failure).unwrap().ends_with(": too few"));
    }

    #[test]
    fn a_service_waits_for_its_load_balancer_only() {
        let of = |kind: &str, ingress: Value| {
            reason(Kind::Service, json!({"type": kind}), json!({"loadBalancer": {"ingress": ingress}}))
        };
        assert_eq!(of("ClusterIP", json!(null)), None);
        assert_eq!(of("NodePort", json!(null)), None);
        assert!(of("LoadBalancer", json!(null)).unwrap().contains("no address yet"));
        assert!(of("LoadBalancer", json!([{}])).is_some());
        assert_eq!(of("LoadBalancer", json!([{"hostname": "h"}])), None);
    }

    #[test]
    fn addresses_are_shown_but_not_those_that_let_events_in() {
        let address = |kind, status: Value| row(kind, json!({}), status).address;
        assert_eq!(address(Kind::KnativeService, json!({"url": "http://a"})).unwrap(), "http://a");
        assert_eq!(address(Kind::Channel, json!({"address": {"url": "http://c"}})).unwrap(), "http://c");
        assert_eq!(address(Kind::SinkBinding, json!({"sinkUri": "http://s"})).unwrap(), "http://s");
        let uri = "http://10.0.0.1:8090/?token=abc";
        let spec = json!({"subscriber": {"uri": uri}});
        let status = json!({
            "physicalSubscription": {"subscriberUri": uri},
            "conditions": [{"type": "Ready", "status": "False", "message": format!("cannot reach {uri}")}],
        });
        let row = row(Kind::Subscription, spec, status);
        assert_eq!(row.reason.as_deref(), Some("cannot reach its subscriber"));
        assert!(!serde_json::to_string(&row).unwrap().contains("abc"));
    }
}
