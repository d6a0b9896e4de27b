//! Keeps devices in step, and shows how they can be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::device::DeviceSpec;
use common::id::{AppId, DeviceKey};
use common::kubernetes::{ClusterError, NAMESPACE_LABEL};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt};
use reqwest::StatusCode;

use super::context::{Context, FINALIZER, SYNCING, api, uid};
use super::error::ControllerError;
use super::link::Seen;
use super::plan::{self, Refusal};
use super::resources::{Application, Device};

/// How soon a device is written again that the registry turned out not to have.
const VANISHED: Duration = Duration::from_secs(1);

/// Brings the registry in step with a device, and its status in step with the registry.
///
/// # Errors
/// Fails if something cannot be reached; the status tells it, if that can be.
pub(super) async fn reconcile(device: Arc<Device>, context: Arc<Context>) -> Result<Action, ControllerError> {
    if !context.synced.is_complete() {
        return Ok(Action::requeue(SYNCING));
    }
    let api = api(&context.client, &*device);
    let result = finalizer(&api, FINALIZER, device.clone(), |event| async {
        match event {
            Event::Apply(device) => context.apply_device(&device).await,
            Event::Cleanup(device) => context.clean_up_device(&device).await,
        }
    })
    .await;
    context.settle(&*device, result)
}

impl Context {
    async fn apply_device(&self, device: &Device) -> Result<Action, ControllerError> {
        let (uid, generation) = (uid(device), device.metadata.generation);
        let fresh = || self.memory.fresh_for(uid, generation, self.clock.instant(), self.resync);
        let placed = self.place(device);
        let written = match &placed {
            Err(refusal) => Ok(Err(refusal.clone())),
            Ok(_) if fresh().is_some() => Ok(Ok(())),
            Ok(key) => self.write_device(device, key).await,
        };
        let seen = match &placed {
            Ok(key) => self.look(uid, key).await,
            Err(refusal) => Ok(Seen::unknown(refusal.reason, "see the condition Ready")),
        };
        let refusal = match &written {
            Ok(result) => result.as_ref().err().cloned(),
            Err(error) => Some(Refusal::new(error.reason(), error.to_string())),
        };
        let unknown = |error: &ControllerError| Seen::unknown(error.reason(), error.to_string());
        let shown = seen.as_ref().map_or_else(unknown, Clone::clone);
        let status = plan::device_status(device, refusal.as_ref(), &shown.link, self.clock.wall());
        self.write_status(device, device.status.as_ref(), &status).await?;
        let again = [refusal.and_then(|refusal| refusal.again), shown.look_again(self.clock.wall()), fresh()];
        self.memory.see(uid, shown);
        let is_written = written?.is_ok();
        let vanished = (is_written && seen?.is_of_nobody()).then_some(VANISHED);
        let after = again.into_iter().chain([vanished]).flatten().min();
        Ok(Action::requeue(after.unwrap_or(self.resync)))
    }

    fn place(&self, device: &Device) -> Result<DeviceKey, Refusal> {
        let namespace = device.namespace().unwrap_or_default();
        let application = ObjectRef::<Application>::new(&device.spec.application).within(&namespace);
        let others = self.of_same_id(device);
        let application = self.applications.get(&application);
        plan::place(device, application.as_deref(), others.iter().map(|other| &**other))
    }

    fn of_same_id(&self, device: &Device) -> Vec<Arc<Device>> {
        let same =
            |other: &Device| other.id() == device.id() && other.spec.application == device.spec.application;
        self.devices.state_filter(same)
    }

    /// Writes a device with its credentials.
    async fn write_device(
        &self,
        device: &Device,
        key: &DeviceKey,
    ) -> Result<Result<(), Refusal>, ControllerError> {
        let uid = uid(device);
        let writing = self.memory.writing(uid, device.metadata.generation, self.clock.instant());
        let secrets = self.secrets(device).await?;
        let resolved = match plan::credentials(&device.spec.credentials, &secrets) {
            Ok(resolved) => resolved,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut hashes = self.memory.take_hashes(uid);
        let credentials = self.passwords.credentials(uid, resolved, &mut hashes).await;
        self.memory.keep_hashes(uid, hashes);
        let spec = DeviceSpec {
            name: None,
            enabled: Some(device.spec.enabled),
            labels: Some(device.spec.labels.clone()),
            credentials: Some(credentials?),
        };
        match self.registry.put_device(key, &spec).await {
            Err(error) if error.is_of_the_resource() => Ok(Err(Refusal::new("Refused", error.to_string()))),
            result => {
                result?;
                tracing::debug!(device = %key, "wrote a device");
                self.memory.written(uid, &writing);
                Ok(Ok(()))
            }
        }
    }

    /// Reads the Secrets that a device names; those that are missing are left out.
    async fn secrets(
        &self,
        device: &Device,
    ) -> Result<BTreeMap<String, BTreeMap<String, Vec<u8>>>, ControllerError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &device.namespace().unwrap_or_default());
        let names: BTreeSet<_> = device.spec.credentials.iter().map(|source| &source.secret().name).collect();
        let mut secrets = BTreeMap::new();
        for name in names {
            let secret = api.get_opt(name).await;
            let secret = secret.map_err(ClusterError::of(format!("cannot read the Secret {name}")))?;
            if let Some(secret) = secret {
                let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
                secrets.insert(name.clone(), data.collect());
            }
        }
        Ok(secrets)
    }

    /// Asks how a device can be reached.
    async fn look(&self, uid: &str, key: &DeviceKey) -> Result<Seen, ControllerError> {
        match self.registry.connection(key).await {
            Ok(Some(answer)) => Ok(Seen::next(self.memory.seen(uid).as_ref(), &answer, self.clock.wall())),
            Ok(None) => {
                self.memory.outdated(uid);
                Ok(Seen::nobody())
            }
            Err(error) if error.status() == Some(StatusCode::NOT_IMPLEMENTED) => {
                Ok(Seen::unknown("Unsupported", error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    async fn clean_up_device(&self, device: &Device) -> Result<Action, ControllerError> {
        let result = self.delete_device(device).await;
        if let Err(error) = &result {
            let refusal = Refusal::new(error.reason(), error.to_string());
            let link = Seen::unknown(refusal.reason, "see the condition Ready").link;
            let status = plan::device_status(device, Some(&refusal), &link, self.clock.wall());
            self.write_status(device, device.status.as_ref(), &status).await?;
        }
        result?;
        self.memory.forget(uid(device));
        Ok(Action::await_change())
    }

    /// Deletes a device, unless it belongs to another resource, or its application to another namespace.
    async fn delete_device(&self, device: &Device) -> Result<(), ControllerError> {
        let others = self.of_same_id(device);
        let Ok(key) = plan::key(device, others.iter().map(|other| &**other)) else { return Ok(()) };
        let Ok(app) = device.spec.application.parse::<AppId>() else { return Ok(()) };
        let registered = self.registry.application(&app).await?;
        let owner = registered.as_ref().and_then(|app| app.labels.get(NAMESPACE_LABEL));
        if owner.is_some() && owner == device.meta().namespace.as_ref() {
            self.registry.delete_device(&key).await?;
            tracing::debug!(device = %key, "deleted a device");
        }
        Ok(())
    }
}
