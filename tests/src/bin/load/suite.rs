//! All measurements one after the other, each with servers that are started for it.

pub(crate) mod kafka;
mod servers;
pub(crate) mod tracking;

use std::path::{Path, PathBuf};

use anyhow::ensure;

use crate::fleet::FleetOptions;
use crate::floor::{self, Floor};
use crate::idle::{self, Kind};
use crate::kafka::{Brokers, foreign};
use crate::report::Figure;
use crate::telemetry::{self, Protocol};
use crate::{address::Loopback, command, dropped, handover, outcomes, progress, reconnect, waits};
use servers::{Bare, Drogue, Mosquitto, Place};

/// What the suite measures.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    servers: Servers,

    /// Mosquitto, which stands beside it; `off` leaves it out.
    #[arg(long, default_value = "/usr/sbin/mosquitto")]
    mosquitto: PathBuf,

    /// How many connections wait, and how many devices reconnect.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,

    /// Telemetry a second over MQTT beside which commands are measured.
    #[arg(long, default_value_t = 40_000.0)]
    mqtt_rate: f64,

    /// Telemetry a second over HTTP beside which commands are measured.
    #[arg(long, default_value_t = 15_000.0)]
    http_rate: f64,

    /// Brokers of a Kafka cluster on this machine: ADDRESS:PORT, by commas [default: the figures on Kafka are left out].
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", value_name = "SERVERS")]
    kafka_bootstrap_servers: Option<Brokers>,
}

/// How servers are started, and for how long they are measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Servers {
    /// The server, built with the profile `dist`.
    #[arg(long, default_value = "target/dist/drogue")]
    drogue: PathBuf,

    #[command(flatten)]
    place: Place,

    /// How many seconds each rate is measured.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// Measures all, and shows each figure on standard error as it is found.
///
/// # Errors
/// Fails if a server cannot be started, or a measurement fails.
pub(crate) fn measure(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let mut suite = Suite { options, report: Report::default() };
    for protocol in [Protocol::Mqtt, Protocol::Http] {
        suite.drogue_telemetry(protocol)?;
        suite.drogue_commands(protocol)?;
    }
    for protocol in [Protocol::Mqtt, Protocol::Http] {
        suite.drogue_outcomes(protocol)?;
    }
    suite.drogue_handover()?;
    suite.tracking()?;
    for kind in [Kind::Mqtt, Kind::Mqtts, Kind::Http] {
        suite.drogue_idle(kind)?;
    }
    suite.drogue_reconnect()?;
    suite.report.add("drogue", dropped::measure(&dropped::Options::default())?);
    for figure in waits::measure(&waits::Options::default(), &options.servers.place.disk)? {
        suite.report.add("drogue", figure);
    }
    if options.mosquitto != Path::new("off") {
        suite.mosquitto()?;
    }
    suite.floors()?;
    suite.kafka()?;
    Ok(suite.report.figures)
}

/// The figures that were found.
#[derive(Debug, Default)]
struct Report {
    figures: Vec<Figure>,
}

impl Report {
    fn add(&mut self, server: &str, figure: Figure) {
        let figure = figure.of(server);
        progress::say(&figure.to_string());
        self.figures.push(figure);
    }
}

struct Suite<'a> {
    options: &'a Options,
    report: Report,
}

