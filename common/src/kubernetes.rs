//! The API server of Kubernetes, as far as this cloud talks to it.
//!
//! Only what runs in a cluster, or asks one, comes here: the Knative adapter, the controller of device resources, the check
//! of service accounts, and `drogue status --kube`.

pub mod conditions;

use std::fmt;

use kube::config::KubeConfigOptions;
use kube::{Client, Config};

use crate::error::ErrorKind;

/// The group of applications and devices as resources.
pub const GROUP: &str = "iot.drogue.io";
/// The label of an application in the registry that names the namespace of its resource.
pub const NAMESPACE_LABEL: &str = "iot.drogue.io/namespace";

/// A connection to the API server, and the namespace that is meant where none is named. Clones share it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    address: String,
}

impl Cluster {
    /// Finds the API server: by the kubeconfig that `KUBECONFIG` names or that lies in the home directory, else by the
    /// service account of this Pod. The namespace is `namespace`, else that of the kubeconfig's context or of the Pod.
    ///
    /// Nothing is asked yet: whether it answers, the first request shows.
    ///
    /// # Errors
    /// Fails if there is neither, or what there is cannot be used.
    pub async fn connect(namespace: Option<String>) -> Result<Self, ClusterError> {
        let inferred = match Config::from_kubeconfig(&KubeConfigOptions::default()).await {
            Ok(config) => config,
            Err(kubeconfig) => Config::incluster().map_err(|pod| ClusterError::NoCluster {
                kubeconfig: kubeconfig.to_string(),
                pod: pod.to_string(),
            })?,
        };
        let namespace = namespace.unwrap_or_else(|| inferred.default_namespace.clone());
        let address = inferred.cluster_url.to_string();
        let client = Client::try_from(inferred).map_err(|source| ClusterError::Unusable(Box::new(source)))?;
        Ok(Self { client, namespace, address })
    }

    /// Returns the client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns the namespace that is meant where none is named.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the address of the API server.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("address", &self.address)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// Says why the API server cannot be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nothing says where the API server is.
    #[error(
        "there is no Kubernetes to talk to: no kubeconfig ({kubeconfig}; see KUBECONFIG), and this is no Pod ({pod})"
    )]
    NoCluster {
        /// Why there is no kubeconfig.
        kubeconfig: String,
        /// Why this is no Pod.
        pod: String,
    },
    /// What the configuration says cannot be used.
    #[error("the configuration of the Kubernetes client cannot be used: {0}")]
    Unusable(#[source] Box<kube::Error>),
    /// The API server refused a request, or did not answer.
    #[error("{action}: {source}")]
    Request {
        /// What was asked for, as "cannot read the Pod default/x".
        action: String,
        /// The answer.
        source: Box<kube::Error>,
    },
}

impl ClusterError {
    /// Makes a function that says what was asked for when a request failed.
    pub fn of(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Request { action, source: Box::new(source) }
    }

    /// Returns the code of the API server's answer, if there was one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Request { source, .. } => {
                if let kube::Error::Api(status) = &**source {
                    Some(status.code)
                } else {
                    None
                }
            }
            Self::NoCluster { .. } | Self::Unusable(_) => None,
        }
    }

    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match (self, self.code()) {
            (Self::NoCluster { .. } | Self::Unusable(_), _) => ErrorKind::Invalid,
            (Self::Request { .. }, Some(401 | 403)) => ErrorKind::Forbidden,
            (Self::Request { .. }, Some(404)) => ErrorKind::NotFound,
            (Self::Request { .. }, Some(409)) => ErrorKind::Conflict,
            (Self::Request { .. }, Some(400 | 422)) => ErrorKind::Invalid,
            (Self::Request { .. }, _) => ErrorKind::Unavailable,
        }
    }
}
