//! The Kubernetes cluster that the environment names, and a namespace of a test's own in it.

use common::kubernetes::Cluster;
use common::testing::skip;
use k8s_openapi::api::core::v1::Namespace as NamespaceResource;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::secrets;

/// The variable that names the kubeconfig of a cluster for tests.
const VARIABLE: &str = "KUBECONFIG";
/// Who writes.
const MANAGER: &str = "tests";

/// A namespace that no other test uses. It is deleted, with all that is in it, when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    cluster: Cluster,
}

/// Makes a namespace in the cluster that the environment names. Says visibly that `test` is skipped if it names none.
///
/// # Panics
/// Panics if the cluster does not make it, or if none is named and `DROGUE_TEST_REQUIRE` lists `kube`.
pub async fn given(test: &str) -> Option<Namespace> {
    if !is_named() {
        skip(test, "kube", &format!("{VARIABLE} names no Kubernetes cluster"));
        return None;
    }
    let name = format!("drogue-{}", secrets::unique());
    let cluster = Cluster::connect(Some(name.clone())).await.expect("KUBECONFIG is good");
    let namespace = Namespace { cluster };
    namespace.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
    Some(namespace)
}

#[expect(clippy::disallowed_methods, reason = "tests have no command line to take this from")]
fn is_named() -> bool {
    std::env::var(VARIABLE).is_ok_and(|path| !path.is_empty())
}

impl Namespace {
    /// Returns the cluster, where this namespace is meant if none is named.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        self.cluster.namespace()
    }

    /// Tells whether the cluster knows a kind.
    pub async fn knows(&self, api_version: &str, kind: &str) -> bool {
        self.objects(api_version, kind).list(&Default::default()).await.is_ok()
    }

    /// Makes an object, or changes it to what is given.
    ///
    /// # Panics
    /// Panics with its reason if the cluster refuses.
    pub async fn apply(&self, object: Value) {
        let (api, name) = self.api_of(&object);
        let parameters =
            PatchParams { field_validation: Some(kube::api::ValidationDirective::Strict), ..force() };
        let applied = api.patch(&name, &parameters, &Patch::Apply(&object)).await;
        applied.unwrap_or_else(|error| panic!("{object}: {error}"));
    }

    /// Writes the status of an object, as its controller does.
    ///
    /// # Panics
    /// Panics with its reason if the cluster refuses.
    pub async fn apply_status(&self, object: Value) {
        let (api, name) = self.api_of(&object);
        let applied = api.patch_status(&name, &force(), &Patch::Apply(&object)).await;
        applied.unwrap_or_else(|error| panic!("{object}: {error}"));
    }

    /// Deletes an object.
    ///
    /// # Panics
    /// Panics with its reason if the cluster refuses.
    pub async fn delete(&self, api_version: &str, kind: &str, name: &str) {
        let deleted = self.objects(api_version, kind).delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
    }

    /// Returns the objects of a kind in this namespace.
    pub fn objects(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if kind == "Namespace" {
            Api::all_with(self.cluster.client(), &resource)
        } else {
            Api::namespaced_with(self.cluster.client(), self.name(), &resource)
        }
    }

    fn api_of(&self, object: &Value) -> (Api<DynamicObject>, String) {
        let text =
            |value: &Value| value.as_str().expect("an object has a version, a kind and a name").to_owned();
        let api = self.objects(&text(&object["apiVersion"]), &text(&object["kind"]));
        (api, text(&object["metadata"]["name"]))
    }
}

fn force() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let name = self.name().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime starts");
        let delete = async move {
            // A client of its own: one belongs to the runtime that made it.
            let client = Cluster::connect(None).await.expect("KUBECONFIG is good").client();
            Api::<NamespaceResource>::all(client).delete(&name, &DeleteParams::default()).await
        };
        // On a thread of its own: there may or may not be a runtime on this one.
        let deleted = std::thread::spawn(move || runtime.block_on(delete)).join();
        let is_deleted = deleted.is_ok_and(|deleted| deleted.is_ok());
        assert!(is_deleted || std::thread::panicking(), "the namespace cannot be deleted");
    }
}
