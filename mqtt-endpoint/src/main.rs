//! The MQTT endpoint as a process of its own.

use std::process::ExitCode;

use clap::Parser;
use common::net::Listen;
use common::service::Shutdown;
use common::startup::{self, Replica, ReplicaOptions, Role};

/// The MQTT endpoint of the cloud, for devices, as a process of its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Where to listen for plain connections: ADDRESS:PORT, or 'off'.
    #[arg(long, env = "DROGUE_LISTEN", value_name = "LISTEN", default_value = "127.0.0.1:1883")]
    listen: Listen,

    /// Where to listen for TLS connections, if there is a certificate: ADDRESS:PORT, or 'off'.
    #[arg(long, env = "DROGUE_TLS_LISTEN", value_name = "LISTEN", default_value = "127.0.0.1:8883")]
    tls_listen: Listen,

    #[command(flatten)]
    replica: ReplicaOptions,

    #[command(flatten)]
    mqtt: mqtt_endpoint::Config,
}

fn main() -> ExitCode {
    let options: Options = startup::parse();
    let replica = options.replica.clone();
    startup::serve_replica(&replica, Role::Devices, |shutdown| run(options, shutdown))
}

async fn run(options: Options, shutdown: Shutdown) -> anyhow::Result<()> {
    let Options { listen, tls_listen, replica, mut mqtt } = options;
    mqtt.max_connections = replica.limits.max_connections;
    mqtt.grace = replica.limits.endpoint_grace();
    let last_words = replica.limits.last_words_grace();
    let replica = Replica::open(replica, Role::Devices, listen, tls_listen, None, &shutdown).await?;
    let devices = replica.devices().await?;
    let mut services = replica.services(shutdown.clone());
    let watched = devices.clone();
    services.require("commands", move || watched.is_live());
    let last = devices.clone();
    services.at_last(async move { last.finish(last_words).await });
    services.spawn("mqtt", mqtt_endpoint::run(mqtt, replica.listeners, devices, shutdown));
    services.run(replica.admin, replica.metrics).await
}
