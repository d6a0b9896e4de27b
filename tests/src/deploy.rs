//! The manifests of `deploy/`, as `kubectl` makes them of an overlay, and what can be said of them without a cluster.

mod environment;
mod schema;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub use environment::{Program, programs};
pub use schema::Definitions;
use serde_json::Value;

use crate::clients;
use crate::clients::skip;

/// The overlays that are there to be applied.
pub const OVERLAYS: [&str; 4] = ["in-memory", "kind", "minikube", "production"];
/// The namespace that all of them are made for.
pub const NAMESPACE: &str = "drogue";
/// The variable that names a folder with the CustomResourceDefinitions of Knative.
const DEFINITIONS: &str = "KNATIVE_CRDS";
/// The variable that names the API server.
const KUBECONFIG: &str = "KUBECONFIG";

/// Renders an overlay. Says visibly that `test` is skipped if there is no `kubectl`.
///
/// # Panics
/// Panics if it cannot be rendered, or if there is no `kubectl` and `DROGUE_TEST_REQUIRE` lists `kube`.
pub fn rendered(test: &str, overlay: &str) -> Option<Vec<Value>> {
    if !clients::is_installed("kubectl") {
        skip(test, "kube", "'kubectl' is not installed");
        return None;
    }
    let output = kubectl(&["kustomize", &folder().join("overlays").join(overlay).display().to_string()], "");
    assert!(output.status.success(), "{overlay} cannot be rendered: {}", text(&output.stderr));
    Some(documents(&text(&output.stdout)))
}

/// Tells whether there is an API server. Says visibly that `test` is skipped if there is none.
///
/// # Panics
/// Panics if there is none and `DROGUE_TEST_REQUIRE` lists `kube`.
pub fn have_cluster(test: &str) -> bool {
    let is_there = variable(KUBECONFIG).is_some();
    if !is_there {
        skip(test, "kube", &format!("{KUBECONFIG} names no API server"));
    }
    is_there
}

/// Returns the folder of Knative's definitions. Says visibly that `test` is skipped if there is none.
///
/// # Panics
/// Panics if there is none and `DROGUE_TEST_REQUIRE` lists `kube`.
pub fn knative_definitions(test: &str) -> Option<PathBuf> {
    let found = variable(DEFINITIONS).map(PathBuf::from);
    if found.is_none() {
        skip(test, "kube", &format!("{DEFINITIONS} names no folder of Knative's CustomResourceDefinitions"));
    }
    found
}

/// Runs `kubectl` with `input`.
///
/// # Panics
/// Panics if it cannot be run.
pub fn kubectl(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new("kubectl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kubectl can be run");
    let mut stdin = child.stdin.take().expect("it is piped");
    // What it says while it still reads is less than a pipe holds.
    stdin.write_all(input.as_bytes()).expect("kubectl reads");
    drop(stdin);
    child.wait_with_output().expect("kubectl ends")
}

/// Returns the documents of a YAML text.
///
/// # Panics
/// Panics if it is none.
pub fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).expect("YAML");
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// Returns the text of an object at a JSON pointer, or an empty one.
pub fn at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Returns what to call an object in a message: its kind and its name.
pub fn named(object: &Value) -> String {
    format!("{} {}", at(object, "/kind"), at(object, "/metadata/name"))
}

/// Returns where `deploy/` is.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Returns bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[expect(clippy::disallowed_methods, reason = "tests have no command line to take this from")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
