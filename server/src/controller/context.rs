//! What both reconcilers work with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::kubernetes::ClusterError;
use common::process::Clock;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::finalizer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource, ResourceExt};
use metrics::counter;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::{Mutex, mpsc};

use super::error::ControllerError;
use super::followers::Followers;
use super::memory::Memory;
use super::passwords::Passwords;
use super::registry::Registry;
use super::resources::{Application, Device};

/// Keeps a resource until the registry has forgotten what it stands for.
pub(super) const FINALIZER: &str = "iot.drogue.io/registry";
/// Whose the fields of a status are.
const MANAGER: &str = "drogue-controller";

/// How soon to look again whether all resources are known.
pub(super) const SYNCING: Duration = Duration::from_millis(100);

/// What both reconcilers work with.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) registry: Registry,
    pub(super) memory: Arc<Memory>,
    pub(super) passwords: Passwords,
    pub(super) applications: Store<Application>,
    pub(super) devices: Store<Device>,
    pub(super) synced: Synced,
    pub(super) followers: Followers,
    /// Devices to look at.
    pub(super) nudges: mpsc::Sender<ObjectRef<Device>>,
    /// How often the registry gets what it should have already.
    pub(super) resync: Duration,
    pub(super) clock: Clock,
    /// Held while an application is looked at and written: two namespaces may want the same name.
    pub(super) writing: Mutex<()>,
}

/// Whether all resources of a kind are known. The stores' own `wait_until_ready` wakes one waiter alone, and that is the
/// one that starts a reconciler.
#[derive(Debug, Default)]
pub(super) struct Synced {
    pub(super) applications: AtomicBool,
    pub(super) devices: AtomicBool,
}

impl Synced {
    /// Tells whether all resources are known. Until then nothing is to be concluded from one that is missing.
    pub(super) fn is_complete(&self) -> bool {
        self.applications.load(Ordering::Acquire) && self.devices.load(Ordering::Acquire)
    }
}

impl Context {
    /// Returns the application's devices.
    pub(super) fn devices_of(&self, application: &Application) -> Vec<Arc<Device>> {
        let (namespace, name) = (application.namespace(), application.name_any());
        self.devices.state_filter(|device| device.spec.application == name && device.namespace() == namespace)
    }

    /// Has the devices of an application looked at.
    pub(super) async fn nudge_devices_of(&self, application: &Application) {
        for device in self.devices_of(application) {
            // The other end is gone only when the process ends.
            drop(self.nudges.send(ObjectRef::from_obj(&*device)).await);
        }
    }

    /// Writes the status of a resource, unless it has that. One that is gone needs none.
    pub(super) async fn write_status<K, S>(
        &self,
        resource: &K,
        old: Option<&S>,
        new: &S,
    ) -> Result<(), ControllerError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
        S: Serialize + PartialEq,
    {
        if old == Some(new) {
            return Ok(());
        }
        let name = resource.name_any();
        let api: Api<K> = api(&self.client, resource);
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": name },
            "status": new,
        });
        let result =
            api.patch_status(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(patch)).await;
        match result.map_err(ClusterError::of(format!("cannot write the status of {} {name}", K::kind(&()))))
        {
            Err(error) if error.code() == Some(404) => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }

    /// Notes how a reconciliation went, and takes the error out of what the finalizer says.
    pub(super) fn settle<K: Resource<DynamicType = ()>>(
        &self,
        resource: &K,
        result: Result<Action, finalizer::Error<ControllerError>>,
    ) -> Result<Action, ControllerError> {
        let result = match result {
            Err(finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error)) => Err(error),
            Err(finalizer::Error::AddFinalizer(error) | finalizer::Error::RemoveFinalizer(error))
                if is_outdated(&error) =>
            {
                Ok(Action::requeue(SYNCING))
            }
            Err(error) => Err(ControllerError::Finalizer(error.to_string())),
            Ok(action) => Ok(action),
        };
        if result.is_ok() {
            self.memory.succeeded(uid(resource));
        }
        let told = result.as_ref().map_or_else(|error| error.kind().as_str(), |_| "ok");
        let kind = K::kind(&()).to_lowercase();
        counter!("drogue_controller_reconciled_total", "resource" => kind, "result" => told).increment(1);
        result
    }
}

/// Tells whether a patch of a finalizer failed because the resource is not as it was when it was seen.
fn is_outdated(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if [404, 409, 422].contains(&status.code))
}

/// Says when to try again after a failure.
pub(super) fn retry<K: Resource<DynamicType = ()>>(
    resource: Arc<K>,
    error: &ControllerError,
    context: Arc<Context>,
) -> Action {
    let failures = context.memory.failed(uid(&*resource));
    Action::requeue(error.pause(failures))
}

/// Returns the API of a resource's namespace.
pub(super) fn api<K>(client: &Client, resource: &K) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), &resource.namespace().unwrap_or_default())
}

/// Returns the uid of a resource, which whatever comes from the API server has.
pub(super) fn uid<K: Resource>(resource: &K) -> &str {
    resource.meta().uid.as_deref().unwrap_or_default()
}
