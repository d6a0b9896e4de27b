//! What makes the reconcilers look at a resource.

use std::fmt::Debug;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::process::Shutdown;
use futures_util::stream::{BoxStream, select_all, unfold};
use futures_util::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::controller::{Action, Config, Error, ReconcileRequest, trigger_self};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::{WatchStreamExt, applier, reflector, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::context::{Context, retry, uid};
use super::error::ControllerError;
use super::resources::{Application, Device};
use super::{applications, devices};

/// How many resources of a kind are reconciled at a time.
const AT_A_TIME: u16 = 16;

type Requests<K> = BoxStream<'static, Result<ReconcileRequest<K>, watcher::Error>>;

/// The APIs that are watched: of one namespace, or of all.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) applications: Api<Application>,
    pub(super) devices: Api<Device>,
    /// Only that a Secret has changed, and not what is in it.
    pub(super) secrets: Api<PartialObjectMeta<Secret>>,
}

/// Keeps applications in step until the shutdown.
pub(super) async fn run_applications(
    watched: Watched,
    writer: Writer<Application>,
    context: Arc<Context>,
    shutdown: Shutdown,
) -> Result<(), ControllerError> {
    let with = context.clone();
    // Behind the store: a device that waits for its application is looked at when that is known to be ready.
    let kept = keep(watched.applications, writer).then(move |event| {
        let with = with.clone();
        async move {
            with.tell_devices(&event).await;
            event
        }
    });
    let requests = vec![trigger_self(kept.applied_objects(), ()).boxed()];
    let store = context.applications.clone();
    drive("applications", requests, store, context, applications::reconcile, shutdown).await;
    Ok(())
}

/// Keeps devices in step until the shutdown.
pub(super) async fn run_devices(
    watched: Watched,
    writer: Writer<Device>,
    nudges: mpsc::Receiver<ObjectRef<Device>>,
    context: Arc<Context>,
    shutdown: Shutdown,
) -> Result<(), ControllerError> {
    let known = context.clone();
    let kept = keep(watched.devices, writer).inspect(move |event| {
        if matches!(event, Ok(watcher::Event::InitDone)) {
            known.synced.devices.store(true, Ordering::Release);
        }
    });
    let nudged =
        unfold(nudges, async |mut nudges| Some((Ok(ReconcileRequest::from(nudges.recv().await?)), nudges)));
    let secrets = watcher(watched.secrets, watcher::Config::default()).touched_objects();
    let with = context.clone();
    let of_secret = move |secret: PartialObjectMeta<Secret>| with.devices_with(&secret);
    let requests =
        vec![trigger_self(kept.applied_objects(), ()).boxed(), nudged.boxed(), others(secrets, of_secret)];
    let store = context.devices.clone();
    drive("devices", requests, store, context, devices::reconcile, shutdown).await;
    Ok(())
}

impl Context {
    /// Has the devices of applications looked at that have changed.
    async fn tell_devices(&self, event: &Result<watcher::Event<Application>, watcher::Error>) {
        match event {
            Ok(watcher::Event::Apply(application) | watcher::Event::Delete(application)) => {
                self.nudge_devices_of(application).await;
            }
            Ok(watcher::Event::InitDone) => {
                self.synced.applications.store(true, Ordering::Release);
                for application in self.applications.state() {
                    self.nudge_devices_of(&application).await;
                }
            }
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) | Err(_) => {}
        }
    }

    /// Returns the devices that have credentials from a Secret, and notes that they are to be written anew.
    fn devices_with(&self, secret: &PartialObjectMeta<Secret>) -> Vec<ObjectRef<Device>> {
        let meta = &secret.metadata;
        let names = |device: &Device| {
            let mut sources = device.spec.credentials.iter();
            device.metadata.namespace == meta.namespace
                && sources.any(|source| Some(&source.secret().name) == meta.name.as_ref())
        };
        let note = |device: Arc<Device>| {
            self.memory.outdated(uid(&*device));
            ObjectRef::from_obj(&*device)
        };
        self.devices.state_filter(names).into_iter().map(note).collect()
    }
}

/// Watches resources, and keeps them in the store of `writer`.
fn keep<K>(
    api: Api<K>,
    writer: Writer<K>,
) -> impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    reflector(writer, watcher(api, watcher::Config::default()))
}

/// Asks for the resources that a change of another kind concerns.
fn others<O, K, I>(
    changes: impl Stream<Item = Result<O, watcher::Error>> + Send + 'static,
    concerned: impl Fn(O) -> I + Send + 'static,
) -> Requests<K>
where
    O: Send + 'static,
    K: Resource<DynamicType = ()> + 'static,
    I: IntoIterator<Item = ObjectRef<K>, IntoIter: Send + 'static>,
{
    let requests = changes.flat_map(move |change| match change {
        Ok(change) => stream::iter(concerned(change)).map(|resource| Ok(resource.into())).boxed(),
        Err(error) => stream::once(ready(Err(error))).boxed(),
    });
    requests.boxed()
}

/// Reconciles what is asked for until the shutdown.
async fn drive<K, F>(
    what: &'static str,
    requests: Vec<Requests<K>>,
    store: Store<K>,
    context: Arc<Context>,
    reconcile: fn(Arc<K>, Arc<Context>) -> F,
    shutdown: Shutdown,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, ControllerError>> + Send + 'static,
{
    let requests = StreamBackoff::new(select_all(requests), watcher::DefaultBackoff::default());
    let requests = requests.take_until(shutdown.cancelled_owned());
    let config = Config::default().concurrency(AT_A_TIME);
    let applied = applier(
        move |resource, context| Box::pin(reconcile(resource, context)),
        retry,
        context,
        store,
        requests,
        config,
    );
    applied.for_each(async |result| tell(what, result)).await;
}

fn tell<K>(what: &str, result: Result<(ObjectRef<K>, Action), Error<ControllerError, watcher::Error>>)
where
    K: Resource<DynamicType = ()>,
{
    match result {
        Ok((resource, _)) => tracing::trace!(what, %resource, "in step"),
        // It was deleted in the meantime.
        Err(Error::ObjectNotFound(_)) => {}
        Err(Error::ReconcilerFailed(error @ ControllerError::DevicesRemain(_), resource)) => {
            tracing::debug!(what, %resource, %error, "not in step yet");
        }
        Err(Error::ReconcilerFailed(error, resource)) => {
            tracing::warn!(what, %resource, %error, "not in step; trying again");
        }
        Err(error @ (Error::QueueError(_) | Error::RunnerError(_))) => {
            tracing::warn!(what, %error, "cannot watch; trying again");
        }
    }
}
