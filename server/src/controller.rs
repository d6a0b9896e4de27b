//! `drogue controller`: devices as resources of Kubernetes.
//!
//! It is a client of two doors: of the API server, from which it learns what applications and devices there should be,
//! and of the cloud's own application interface, which it tells so, as the operator. It opens no database.
//!
//! A change of a resource, of a Secret that it names, or of its application, a connection that begins or ends
//! (`followers`) and the end of a period have a resource looked at (`queues`). What is to be done about it is decided
//! without I/O (`plan`, `link`); `applications` and `devices` do it.
//!
//! Invariants: every write may be repeated by anybody at any time and then changes nothing, so that a restart ends no
//! session, and two controllers at once do no harm; nothing is kept but in the resources; what is not this namespace's is
//! neither changed nor deleted; nothing secret, and nothing that came of it, is written to a resource or a log.

mod applications;
mod conditions;
mod context;
pub mod definitions;
mod devices;
mod error;
mod followers;
mod link;
mod memory;
mod passwords;
mod plan;
mod queues;
mod registry;
pub mod resources;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use common::kubernetes::Cluster;
use common::net::Listen;
use common::process::{Clock, Shutdown};
use common::startup::{self, LogOptions, Services};
use common::time::parse_duration;
use common::web::admin::install_metrics;
use kube::api::Api;
use kube::runtime::reflector::store;
use tokio::sync::{Mutex, mpsc};

pub use error::ControllerError;

use crate::client::{ApiOptions, Client};
use crate::output;
use context::{Context, Synced};
use followers::Followers;
use memory::Memory;
use passwords::Passwords;
use queues::{Watched, run_applications, run_devices};
use registry::Registry;

/// How long what has begun may take to end.
const GRACE: Duration = Duration::from_secs(10);
/// How many devices may wait to be looked at.
const NUDGES: usize = 1024;

/// Keep the registry in step with the Applications and Devices of a Kubernetes cluster.
///
/// The API server is that of the kubeconfig, or of the Pod. Applications and devices are written through the
/// application interface (--api) with the operator's token (--token).
#[derive(Debug, Args)]
pub struct Controller {
    /// The namespace whose resources to keep in step; else that of the kubeconfig or of the Pod.
    #[arg(long, env = "DROGUE_KUBE_NAMESPACE", value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    kube_namespace: Option<String>,

    /// Keep the resources of all namespaces in step.
    #[arg(long, env = "DROGUE_ALL_NAMESPACES")]
    all_namespaces: bool,

    /// How often to write what should be in the registry already, so that what others changed there is put right.
    #[arg(long, env = "DROGUE_RESYNC", value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    resync: Duration,

    /// Health and metrics: ADDRESS:PORT, or 'off'.
    #[arg(long, env = "DROGUE_ADMIN_LISTEN", value_name = "LISTEN", default_value = "off")]
    admin_listen: Listen,

    /// Print the definitions of the custom resources as YAML, for `kubectl apply -f -`, and exit.
    #[arg(long)]
    print_crds: bool,

    /// Check the options, say in a line what was understood, and exit.
    #[arg(long)]
    check_config: bool,

    #[command(flatten)]
    api: ApiOptions,

    #[command(flatten)]
    logs: LogOptions,
}

/// Runs the controller until a signal ends it, and returns the exit code of the process.
pub fn main(options: Controller) -> ExitCode {
    if options.print_crds {
        let printed = definitions::print().map_err(anyhow::Error::from);
        return startup::report(printed.and_then(|text| Ok(output::line(text.trim_end())?)));
    }
    if options.check_config {
        return startup::report(check(&options));
    }
    let logs = options.logs.clone();
    startup::serve_within(&logs, GRACE, |shutdown| run(options, shutdown))
}

fn check(options: &Controller) -> anyhow::Result<()> {
    Client::open(&options.api)?;
    let namespace = options.kube_namespace.as_deref().unwrap_or("that of the Pod or kubeconfig");
    let namespace = if options.all_namespaces { "all" } else { namespace };
    let (resync, admin) = (options.resync, options.admin_listen);
    Ok(output::line(format!("controller: namespace {namespace}, resync {resync:?}, admin {admin}"))?)
}

async fn run(options: Controller, shutdown: Shutdown) -> anyhow::Result<()> {
    let registry = Registry::new(Client::open(&options.api)?);
    let cluster = Cluster::connect(options.kube_namespace.clone()).await?;
    let metrics = install_metrics()?;
    let admin = options.admin_listen.bind("--admin-listen")?;
    let watched = watch(&cluster, options.all_namespaces);

    let (applications, application_writer) = store();
    let (devices, device_writer) = store();
    let (nudges, nudged) = mpsc::channel(NUDGES);
    let memory = Arc::new(Memory::default());
    let context = Arc::new(Context {
        client: cluster.client(),
        registry: registry.clone(),
        memory: memory.clone(),
        passwords: Passwords::new()?,
        applications,
        devices: devices.clone(),
        synced: Synced::default(),
        followers: Followers::new(registry, memory, devices, nudges.clone()),
        nudges,
        resync: options.resync,
        clock: Clock::system(),
        writing: Mutex::new(()),
    });

    let mut services = Services::new(shutdown.clone());
    let known = context.clone();
    services.require("resources", move || known.synced.is_complete());
    let (watching, with, until) = (watched.clone(), context.clone(), shutdown.clone());
    services.spawn("applications", run_applications(watching, application_writer, with, until));
    services.spawn("devices", run_devices(watched, device_writer, nudged, context, shutdown));
    let namespace = if options.all_namespaces { "all" } else { cluster.namespace() };
    tracing::info!(cluster = cluster.address(), namespace, resync = ?options.resync, "keeps the registry in step");
    services.run(admin, metrics).await
}

fn watch(cluster: &Cluster, all: bool) -> Watched {
    let (client, namespace) = (cluster.client(), cluster.namespace());
    if all {
        Watched {
            applications: Api::all(client.clone()),
            devices: Api::all(client.clone()),
            secrets: Api::all(client),
        }
    } else {
        Watched {
            applications: Api::namespaced(client.clone(), namespace),
            devices: Api::namespaced(client.clone(), namespace),
            secrets: Api::namespaced(client, namespace),
        }
    }
}
