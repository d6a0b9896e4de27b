//! Floors: what the libraries alone do on this machine, with nothing of the product between them and the load.

mod endpoints;
mod http;
mod mqtt;
mod sqlite;

use std::path::PathBuf;

use crate::address::Loopback;
use crate::report::Figure;

/// A floor.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Floor {
    /// Serves MQTT with ntex-mqtt: acknowledges and drops all, and grants all subscriptions.
    Mqtt {
        /// Where to listen.
        #[arg(long)]
        listen: Loopback,
    },
    /// Serves HTTP with actix-web: accepts and drops all, under `ttd` after that time.
    Http {
        /// Where to listen.
        #[arg(long)]
        listen: Loopback,
    },
    /// Serves Drogue's HTTP, MQTT and API over channels that acknowledge and drop all, or over the log with no tracker.
    Endpoints {
        #[command(flatten)]
        options: endpoints::Options,
    },
    /// Measures how many rows a second SQLite makes durable.
    Sqlite {
        /// How many seconds each size of a group is measured.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,

        /// Where the file is made, which is deleted afterwards. It should be on a real disk.
        #[arg(long, default_value = ".")]
        disk: PathBuf,
    },
}

/// Serves a floor until the process is ended, or measures it.
///
/// # Errors
/// Fails if the address is not to be had, or SQLite cannot write.
pub(crate) fn run(floor: &Floor) -> anyhow::Result<Vec<Figure>> {
    match floor {
        Floor::Mqtt { listen } => mqtt::serve(*listen).map(|()| Vec::new()),
        Floor::Http { listen } => http::serve(*listen).map(|()| Vec::new()),
        Floor::Endpoints { options } => endpoints::serve(options).map(|()| Vec::new()),
        Floor::Sqlite { seconds, disk } => sqlite::measure(*seconds, disk),
    }
}
