//! Whether the manifests of `deploy/` are what an API server, Knative and Kubernetes' own rules for Pods take.

use std::io::Write;

use serde_json::{Value, json};
use tests::deploy::{self, Definitions, NAMESPACE, OVERLAYS, at, named, text};

use crate::namespace::{Namespace, accept, refuse};

/// What may be applied, and is not defined by what `KNATIVE_CRDS` has: no server here can judge it.
const ELSEWHERE: [&str; 2] = ["cert-manager.io/v1 Certificate", "serving.knative.dev/v1beta1 DomainMapping"];

// The fields of what is there already, as of a cloud in use, have other managers.
const APPLY: [&str; 3] = ["apply", "--server-side", "--force-conflicts"];
const CREATE: [&str; 1] = ["create"];

fn is_defined_elsewhere(object: &Value) -> bool {
    ELSEWHERE.contains(&format!("{} {}", at(object, "/apiVersion"), at(object, "/kind")).as_str())
}

/// Makes a Pod of the template of a Deployment or a Knative Service.
fn pod(object: &Value) -> Option<Value> {
    let template = object.pointer("/spec/template").filter(|template| template.get("spec").is_some())?;
    let mut spec = template["spec"].clone();
    let fields = spec.as_object_mut()?;
    // What Knative's revisions have and Pods have not.
    for field in ["containerConcurrency", "timeoutSeconds", "responseStartTimeoutSeconds"] {
        fields.remove(field);
    }
    fields.remove("serviceAccountName");
    let metadata = json!({
        "name": at(object, "/metadata/name"),
        "namespace": NAMESPACE,
        "labels": template["metadata"]["labels"],
    });
    Some(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
}

#[test]
fn the_api_server_accepts_every_overlay() {
    let test = "the_api_server_accepts_every_overlay";
    if !deploy::have_cluster(test) {
        return;
    }
    for overlay in OVERLAYS {
        let Some(objects) = deploy::rendered(test, overlay) else { return };
        let namespace = Namespace::new();
        let (elsewhere, here): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_defined_elsewhere);
        accept(&namespace.judge(&here, &APPLY), overlay);
        for object in elsewhere {
            let output = namespace.judge(std::slice::from_ref(&object), &APPLY);
            if text(&output.stderr).contains("no matches for kind") {
                let line = format!(
                    "not checked: {} of {overlay}, as the API server does not know the kind",
                    named(&object)
                );
                writeln!(std::io::stderr(), "{line}").unwrap();
            } else {
                accept(&output, &format!("{} of {overlay}", named(&object)));
            }
        }
    }
}

#[test]
fn the_api_server_refuses_a_field_that_there_is_not() {
    let test = "the_api_server_refuses_a_field_that_there_is_not";
    if !deploy::have_cluster(test) {
        return;
    }
    let Some(objects) = deploy::rendered(test, "in-memory") else { return };
    let namespace = Namespace::new();
    for kind in ["Deployment", "SinkBinding", "InMemoryChannel", "NetworkPolicy", "Service"] {
        let mut object = objects.iter().find(|object| object["kind"] == kind).unwrap().clone();
        object["spec"]["unheardOf"] = json!(1);
        refuse(&namespace.judge(&[object], &APPLY), kind, "unheardOf");
    }
}

#[test]
fn every_pod_passes_the_restricted_level() {
    let test = "every_pod_passes_the_restricted_level";
    if !deploy::have_cluster(test) {
        return;
    }
    let namespace = Namespace::new();
    for overlay in OVERLAYS {
        let Some(objects) = deploy::rendered(test, overlay) else { return };
        let pods: Vec<Value> = objects.iter().filter_map(pod).collect();
        assert!(pods.len() >= 4, "{overlay} has fewer Pods than there are programs");
        accept(&namespace.judge(&pods, &CREATE), overlay);
    }
}

