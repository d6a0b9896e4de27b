//! This replica's own Subscriptions: one for each channel, with this Pod's address as the subscriber.
//!
//! A Subscription to a Service would hand each event to one replica of many. Each belongs to its Pod, so that it goes
//! with it, however that ends.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};
use url::Url;

use super::error::KnativeError;
use super::resource::{ChannelKind, ChannelResource, LOOK, PATIENCE, until_ready, without};
use crate::auth::Secret;
use crate::channel::Channel;
use crate::kubernetes::{Cluster, ClusterError};

/// Who says that it wrote a field (server-side apply).
const MANAGER: &str = "drogue-endpoint";
/// How long one request of the removal may take.
const REMOVAL: Duration = Duration::from_secs(3);

/// The Pod that this replica runs in.
#[derive(Debug, Clone)]
pub(super) struct OwnPod {
    name: String,
    uid: String,
    /// Its address in the cluster.
    pub(super) ip: String,
}

impl OwnPod {
    /// Finds the Pod by its name, and waits until it has an address.
    ///
    /// # Errors
    /// Fails if there is no such Pod, it may not be read, or it has no address in time.
    pub(super) async fn find(cluster: &Cluster, name: &str) -> Result<Self, KnativeError> {
        let api: Api<Pod> = Api::namespaced(cluster.client(), cluster.namespace());
        let waited = async {
            loop {
                let action = format!(
                    "cannot read the Pod {name} in the namespace {}, which ought to be this replica's own (options \
                     --pod-name, --kube-namespace)",
                    cluster.namespace()
                );
                let pod = api.get(name).await.map_err(ClusterError::of(action))?;
                let uid = pod.metadata.uid.unwrap_or_default();
                if let Some(ip) = pod.status.and_then(|status| status.pod_ip) {
                    return Ok(Self { name: name.to_owned(), uid, ip });
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| {
            let (resource, reason) =
                (format!("the Pod {name}"), "it has no address (status.podIP)".to_owned());
            Err(KnativeError::NotReady { resource, waited: PATIENCE, reason })
        })
    }
}

/// The Subscriptions of this replica.
pub(super) struct Subscriptions {
    api: Api<DynamicObject>,
    pod: OwnPod,
    channels: Vec<ChannelResource>,
    subscriber: Url,
    token: Secret,
}

impl Subscriptions {
    /// Plans Subscriptions to channels. `subscriber` is where this replica is posted to; what it takes has the token.
    pub(super) fn new(
        cluster: &Cluster,
        pod: OwnPod,
        channels: Vec<ChannelResource>,
        subscriber: Url,
        token: Secret,
    ) -> Self {
        let api = Api::namespaced_with(cluster.client(), cluster.namespace(), &subscription());
        Self { api, pod, channels, subscriber, token }
    }

    /// Returns where this replica is posted to, without the token.
    pub(super) fn subscriber(&self) -> &Url {
        &self.subscriber
    }

    /// Makes the Subscriptions as they should be, and waits until the channels have them.
    ///
    /// # Errors
    /// Fails if they are refused, or not ready in time.
    pub(super) async fn ensure(&self) -> Result<(), KnativeError> {
        for channel in &self.channels {
            let name = self.name(channel.channel);
            let (patch, apply) = (Patch::Apply(self.manifest(channel)), PatchParams::apply(MANAGER).force());
            let applied = self.api.patch(&name, &apply, &patch).await;
            applied.map_err(|error| {
                let reason = without(&error.to_string(), Some(&self.token));
                KnativeError::Refused { name, reason }
            })?;
        }
        for channel in &self.channels {
            let name = self.name(channel.channel);
            let read = || async {
                let action = format!("cannot read the Subscription {name}");
                self.api.get(&name).await.map_err(ClusterError::of(action))
            };
            until_ready(&format!("Subscription {name}"), Some(&self.token), read).await?;
        }
        Ok(())
    }

    /// Removes the Subscriptions. What cannot be removed goes with the Pod.
    pub(super) async fn remove(&self) {
        let removals = self.channels.iter().map(|channel| async {
            let name = self.name(channel.channel);
            let parameters = DeleteParams::default();
            let removed = tokio::time::timeout(REMOVAL, self.api.delete(&name, &parameters)).await;
            let failure = match removed {
                Ok(Ok(_)) => return,
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the API server did not answer in time".to_owned(),
            };
            tracing::warn!(
                subscription = name,
                failure,
                "the Subscription was not removed, it goes with its Pod"
            );
        });
        futures_util::future::join_all(removals).await;
    }

    fn name(&self, channel: Channel) -> String {
        format!("{}-{channel}", self.pod.name)
    }

    fn manifest(&self, resource: &ChannelResource) -> Value {
        let mut uri = self.subscriber.clone();
        uri.set_path(&format!("/v1/channels/{}/{}", resource.channel, self.token.expose()));
        let mut spec = json!({
            "channel": {
                "apiVersion": resource.kind.api_version(),
                "kind": resource.kind.as_str(),
                "name": resource.name,
            },
            "subscriber": { "uri": uri.as_str() },
        });
        // A channel in memory makes its sender wait for retries. Others keep what they have until it was taken.
        if resource.kind != ChannelKind::InMemoryChannel {
            spec["delivery"] =
                json!({ "retry": 10, "backoffPolicy": "exponential", "backoffDelay": "PT0.1S" });
        }
        json!({
            "apiVersion": "messaging.knative.dev/v1",
            "kind": "Subscription",
            "metadata": {
                "name": self.name(resource.channel),
                "labels": {
                    "app.kubernetes.io/part-of": "drogue",
                    "app.kubernetes.io/managed-by": MANAGER,
                },
                "ownerReferences": [{
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": self.pod.name,
                    "uid": self.pod.uid,
                    // True would need the right to change the Pod's finalizers.
                    "blockOwnerDeletion": false,
                }],
            },
            "spec": spec,
        })
    }
}

fn subscription() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("messaging.knative.dev", "v1", "Subscription"))
}

impl fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriptions")
            .field("pod", &self.pod)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}
