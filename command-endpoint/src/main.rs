//! The command endpoint as a process of its own.

use std::process::ExitCode;

use clap::Parser;
use command_endpoint::Tracker;
use common::net::Listen;
use common::service::Shutdown;
use common::startup::{self, AdminTokenOptions, Channels, Replica, ReplicaOptions, Role};

/// The application interface of the cloud, as a process of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Where to listen for plain connections: ADDRESS:PORT, or 'off'.
    #[arg(long, env = "DROGUE_LISTEN", value_name = "LISTEN", default_value = "127.0.0.1:8081")]
    listen: Listen,

    /// Where to listen for TLS connections, if there is a certificate: ADDRESS:PORT, or 'off'.
    #[arg(long, env = "DROGUE_TLS_LISTEN", value_name = "LISTEN", default_value = "127.0.0.1:8444")]
    tls_listen: Listen,

    #[command(flatten)]
    replica: ReplicaOptions,

    #[command(flatten)]
    admin_token: AdminTokenOptions,

    #[command(flatten)]
    api: command_endpoint::Config,
}

fn main() -> ExitCode {
    let options: Options = startup::parse();
    let replica = options.replica.clone();
    startup::serve_replica(&replica, Role::Applications, |shutdown| run(options, shutdown))
}

async fn run(options: Options, shutdown: Shutdown) -> anyhow::Result<()> {
    let Options { listen, tls_listen, replica, admin_token, mut api } = options;
    api.max_connections = replica.limits.max_connections;
    api.grace = replica.limits.endpoint_grace();
    let admin_token = admin_token.read()?;
    let replica =
        Replica::open(replica, Role::Applications, listen, tls_listen, admin_token, &shutdown).await?;
    let mut services = replica.services(shutdown.clone());
    let Replica { channels: Channels { sink, source, are_logs, .. }, registry, clock, limits, .. } = replica;
    let mut tracker = None;
    if are_logs {
        let settings = api.tracker(&limits, None);
        let (started, tracking) =
            Tracker::start(sink.clone(), &*source, &registry, settings, clock.clone()).await?;
        tracking.serve_in(&mut services, shutdown.clone());
        tracker = Some(started);
    }
    let identities = api.identities(clock.clone()).await?;
    let backends = command_endpoint::Backends { sink, source, registry, identities, tracker, clock, limits };
    services.spawn("api", command_endpoint::run(api, replica.listeners, backends, shutdown));
    services.run(replica.admin, replica.metrics).await
}