#[test]
fn a_pod_that_may_more_is_refused() {
    let test = "a_pod_that_may_more_is_refused";
    if !deploy::have_cluster(test) {
        return;
    }
    let Some(objects) = deploy::rendered(test, "kind") else { return };
    let namespace = Namespace::new();
    for pod in objects.iter().filter_map(pod) {
        let mut lax = pod.clone();
        lax["spec"]["containers"][0]["securityContext"].as_object_mut().unwrap().remove("capabilities");
        refuse(&namespace.judge(&[lax], &CREATE), &named(&pod), "unrestricted capabilities");
    }
}

#[test]
fn every_overlay_keeps_to_the_definitions_of_knative() {
    let test = "every_overlay_keeps_to_the_definitions_of_knative";
    let Some(folder) = deploy::knative_definitions(test) else { return };
    let definitions = Definitions::read(&folder);
    for overlay in OVERLAYS {
        let Some(objects) = deploy::rendered(test, overlay) else { return };
        let mut checked = 0;
        for object in &objects {
            let group = at(object, "/apiVersion").split('/').next().unwrap_or_default();
            let Some(objections) = definitions.objections(object) else {
                let is_known = !group.ends_with("knative.dev") || object["kind"] == "DomainMapping";
                assert!(is_known, "{} of {overlay} is not defined in {}", named(object), folder.display());
                continue;
            };
            assert!(objections.is_empty(), "{} of {overlay}: {objections:?}", named(object));
            checked += 1;
        }
        // Three channels, three SinkBindings, two Knative Services.
        assert_eq!(checked, 8, "{overlay}");
    }
}

#[test]
fn an_object_that_does_not_keep_to_its_definition_is_found_out() {
    let test = "an_object_that_does_not_keep_to_its_definition_is_found_out";
    let Some(folder) = deploy::knative_definitions(test) else { return };
    let Some(objects) = deploy::rendered(test, "kind") else { return };
    let definitions = Definitions::read(&folder);
    let broken = [
        ("KafkaChannel", "/spec", "partitions", json!(3), "spec.partitions: unknown field"),
        (
            "KafkaChannel",
            "/spec",
            "numPartitions",
            json!("3"),
            "spec.numPartitions: \"3\" is not of type \"integer\"",
        ),
        (
            "KafkaChannel",
            "/spec",
            "replicationFactor",
            json!(40_000),
            "spec.replicationFactor: 40000 is out of range",
        ),
        ("SinkBinding", "/spec/sink/ref", "knd", json!("x"), "spec.sink.ref.knd: unknown field"),
        (
            "Service",
            "/spec/template/spec/containers/0",
            "readynessProbe",
            json!({}),
            "spec.template.spec.containers[0].readynessProbe: unknown field",
        ),
    ];
    for (kind, place, field, value, expected) in broken {
        let is_it = |object: &&Value| object["kind"] == kind && definitions.objections(object).is_some();
        let mut object = objects.iter().find(is_it).unwrap().clone();
        object.pointer_mut(place).unwrap()[field] = value;
        assert_eq!(definitions.objections(&object).unwrap(), [expected]);
    }
}

#[test]
fn every_object_in_the_namespace_is_found_by_its_label() {
    let test = "every_object_in_the_namespace_is_found_by_its_label";
    for overlay in OVERLAYS {
        let Some(objects) = deploy::rendered(test, overlay) else { return };
        for object in &objects {
            let label = object.pointer("/metadata/labels/app.kubernetes.io~1part-of");
            assert_eq!(label, Some(&json!("drogue")), "{} of {overlay}", named(object));
        }
    }
}

#[test]
fn what_pods_need_at_their_start_is_made_before_them() {
    let test = "what_pods_need_at_their_start_is_made_before_them";
    for overlay in OVERLAYS {
        let Some(objects) = deploy::rendered(test, overlay) else { return };
        let first =
            objects.iter().position(|object| object.pointer("/spec/template/spec").is_some()).unwrap();
        let needed = [
            "Namespace",
            "ServiceAccount",
            "Role",
            "RoleBinding",
            "ConfigMap",
            "KafkaChannel",
            "InMemoryChannel",
            "SinkBinding",
        ];
        let late = objects[first..].iter().find(|object| needed.contains(&at(object, "/kind")));
        assert_eq!(late.map(named), None, "{overlay}");
    }
}
