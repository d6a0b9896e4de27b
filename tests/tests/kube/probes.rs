//! Whether the probes of the manifests ask what the programs answer, and leave them the time to begin.

use std::time::Duration;

use serde_json::Value;
use tests::deploy::{self, OVERLAYS, at, named};

/// Above what a replica may wait for its channels (60 s), its Subscriptions (60 s), a first event (30 s) and the database
/// before its admin server answers.
const START: Duration = Duration::from_secs(240);

/// Returns what runs programs of ours, with the container that does.
fn containers(objects: &[Value], api_version: &str) -> Vec<(String, Value)> {
    let ours = objects.iter().filter(|object| {
        at(object, "/apiVersion") == api_version && !at(object, "/metadata/name").starts_with("trial-")
    });
    let container = |object: &Value| object.pointer("/spec/template/spec/containers/0").cloned();
    ours.filter_map(|object| Some((named(object), container(object)?))).collect()
}

#[test]
fn a_knative_service_is_probed_for_life_where_knative_moves_the_probe_to() {
    let test = "a_knative_service_is_probed_for_life_where_knative_moves_the_probe_to";
    for overlay in OVERLAYS {
        let Some(objects) = deploy::rendered(test, overlay) else { return };
        let containers = containers(&objects, "serving.knative.dev/v1");
        assert_eq!(containers.len(), 2, "{overlay}");
        for (name, container) in containers {
            let liveness = &container["livenessProbe"];
            assert_eq!(
                liveness["tcpSocket"]["port"], container["ports"][0]["containerPort"],
                "{name}: {liveness}"
            );
            // On that port there is no path that answers 200 to anybody.
            assert_eq!(liveness.get("httpGet"), None, "{name}");
            // The readiness is asked for by Knative's proxy, where the manifest says.
            assert_eq!(container["readinessProbe"]["httpGet"]["port"], 9095, "{name}");
            assert_eq!(container.get("startupProbe"), None, "{name}: not every Knative takes it");
        }
    }
}

#[test]
fn no_replica_is_killed_before_it_can_say_why_it_does_not_begin() {
    let test = "no_replica_is_killed_before_it_can_say_why_it_does_not_begin";
    for overlay in OVERLAYS {
        let Some(objects) = deploy::rendered(test, overlay) else { return };
        let containers = containers(&objects, "apps/v1");
        assert_eq!(containers.len(), 2, "{overlay}");
        for (name, container) in containers {
            let startup = &container["startupProbe"];
            let number = |field: &str| startup[field].as_u64().unwrap_or_default();
            let patience = Duration::from_secs(number("periodSeconds") * number("failureThreshold"));
            assert!(patience >= START, "{name} of {overlay}: {patience:?}");
            assert_eq!(startup["httpGet"], container["livenessProbe"]["httpGet"], "{name}");
        }
    }
}
