//! What talks to a Kubernetes API server, against a real one.
//!
//! They take the cluster from `KUBECONFIG`, and say that they are skipped where it names none.

#![expect(clippy::unwrap_used, reason = "a test that unwraps in vain fails, which is what it is for")]

mod access;
mod access_unreviewed;
mod controller;
mod knative;
mod status;
