//! The figures on Kafka, each with its floor in the same run and beside it.

use std::sync::Arc;
use std::time::Duration;

use common::channel::Channel;
use common::kafka::KafkaChannels;
use common::service::Clock;

use super::servers::Drogue;
use super::{Report, Servers};
use crate::drive::run;
use crate::kafka::{Brokers, Topics, foreign, latency, sink};
use crate::process::processor_time;
use crate::report::Figure;
use crate::telemetry::{self, Protocol};
use crate::{command, handover, outcomes, waits};

/// Whose figures these are.
const DROGUE: &str = "drogue on Kafka";
const BARE: &str = "bare rdkafka";
const DISCARDING: &str = "drogue, discarding";

/// What is measured on Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// How long commands take from POST to device, beside bare produce to consume.
    Commands,
    /// How long an application waits for `delivered`, and for a reply.
    Outcomes,
    /// How long it takes until all devices have what was kept for them, when they connect at once.
    Handover,
    /// What the records of waits that begin elsewhere cost each reader.
    Waits,
    /// How many events a second the adapter gets acknowledged, beside a bare producer.
    Sink,
    /// How much telemetry a second is accepted, beside the same endpoints with a channel that discards.
    Telemetry,
    /// How many commands for other devices a replica reads on one core, beside a bare consumer.
    Foreign,
}

impl Part {
    const ALL: [Self; 7] = [
        Self::Commands,
        Self::Outcomes,
        Self::Handover,
        Self::Waits,
        Self::Sink,
        Self::Telemetry,
        Self::Foreign,
    ];
}

/// What is measured, and where Kafka is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// What is measured [default: all].
    pub(super) parts: Vec<Part>,

    #[command(flatten)]
    pub(super) servers: Servers,

    /// Brokers of a Kafka cluster on this machine: ADDRESS:PORT, by commas.
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", value_name = "SERVERS")]
    pub(super) kafka_bootstrap_servers: Brokers,

    #[command(flatten)]
    pub(super) foreign: foreign::Options,
}

/// Measures on Kafka, and shows each figure on standard error as it is found.
///
/// # Errors
/// Fails if a server cannot be started, the brokers do not answer, or a measurement fails.
pub(crate) fn measure(options: &Options) -> anyhow::Result<Vec<Figure>> {
    let mut report = Report::default();
    add(options, &mut report)?;
    Ok(report.figures)
}

/// Measures on Kafka for a report.
pub(super) fn add(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut kafka = Kafka { options, report };
    let wanted: &[Part] = if options.parts.is_empty() { &Part::ALL } else { &options.parts };
    for part in wanted {
        match part {
            Part::Commands => kafka.commands()?,
            Part::Outcomes => kafka.outcomes()?,
            Part::Handover => kafka.handover()?,
            Part::Waits => kafka.waits()?,
            Part::Sink => kafka.sink()?,
            Part::Telemetry => kafka.telemetry()?,
            Part::Foreign => kafka.foreign()?,
        }
    }
    Ok(())
}

struct Kafka<'a> {
    options: &'a Options,
    report: &'a mut Report,
}

