//! `drogue status --kube`, of real objects whose status the test writes as their controllers would.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tests::binary::drogue;
use tests::kube::{self, Namespace};
use tests::secrets::MARK;

const CHANNELS: &str = "messaging.knative.dev/v1beta1";
const KNATIVE: &str = "serving.knative.dev/v1";

/// Makes a namespace in a cluster that knows Knative's kinds. Says visibly if the test is skipped.
async fn begin(test: &str) -> Option<Namespace> {
    let namespace = kube::given(test).await?;
    if namespace.knows(CHANNELS, "KafkaChannel").await && namespace.knows(KNATIVE, "Service").await {
        return Some(namespace);
    }
    common::testing::skip(test, "kube", "the cluster has not the definitions of Knative");
    None
}

fn labelled(api_version: &str, kind: &str, name: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name, "labels": {"app.kubernetes.io/part-of": "drogue"}});
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})
}

fn ready(status: &str, message: &str) -> Value {
    json!([{"type": "Ready", "status": status, "message": message}])
}

/// Makes an object and writes its status.
async fn put(namespace: &Namespace, object: Value, status: &Value) {
    let of = json!({"apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": {"name": object["metadata"]["name"]}, "status": status});
    namespace.apply(object).await;
    namespace.apply_status(of).await;
}

/// Makes what `deploy/` makes of the endpoints, in short.
async fn put_endpoints(namespace: &Namespace) {
    let template = json!({"spec": {"containers": [{"name": "x", "image": "dev.local/x:1"}]}});
    for name in ["http-endpoint", "command-endpoint"] {
        let status = json!({"url": format!("http://{name}.drogue.test"), "conditions": ready("True", "")});
        put(namespace, labelled(KNATIVE, "Service", name, &json!({"template": template})), &status).await;
    }
    let labels = json!({"app": "mqtt"});
    let spec = json!({
        // None is there at once, whether or not the cluster has what makes Pods.
        "replicas": 0, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {
            "containers": [{"name": "x", "image": "dev.local/x:1"}],
            "volumes": [{"name": "tls", "secret": {"secretName": "mqtt-tls"}}],
        }},
    });
    namespace.apply(labelled("apps/v1", "Deployment", "mqtt-endpoint", &spec)).await;
    let spec = json!({"selector": labels, "ports": [{"name": "mqtts", "port": 8883}]});
    namespace.apply(labelled("v1", "Service", "mqtt-endpoint", &spec)).await;
}

async fn put_channel(namespace: &Namespace, name: &str, conditions: Value) {
    let status = json!({"conditions": conditions, "address": {"url": format!("http://{name}.test")}});
    put(namespace, labelled(CHANNELS, "KafkaChannel", name, &json!({})), &status).await;
}

async fn status(namespace: &Namespace, options: &[&str]) -> (Output, String) {
    let mut command = Command::new(drogue());
    command.args(["status", "--kube", "--kube-namespace", namespace.name()]).args(options);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    (output, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ready_is_shown_with_the_lines_for_a_first_command() {
    let Some(namespace) = begin("the state of a cluster").await else { return };
    put_endpoints(&namespace).await;
    put_channel(&namespace, "commands", ready("True", "")).await;
    let (output, text) = status(&namespace, &[]).await;
    assert_eq!(output.status.code(), Some(0), "{text}");
    for row in [
        &["Knative Service", "http-endpoint", "ready", "http://http-endpoint.drogue.test"][..],
        &["KafkaChannel", "commands", "ready", "http://commands.test"],
        &["Deployment", "mqtt-endpoint", "ready"],
        &["Service", "mqtt-endpoint", "ready"],
    ] {
        let is_row = |line: &str| {
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).eq(row.iter().copied())
        };
        assert!(text.lines().any(is_row), "{row:?}: {text}");
    }
    for line in [
        "Send commands to the device",
        "POST 'http://http-endpoint.drogue.test/v1/temperature?ttd=30'",
        "POST http://command-endpoint.drogue.test/v1/apps/default/devices/device_id/commands/set-temp",
        &format!("  kubectl port-forward -n {} service/mqtt-endpoint 8883:8883", namespace.name()),
        &format!("  kubectl get secret mqtt-tls -n {} ", namespace.name()),
        "-h 127.0.0.1 -p 8883 ",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ready_is_shown_with_its_reason_and_is_a_failure() {
    let Some(namespace) = begin("an unready cluster").await else { return };
    put_channel(&namespace, "commands", ready("True", "")).await;
    put_channel(&namespace, "telemetry", ready("False", "the topic cannot be made")).await;
    // One that is not of the cloud is none of its business.
    let mut other = labelled(CHANNELS, "KafkaChannel", "other", &json!({}));
    other["metadata"]["labels"] = json!({});
    namespace.apply(other).await;
    let (output, text) = status(&namespace, &[]).await;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("NOT READY  the topic cannot be made"), "{text}");
    assert!(text.contains("error: not everything in the namespace"), "{text}");
    let (output, _) = status(&namespace, &["--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let channel = |name: &str| {
        json!({"kind": "KafkaChannel", "name": name, "ready": true,
        "address": format!("http://{name}.test")})
    };
    let mut telemetry = channel("telemetry");
    telemetry["ready"] = json!(false);
    telemetry["reason"] = json!("the topic cannot be made");
    assert_eq!(told["objects"], json!([channel("commands"), telemetry]));
    assert_eq!((&told["ready"], &told["namespace"]), (&json!(false), &json!(namespace.name())));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_replica_which_lets_events_in_is_not_shown() {
    let Some(namespace) = begin("the address of a subscriber").await else { return };
    put_channel(&namespace, "commands", ready("True", "")).await;
    let uri = format!("http://10.0.0.1:8090/{MARK}");
    let channel = json!({"apiVersion": CHANNELS, "kind": "KafkaChannel", "name": "commands"});
    let spec = json!({"channel": channel, "subscriber": {"uri": uri}});
    namespace.apply(labelled("messaging.knative.dev/v1", "Subscription", "replica-1", &spec)).await;
    for options in [&[][..], &["--json"]] {
        let (_, text) = status(&namespace, options).await;
        assert!(text.contains("replica-1") && !text.contains(MARK), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_without_the_cloud_is_said_to_be_that() {
    let Some(namespace) = begin("an empty namespace").await else { return };
    let (output, text) = status(&namespace, &[]).await;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("error: nothing in the namespace drogue-"), "{text}");
    assert!(text.contains("--kube-namespace"), "{text}");
}
