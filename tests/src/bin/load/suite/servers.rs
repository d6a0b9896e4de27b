//! The servers that the suite starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::Servers;
use crate::address::Loopback;
use crate::drive::run;
use crate::fleet::FleetOptions;
use crate::kafka::Topics;
use crate::process::{POLL, Server};
use crate::telemetry::Protocol;

/// How long Drogue may take to be ready.
const STARTUP: Duration = Duration::from_secs(60);

/// Where servers run: on which disk and which ports.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Place {
    /// Where the servers keep their data, in a directory that is deleted afterwards. It should be on a real disk.
    #[arg(long, default_value = ".")]
    pub(super) disk: PathBuf,

    /// The first of five free ports in a row for the servers. They should be below those that connections are made
    /// from: a port of a server that is down must not become a client's.
    #[arg(long, default_value_t = 23_080)]
    first_port: u16,
}

impl Place {
    fn ports(&self) -> [Loopback; 5] {
        std::array::from_fn(|number| Loopback::port(self.first_port.saturating_add(number as u16)))
    }

    pub(super) fn directory(&self) -> anyhow::Result<TempDir> {
        let directory = tempfile::Builder::new().prefix(".load-").tempdir_in(&self.disk);
        directory.with_context(|| format!("cannot make a directory in {}", self.disk.display()))
    }
}

/// Drogue in one process, with no data.
#[derive(Debug)]
pub(super) struct Drogue {
    pub(super) server: Server,
    pub(super) fleet: FleetOptions,
    pub(super) http: Loopback,
    pub(super) mqtt: Loopback,
    pub(super) mqtts: Loopback,
    _directory: TempDir,
}

impl Drogue {
    /// Starts it over the embedded log.
    pub(super) fn start(servers: &Servers) -> anyhow::Result<Self> {
        Self::up(servers, &[])
    }

    /// Starts it over Kafka.
    pub(super) fn on_kafka(servers: &Servers, topics: &Topics) -> anyhow::Result<Self> {
        let brokers = topics.brokers().to_string();
        Self::up(servers, &["--kafka-bootstrap-servers", &brokers, "--kafka-topic-prefix", topics.prefix()])
    }

    /// Starts its endpoints over channels that discard.
    pub(super) fn discarding(servers: &Servers) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["floor", "endpoints"]);
        Self::launch(command, &servers.place)
    }

    /// Starts its endpoints over the embedded log, which no tracker follows.
    pub(super) fn untracked(servers: &Servers) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["floor", "endpoints", "--untracked"]);
        Self::launch(command, &servers.place)
    }

    fn up(servers: &Servers, channel: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(&servers.drogue);
        let [_, _, mqtts, ..] = servers.place.ports();
        command.args(["up", "--log", "warn", "--https-listen", "off", "--api-tls-listen", "off"]);
        command.args(["--mqtts-listen", &mqtts.to_string()]).args(channel);
        Self::launch(command, &servers.place)
    }

    /// Starts it and waits until it is ready.
    fn launch(mut command: Command, place: &Place) -> anyhow::Result<Self> {
        let directory = place.directory()?;
        let [http, mqtt, mqtts, api, admin] = place.ports();
        command.arg("--data-dir").arg(directory.path());
        for (option, address) in [
            ("--http-listen", http),
            ("--mqtt-listen", mqtt),
            ("--api-listen", api),
            ("--admin-listen", admin),
        ] {
            command.args([option, &address.to_string()]);
        }
        let server = Server::start(command, admin)?;
        run(ready(admin))?;
        let mut fleet = FleetOptions::foreign();
        (fleet.foreign, fleet.api, fleet.data_dir) = (false, api, directory.path().to_owned());
        Ok(Self { server, fleet, http, mqtt, mqtts, _directory: directory })
    }

    /// Returns how many telemetry events were stored since the start, those that retention deleted too.
    pub(super) fn stored(&self) -> anyhow::Result<u64> {
        let file = self.fleet.data_dir.join("log.sqlite");
        let log = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let count = "SELECT coalesce(count(*) + min(position) - 1, 0) FROM telemetry";
        let stored: i64 = log.query_row(count, [], |row| row.get(0))?;
        Ok(stored.try_into()?)
    }

    /// Returns where devices connect in plain.
    pub(super) fn target(&self, protocol: Protocol) -> Loopback {
        match protocol {
            Protocol::Http => self.http,
            Protocol::Mqtt => self.mqtt,
        }
    }
}

async fn ready(admin: Loopback) -> anyhow::Result<()> {
    let url = format!("http://{admin}/readyz");
    let ready = async {
        while !reqwest::get(&url).await.is_ok_and(|response| response.status().is_success()) {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(STARTUP, ready).await.with_context(|| format!("{url} did not say so in {STARTUP:?}"))
}

/// Mosquitto, which stores nothing and lets everybody in.
#[derive(Debug)]
pub(super) struct Mosquitto {
    pub(super) server: Server,
    pub(super) target: Loopback,
    _directory: TempDir,
}

impl Mosquitto {
    /// Starts it and waits until it listens.
    pub(super) fn start(binary: &Path, place: &Place) -> anyhow::Result<Self> {
        let directory = place.directory()?;
        let [target, ..] = place.ports();
        let configuration = directory.path().join("mosquitto.conf");
        let port = target.socket().port();
        let text =
            format!("listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\nmax_connections -1\n");
        fs::write(&configuration, text)?;
        let mut command = Command::new(binary);
        command.arg("-c").arg(&configuration);
        Ok(Self { server: Server::start(command, target)?, target, _directory: directory })
    }
}

/// A floor, in a process of its own.
#[derive(Debug)]
pub(super) struct Bare {
    pub(super) server: Server,
    pub(super) target: Loopback,
}

impl Bare {
    /// Starts it and waits until it listens.
    pub(super) fn start(protocol: Protocol, place: &Place) -> anyhow::Result<Self> {
        let [target, ..] = place.ports();
        let floor = match protocol {
            Protocol::Http => "http",
            Protocol::Mqtt => "mqtt",
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["floor", floor, "--listen", &target.to_string()]);
        Ok(Self { server: Server::start(command, target)?, target })
    }
}