impl Kafka<'_> {
    fn topics(&self) -> anyhow::Result<Topics> {
        Topics::new(&self.options.kafka_bootstrap_servers)
    }

    fn commands(&mut self) -> anyhow::Result<()> {
        let servers = &self.options.servers;
        for protocol in [Protocol::Mqtt, Protocol::Http] {
            let floor = latency::measure(&self.topics()?, command::RATE, servers.seconds)?;
            let topics = self.topics()?;
            let drogue = Drogue::on_kafka(servers, &topics)?;
            let options = command::Options::new(protocol, drogue.target(protocol), servers.seconds);
            let figures = command::measure(&options, &drogue.fleet)?;
            self.report.add(BARE, floor.clone());
            // The first is that of the commands, the second that of their acceptance.
            for (figure, is_whole) in figures.into_iter().zip([true, false]) {
                let figure = if is_whole { figure.with_p50_of(&floor) } else { figure };
                self.report.add(DROGUE, figure);
            }
        }
        Ok(())
    }

    fn outcomes(&mut self) -> anyhow::Result<()> {
        let servers = &self.options.servers;
        for protocol in [Protocol::Mqtt, Protocol::Http] {
            let topics = self.topics()?;
            let drogue = Drogue::on_kafka(servers, &topics)?;
            let options = command::Options::new(protocol, drogue.target(protocol), servers.seconds);
            let figures = outcomes::measure(&options, &drogue.fleet)?;
            figures.into_iter().for_each(|figure| self.report.add(DROGUE, figure));
        }
        Ok(())
    }

    fn handover(&mut self) -> anyhow::Result<()> {
        let topics = self.topics()?;
        let drogue = Drogue::on_kafka(&self.options.servers, &topics)?;
        let options = handover::Options { target: drogue.mqtt, devices: self.options.foreign.held };
        let figures = handover::measure(&options, &drogue.fleet)?;
        figures.into_iter().for_each(|figure| self.report.add(DROGUE, figure));
        Ok(())
    }

    fn waits(&mut self) -> anyhow::Result<()> {
        let (topics, directory) = (self.topics()?, self.options.servers.place.directory()?);
        let figures = run(async {
            let channels = KafkaChannels::open(topics.settings(), Clock::system()).await?;
            let channels = Arc::new(channels);
            let options = waits::Options::default();
            waits::read_by_each(&options, channels.clone(), channels, directory.path()).await
        })?;
        figures.into_iter().for_each(|figure| self.report.add(DROGUE, figure));
        Ok(())
    }

    fn sink(&mut self) -> anyhow::Result<()> {
        let (bare, topics) = (self.topics()?, self.topics()?);
        let (floor, figure) = sink::measure(&bare, &topics, self.options.servers.seconds)?;
        let figure = figure.with_rate_of(&floor);
        self.report.add(BARE, floor);
        self.report.add("adapter for Kafka", figure);
        Ok(())
    }

    fn telemetry(&mut self) -> anyhow::Result<()> {
        let servers = &self.options.servers;
        for protocol in [Protocol::Mqtt, Protocol::Http] {
            let floor = send(protocol, &Drogue::discarding(servers)?, servers.seconds)?;
            let topics = self.topics()?;
            let drogue = Drogue::on_kafka(servers, &topics)?;
            let figure = send(protocol, &drogue, servers.seconds)?.with_rate_of(&floor);
            // A rate of acknowledgements is a rate of durable events only if the topic has them all.
            let kept = topics.ensure_kept(Channel::Telemetry, figure.accepted_in_all.unwrap_or(0))?;
            self.report.add(DISCARDING, floor);
            self.report.add(DROGUE, figure.with_more_behind(&kept));
        }
        Ok(())
    }

    fn foreign(&mut self) -> anyhow::Result<()> {
        let (floor, figure) = foreign::measure(&self.options.foreign, &self.topics()?)?;
        let figure = figure.with_rate_of(&floor);
        self.report.add(BARE, floor);
        self.report.add("replica on Kafka", figure);
        Ok(())
    }
}

/// Measures telemetry, and notes what each event takes of the server's time on a processor.
fn send(protocol: Protocol, drogue: &Drogue, seconds: f64) -> anyhow::Result<Figure> {
    let options = telemetry::Options::new(protocol, drogue.target(protocol), seconds);
    let before = processor_time(drogue.server.pid())?;
    let figure = telemetry::measure(&options, &drogue.fleet)?;
    let spent: Duration = processor_time(drogue.server.pid())? - before;
    let each = spent.as_secs_f64() * 1e6 / figure.accepted_in_all.unwrap_or(0).max(1) as f64;
    Ok(figure.with_more_behind(&format!("{each:.2} µs of the server's processor time each")))
}
