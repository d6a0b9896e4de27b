//! Whether each program's account may do what the program does, and nothing more.

use common::testing::eventually_blocking;
use serde_json::{Value, json};
use tests::deploy::{self, kubectl, text};

use crate::namespace::{Namespace, accept};

const ENDPOINTS: [&str; 3] = ["http-endpoint", "mqtt-endpoint", "command-endpoint"];
const MESSAGING: &str = "messaging.knative.dev";

/// Verb, group, resource with subresource, and name; an empty name means any.
type Right = (&'static str, &'static str, &'static str, &'static str);

const CHANNELS: [Right; 2] =
    [("get", MESSAGING, "kafkachannels", "commands"), ("get", MESSAGING, "inmemorychannels", "telemetry")];
const SUBSCRIBING: [Right; 5] = [
    ("get", "", "pods", ""),
    ("create", MESSAGING, "subscriptions", ""),
    ("get", MESSAGING, "subscriptions", ""),
    ("patch", MESSAGING, "subscriptions", ""),
    ("delete", MESSAGING, "subscriptions", ""),
];
const CONTROLLING: [Right; 8] = [
    ("list", "iot.drogue.io", "devices", ""),
    ("watch", "iot.drogue.io", "applications", ""),
    ("patch", "iot.drogue.io", "devices", ""),
    ("patch", "iot.drogue.io", "devices/status", ""),
    ("patch", "iot.drogue.io", "applications/status", ""),
    ("get", "", "secrets", ""),
    ("list", "", "secrets", ""),
    ("watch", "", "secrets", ""),
];
/// What no program needs, whatever else it may.
const NOBODY: [Right; 8] = [
    ("create", "", "pods", ""),
    ("list", "", "pods", ""),
    ("create", "", "secrets", ""),
    ("create", "iot.drogue.io", "devices", ""),
    ("create", "iot.drogue.io", "devices/command", ""),
    ("patch", MESSAGING, "kafkachannels", "commands"),
    ("get", MESSAGING, "kafkachannels", "another"),
    ("list", MESSAGING, "subscriptions", ""),
];

/// Returns which of some rights an account has.
fn held(namespace: &Namespace, account: &str, rights: &[Right]) -> Vec<Right> {
    let reviews: Vec<_> = rights.iter().map(|right| review(namespace, account, *right).to_string()).collect();
    let output = kubectl(&["create", "-f", "-", "-o", "jsonpath={.status.allowed} "], &reviews.join("\n"));
    accept(&output, "reviews");
    let answers = text(&output.stdout);
    let answers: Vec<_> = answers.split_whitespace().collect();
    assert_eq!(answers.len(), rights.len(), "{answers:?}");
    rights.iter().zip(answers).filter(|(_, answer)| *answer == "true").map(|(right, _)| *right).collect()
}

fn review(namespace: &Namespace, account: &str, (verb, group, resource, name): Right) -> Value {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": format!("system:serviceaccount:{}:{account}", namespace.name()),
            "resourceAttributes": {
                "namespace": namespace.name(),
                "verb": verb,
                "group": group,
                "resource": resource,
                "subresource": subresource,
                "name": name,
            },
        },
    })
}

/// Makes the accounts of an overlay, and their rights in their namespace.
fn accounts(test: &str, overlay: &str) -> Option<Namespace> {
    if !deploy::have_cluster(test) {
        return None;
    }
    let mut objects = deploy::rendered(test, overlay)?;
    objects.retain(|object| {
        ["ServiceAccount", "Role", "RoleBinding"].iter().any(|kind| object["kind"] == *kind)
    });
    let namespace = Namespace::new();
    namespace.create(&objects);
    Some(namespace)
}

#[test]
fn each_account_may_what_its_program_does_and_no_more() {
    let Some(namespace) = accounts("each_account_may_what_its_program_does_and_no_more", "in-memory") else {
        return;
    };
    let all = [&CHANNELS[..], &SUBSCRIBING, &CONTROLLING, &NOBODY].concat();
    let receiving = [&CHANNELS[..], &SUBSCRIBING].concat();
    for account in ENDPOINTS {
        eventually_blocking(account, || held(&namespace, account, &all) == receiving);
    }
    eventually_blocking("controller", || held(&namespace, "controller", &all) == CONTROLLING);
}

#[test]
fn an_endpoint_that_reads_from_kafka_may_not_subscribe() {
    let Some(namespace) = accounts("an_endpoint_that_reads_from_kafka_may_not_subscribe", "kind") else {
        return;
    };
    let all = [&CHANNELS[..], &SUBSCRIBING].concat();
    for account in ENDPOINTS {
        eventually_blocking(account, || held(&namespace, account, &all) == CHANNELS);
    }
}
