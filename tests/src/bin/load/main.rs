//! The load tool: measures the cloud, and whatever stands beside it, on this machine.
//!
//! Requests are built once and answers parsed no further than needed, on one thread, since the generator shares the
//! processor with the server. Rates are open loop: a latency counts from the time at which a request should have been
//! sent, so that a stall of the server is not hidden by a generator that waits with it.

mod address;
mod command;
mod connect;
mod discard;
mod drive;
mod dropped;
mod fleet;
mod floor;
mod handover;
mod histogram;
mod idle;
mod kafka;
mod outcome_stream;
mod outcomes;
mod pace;
mod pinned;
mod process;
mod progress;
mod reading;
mod reconnect;
mod report;
mod suite;
mod telemetry;
mod waits;
mod wire;

use clap::{Parser, Subcommand};
use tokio_rustls::rustls::crypto::ring;

use fleet::FleetOptions;
use report::Figure;

/// Measures Drogue, and any MQTT broker beside it, on this machine.
#[derive(Debug, Parser)]
#[command(name = "load", version)]
struct Options {
    /// Print JSON, one figure a line, instead of a table.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    /// How much telemetry a second is accepted, and how long that takes.
    Telemetry {
        #[command(flatten)]
        options: telemetry::Options,
        #[command(flatten)]
        fleet: FleetOptions,
    },
    /// How long commands take from POST to device.
    Commands {
        #[command(flatten)]
        options: command::Options,
        #[command(flatten)]
        fleet: FleetOptions,
    },
    /// How long an application waits for `delivered`, and for a reply, beside commands that nobody waits for.
    Outcomes {
        #[command(flatten)]
        options: command::Options,
        #[command(flatten)]
        fleet: FleetOptions,
    },
    /// How long it takes until all devices have what was kept for them, when they connect at once.
    Handover {
        #[command(flatten)]
        options: handover::Options,
        #[command(flatten)]
        fleet: FleetOptions,
    },
    /// How much memory a connection takes that waits for commands.
    Idle {
        #[command(flatten)]
        options: idle::Options,
        #[command(flatten)]
        fleet: FleetOptions,
    },
    /// How long devices take to come back after a restart, which is yours to do when the tool says so.
    Reconnect {
        #[command(flatten)]
        options: reconnect::Options,
        #[command(flatten)]
        fleet: FleetOptions,
    },
    /// What a command costs that is not for this replica.
    Dropped {
        #[command(flatten)]
        options: dropped::Options,
    },
    /// What the records of waits that begin elsewhere cost a device endpoint, and a tracker.
    Waits {
        #[command(flatten)]
        options: waits::Options,
        #[command(flatten)]
        disk: waits::Disk,
    },
    /// What it costs those who submit commands that these are tracked.
    ///
    /// Starts the servers itself, in turns: the endpoints without a tracker over the same log, and the whole server.
    Tracking {
        #[command(flatten)]
        options: suite::tracking::Options,
    },
    /// What the libraries do alone.
    #[command(subcommand)]
    Floor(floor::Floor),
    /// Kafka, each figure beside what its client library does alone in the same run.
    ///
    /// Starts the servers itself. Its topics have a prefix of their own and are deleted afterwards; if it is killed, they
    /// stay.
    Kafka {
        #[command(flatten)]
        options: suite::kafka::Options,
    },
    /// All of these one after the other, with servers that it starts and ends itself.
    Suite {
        #[command(flatten)]
        options: suite::Options,
    },
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    // Fails if there is a provider already, and then that one is used.
    ring::default_provider().install_default().ok();
    rlimit::increase_nofile_limit(rlimit::INFINITY)?;
    let figures = measure(&options.measurement)?;
    report::print(&figures, options.json)
}

fn measure(measurement: &Measurement) -> anyhow::Result<Vec<Figure>> {
    match measurement {
        Measurement::Telemetry { options, fleet } => Ok(vec![telemetry::measure(options, fleet)?]),
        Measurement::Commands { options, fleet } => command::measure(options, fleet),
        Measurement::Outcomes { options, fleet } => outcomes::measure(options, fleet),
        Measurement::Handover { options, fleet } => handover::measure(options, fleet),
        Measurement::Idle { options, fleet } => Ok(vec![idle::measure(options, fleet)?]),
        Measurement::Reconnect { options, fleet } => {
            let restart = || {
                progress::say(&format!("restart the server on {} now", options.target));
                Ok(())
            };
            Ok(vec![reconnect::measure(options, fleet, restart)?])
        }
        Measurement::Dropped { options } => Ok(vec![dropped::measure(options)?]),
        Measurement::Waits { options, disk } => waits::measure(options, &disk.disk),
        Measurement::Tracking { options } => suite::tracking::measure(options),
        Measurement::Floor(floor) => floor::run(floor),
        Measurement::Kafka { options } => suite::kafka::measure(options),
        Measurement::Suite { options } => suite::measure(options),
    }
}
