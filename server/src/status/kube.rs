//! `drogue status --kube`: the state of the cloud in a namespace of Kubernetes, and how to send a first command there.

mod objects;
mod ways;

use ::kube::api::{ApiResource, DynamicObject, ListParams};
use ::kube::core::gvk::GroupVersionKind;
use ::kube::{Api, Error};
use anyhow::{anyhow, bail, ensure};
use clap::Args;
use common::kubernetes::{Cluster, ClusterError};
use common::startup::BadConfiguration;
use serde_json::json;
use tokio::time::timeout;

use super::{PATIENCE, Status};
use crate::output;
use objects::{Kind, Row};
use ways::{Read, node_address};

/// What all objects of the cloud are labelled with.
const LABEL: &str = "app.kubernetes.io/part-of=drogue";

/// Which cluster is meant, and where in it.
#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Kubernetes")]
pub(super) struct KubeOptions {
    /// Show what of the cloud is ready in a namespace of Kubernetes, of the cluster that kubectl uses.
    #[arg(long)]
    pub(super) kube: bool,

    /// The namespace; else that of the kubeconfig's context.
    #[arg(long, env = "DROGUE_KUBE_NAMESPACE", value_name = "NAMESPACE")]
    pub(super) kube_namespace: Option<String>,
}

impl Status {
    /// Prints the state of each object, then the section of start-up with the cluster's addresses.
    ///
    /// # Errors
    /// Fails if an object is not ready, or the cluster cannot be read.
    pub(super) async fn kube(&self) -> anyhow::Result<()> {
        let cluster = Cluster::connect(self.kube.kube_namespace.clone()).await;
        let cluster = cluster.map_err(|error| BadConfiguration(error.to_string()))?;
        let read = read(&cluster).await?;
        if read.objects.is_empty() {
            bail!(
                "nothing in the namespace {} has the label {LABEL}; apply deploy/ there, or name another one with \
                 --kube-namespace",
                read.namespace
            );
        }
        let rows: Vec<_> = read.objects.iter().map(|(kind, object)| Row::of(*kind, object)).collect();
        let ready = rows.iter().all(|row| row.ready);
        if self.api.json {
            output::line(json!({
                "ready": ready, "namespace": read.namespace, "objects": rows, "notInstalled": read.missing,
            }))?;
        } else {
            output::table(&table(&rows, &read.missing))?;
            output::line(format!("\n{}", read.section().text().trim_end()))?;
        }
        ensure!(ready, "not everything in the namespace {} is ready", read.namespace);
        Ok(())
    }
}

fn table(rows: &[Row], missing: &[Kind]) -> Vec<[String; 4]> {
    let state = |row: &Row| if row.ready { "ready" } else { "NOT READY" }.to_owned();
    // What others wrote must not move the reader's cursor.
    let detail = |row: &Row| {
        let detail = row.reason.as_deref().or(row.address.as_deref());
        output::printable(detail.unwrap_or_default())
    };
    let objects = rows.iter().map(|row| [row.kind.to_string(), row.name.clone(), state(row), detail(row)]);
    let missing = missing
        .iter()
        .map(|kind| [kind.to_string(), String::new(), "not installed".to_owned(), String::new()]);
    objects.chain(missing).collect()
}

/// Reads what there is of the cloud in the namespace.
async fn read(cluster: &Cluster) -> anyhow::Result<Read> {
    let mut read = Read { namespace: cluster.namespace().to_owned(), ..Read::default() };
    for kind in Kind::ALL {
        match objects(cluster, kind).await? {
            Some(objects) => read.objects.extend(objects.into_iter().map(|object| (kind, object))),
            None => read.missing.push(kind),
        }
    }
    let nodes =
        Api::all_with(cluster.client(), &ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Node")));
    // Who may not read nodes is told how to do without.
    read.node = list(cluster, &nodes, "nodes", &ListParams::default())
        .await
        .ok()
        .and_then(|nodes| node_address(&nodes));
    Ok(read)
}

/// Returns the objects of a kind; `None` if the cluster does not serve it.
async fn objects(cluster: &Cluster, kind: Kind) -> anyhow::Result<Option<Vec<DynamicObject>>> {
    let parameters = ListParams::default().labels(LABEL);
    for version in kind.versions() {
        let resource = ApiResource::from_gvk(&version);
        let api = Api::namespaced_with(cluster.client(), cluster.namespace(), &resource);
        match list(cluster, &api, &resource.plural, &parameters).await {
            Ok(objects) => return Ok(Some(objects)),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

async fn list(
    cluster: &Cluster,
    api: &Api<DynamicObject>,
    what: &str,
    parameters: &ListParams,
) -> anyhow::Result<Vec<DynamicObject>> {
    let failed = ClusterError::of(format!("cannot list {what} at {}", cluster.address()));
    let late = || anyhow!("the API server at {} does not answer", cluster.address());
    let listed: Result<_, Error> = timeout(PATIENCE, api.list(parameters)).await.map_err(|_| late())?;
    Ok(listed.map_err(failed)?.items)
}

/// Tells whether a kind is not there: a namespace that is not there has no objects, and that is no failure.
fn is_absent(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ClusterError>().and_then(ClusterError::code) == Some(404)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_why_or_where_and_what_is_not_installed() {
        let row = |ready: bool, address: Option<&str>, reason: Option<&str>| Row {
            kind: Kind::Subscription,
            name: "x".to_owned(),
            ready,
            address: address.map(str::to_owned),
            reason: reason.map(str::to_owned),
        };
        let rows = [row(true, Some("http://a"), None), row(false, Some("http://a"), Some("no\u{1b}[2J"))];
        let expected = [
            ["Subscription", "x", "ready", "http://a"],
            ["Subscription", "x", "NOT READY", r"no\u{1b}[2J"],
            ["KafkaChannel", "", "not installed", ""],
        ];
        assert_eq!(table(&rows, &[Kind::KafkaChannel]), expected.map(|row| row.map(str::to_owned)));
    }
}
