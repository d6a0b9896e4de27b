//! A namespace of a test's own, by `kubectl`.

use std::process::Output;

use common::testing::eventually_blocking;
use serde_json::{Value, json};
use tests::deploy::{NAMESPACE, at, kubectl, text};

/// A namespace of a test, with the strictest of Kubernetes' levels for Pods. It ends with this.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new() -> Self {
        let name = format!("drogue-test-{}", uuid::Uuid::new_v4().simple());
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        accept(&kubectl(&["create", "-f", "-"], &namespace.to_string()), "the namespace");
        let namespace = Self(name);
        // No Pod is admitted before its service account is there.
        let account = ["-n", &namespace.0, "get", "serviceaccount", "default"];
        eventually_blocking("a service account", || kubectl(&account, "").status.success());
        namespace
    }

    /// Lets the API server judge objects as if they were applied here.
    pub(crate) fn judge(&self, objects: &[Value], verb: &[&str]) -> Output {
        let dry = ["--dry-run=server", "--validate=strict", "-f", "-"];
        kubectl(&[verb, &dry].concat(), &self.moved(objects))
    }

    /// Makes objects here.
    pub(crate) fn create(&self, objects: &[Value]) {
        accept(&kubectl(&["create", "-f", "-"], &self.moved(objects)), "what is made here");
    }

    /// Returns its name.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Returns the documents of objects, moved here with what they refer to.
    fn moved(&self, objects: &[Value]) -> String {
        let mut documents = String::new();
        for object in objects {
            let mut object = object.clone();
            if at(&object, "/metadata/namespace") == NAMESPACE {
                object["metadata"]["namespace"] = json!(self.0);
            }
            let subjects = object.get_mut("subjects").and_then(Value::as_array_mut);
            for subject in subjects.into_iter().flatten() {
                subject["namespace"] = json!(self.0);
            }
            documents += &format!("---\n{object}\n");
        }
        documents
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(kubectl(&["delete", "namespace", &self.0, "--wait=false"], ""));
    }
}

/// Fails with what the API server said, unless it accepted.
pub(crate) fn accept(output: &Output, what: &str) {
    assert!(output.status.success(), "{what}: {}", text(&output.stderr));
}

/// Fails unless the API server refused, and said why.
pub(crate) fn refuse(output: &Output, what: &str, because: &str) {
    let said = text(&output.stderr);
    assert!(!output.status.success(), "{what} was accepted");
    assert!(said.contains(because), "{what}: refused, but not because of '{because}': {said}");
}