impl Suite<'_> {
    fn drogue(&self) -> anyhow::Result<Drogue> {
        Drogue::start(&self.options.servers)
    }

    fn kafka(&mut self) -> anyhow::Result<()> {
        let Some(brokers) = self.options.kafka_bootstrap_servers.clone() else {
            let why = "no brokers were given (option --kafka-bootstrap-servers)";
            self.report.add("drogue on Kafka", Figure::left_out("all figures", why));
            return Ok(());
        };
        let (servers, foreign) = (self.options.servers.clone(), foreign::Options::default());
        let options =
            kafka::Options { parts: Vec::new(), servers, kafka_bootstrap_servers: brokers, foreign };
        kafka::add(&options, &mut self.report)
    }

    fn drogue_telemetry(&mut self, protocol: Protocol) -> anyhow::Result<()> {
        let drogue = self.drogue()?;
        let options =
            telemetry::Options::new(protocol, drogue.target(protocol), self.options.servers.seconds);
        let figure = telemetry::measure(&options, &drogue.fleet)?;
        // A rate of acknowledgements is a rate of durable events only if the file has them all.
        let (accepted, stored) = (figure.accepted_in_all.unwrap_or(0), drogue.stored()?);
        ensure!(stored >= accepted, "{accepted} events were acknowledged and {stored} are in the log");
        let note = format!("{accepted} acknowledged, {stored} in the log {}", figure.note);
        self.report.add("drogue", figure.with_note(note.trim()));
        Ok(())
    }

    fn drogue_commands(&mut self, protocol: Protocol) -> anyhow::Result<()> {
        let rate = match protocol {
            Protocol::Mqtt => self.options.mqtt_rate,
            Protocol::Http => self.options.http_rate,
        };
        for telemetry_rate in [None, Some(rate)] {
            let drogue = self.drogue()?;
            let mut options =
                command::Options::new(protocol, drogue.target(protocol), self.options.servers.seconds);
            options.telemetry_rate = telemetry_rate;
            for figure in command::measure(&options, &drogue.fleet)? {
                self.report.add("drogue", figure);
            }
        }
        Ok(())
    }

    fn drogue_outcomes(&mut self, protocol: Protocol) -> anyhow::Result<()> {
        let drogue = self.drogue()?;
        let options = command::Options::new(protocol, drogue.target(protocol), self.options.servers.seconds);
        let figures = outcomes::measure(&options, &drogue.fleet)?;
        figures.into_iter().for_each(|figure| self.report.add("drogue", figure));
        Ok(())
    }

    fn drogue_handover(&mut self) -> anyhow::Result<()> {
        let drogue = self.drogue()?;
        let options = handover::Options { target: drogue.mqtt, devices: self.options.connections };
        let figures = handover::measure(&options, &drogue.fleet)?;
        figures.into_iter().for_each(|figure| self.report.add("drogue", figure));
        Ok(())
    }

    fn tracking(&mut self) -> anyhow::Result<()> {
        let (servers, rounds) = (self.options.servers.clone(), tracking::Rounds::default());
        let options = tracking::Options { servers, rounds, earlier: None };
        tracking::add(&options, &mut self.report)
    }

    /// Measures memory with a server that was just started: what others freed would be used again.
    fn drogue_idle(&mut self, kind: Kind) -> anyhow::Result<()> {
        let drogue = self.drogue()?;
        let target = match kind {
            Kind::Mqtt => drogue.mqtt,
            Kind::Mqtts => drogue.mqtts,
            Kind::Http => drogue.http,
        };
        let options = idle::Options::new(kind, target, self.options.connections, drogue.server.pid());
        self.report.add("drogue", idle::measure(&options, &drogue.fleet)?);
        Ok(())
    }

    fn drogue_reconnect(&mut self) -> anyhow::Result<()> {
        let mut drogue = self.drogue()?;
        let options = reconnect::Options { target: drogue.mqtt, devices: self.options.connections };
        let figure = reconnect::measure(&options, &drogue.fleet, || drogue.server.restart())?;
        self.report.add("drogue", figure);
        Ok(())
    }

    fn mosquitto(&mut self) -> anyhow::Result<()> {
        let start = || Mosquitto::start(&self.options.mosquitto, &self.options.servers.place);
        let mut mosquitto = start()?;
        let (target, fleet) = (mosquitto.target, FleetOptions::foreign());
        let telemetry = self.telemetry(Protocol::Mqtt, target)?;
        self.report.add("mosquitto", telemetry);
        let options = reconnect::Options { target, devices: self.options.connections };
        let figure = reconnect::measure(&options, &fleet, || mosquitto.server.restart())?;
        self.report.add("mosquitto", figure);
        drop(mosquitto);
        let mosquitto = start()?;
        let idle = self.idle(Kind::Mqtt, mosquitto.target, mosquitto.server.pid())?;
        self.report.add("mosquitto", idle);
        Ok(())
    }

    fn floors(&mut self) -> anyhow::Result<()> {
        for (protocol, kind, name) in
            [(Protocol::Mqtt, Kind::Mqtt, "bare ntex-mqtt"), (Protocol::Http, Kind::Http, "bare actix-web")]
        {
            let bare = Bare::start(protocol, &self.options.servers.place)?;
            let telemetry = self.telemetry(protocol, bare.target)?;
            self.report.add(name, telemetry);
            drop(bare);
            let bare = Bare::start(protocol, &self.options.servers.place)?;
            let idle = self.idle(kind, bare.target, bare.server.pid())?;
            self.report.add(name, idle);
        }
        for figure in
            floor::run(&Floor::Sqlite { seconds: 3.0, disk: self.options.servers.place.disk.clone() })?
        {
            self.report.add("SQLite", figure);
        }
        Ok(())
    }

    fn telemetry(&self, protocol: Protocol, target: Loopback) -> anyhow::Result<Figure> {
        let options = telemetry::Options::new(protocol, target, self.options.servers.seconds);
        telemetry::measure(&options, &FleetOptions::foreign())
    }

    fn idle(&self, kind: Kind, target: Loopback, pid: u32) -> anyhow::Result<Figure> {
        let options = idle::Options::new(kind, target, self.options.connections, pid);
        idle::measure(&options, &FleetOptions::foreign())
    }
}
