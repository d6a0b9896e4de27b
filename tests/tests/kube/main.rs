//! Tests against a real Kubernetes API server, and of what is made for one.
//!
//! They take the cluster from `KUBECONFIG` and Knative's definitions from `KNATIVE_CRDS`, and say that they are skipped
//! where there is none.

#![expect(clippy::unwrap_used, reason = "a test that unwraps in vain fails, which is what it is for")]

mod access;
mod access_unreviewed;
mod configuration;
mod controller;
mod kafka_channels;
mod knative;
mod manifests;
mod namespace;
mod probes;
mod rights;
mod status;
