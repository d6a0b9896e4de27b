//! Commands for devices that are connected elsewhere: how many a second a replica reads from Kafka on one core.
//!
//! A real [`DeviceService`] holds connections and reads a topic of commands of which none is for them, by the adapter.
//! Two things differ from a replica at work: it begins at the earliest command instead of the latest, so that they can
//! all be there before, and a counter stands before its handler. The process is kept on one core meanwhile, with all
//! threads of the client library; the brokers are wherever they are.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use common::channel::Channel;
use common::kafka::KafkaChannels;
use common::service::{Clock, DeviceService, Limits};
use common::testing::{MemorySentCommands, StaticAuthenticator};
use rdkafka::Message;
use rdkafka::error::KafkaError;

use super::record::{self, Bare};
use super::{Topics, bare};
use crate::discard::Discard;
use crate::drive::run;
use crate::dropped;
use crate::pace::now;
use crate::pinned::Pinned;
use crate::progress;
use crate::reading::{Count, Counted, FromEarliest};
use crate::report::Figure;

/// Devices that the commands are for.
const DEVICES: usize = 200_000;

/// More than a producer sends at once.
const WINDOW: u64 = 50_000;

/// How long a record may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many commands are read.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How many commands for other devices are written and then read; each takes about 500 bytes of the broker's disk.
    #[arg(long, default_value_t = 2_000_000)]
    pub(crate) commands: usize,

    /// How many devices hold a connection to the replica.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) held: usize,

    /// The core that reads. The brokers should be kept on others.
    #[arg(long, default_value_t = 0)]
    pub(crate) core: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { commands: 2_000_000, held: 10_000, core: 0 }
    }
}

/// Measures a bare consumer that looks at the keys of commands, and then a replica that drops the same.
///
/// # Errors
/// Fails if the brokers do, or the process cannot be kept on one core.
pub(crate) fn measure(options: &Options, topics: &Topics) -> anyhow::Result<(Figure, Figure)> {
    topics.make()?;
    write(options.commands, topics)?;
    let pinned = Pinned::to(options.core)?;
    let progress = progress::running("commands that are for elsewhere");
    let bare = poll(options.commands, topics)?;
    let ours = run(consume(options, topics))?;
    progress.finish_and_clear();
    drop(pinned);
    let what = format!("commands for elsewhere, on core {}", options.core);
    let note = format!("{} connections here", options.held);
    Ok((figure(bare, &what), figure(ours, &what).with_more_behind(&note)))
}

fn write(count: usize, topics: &Topics) -> anyhow::Result<()> {
    let clock = Clock::system();
    let progress = progress::count("writing commands", count);
    let mut producer = bare::Producer::new(topics, Channel::Commands, WINDOW)?;
    for number in 0..count {
        let device = format!("elsewhere-{}", number % DEVICES);
        let event = record::command(&device, "{\"temperature\":21.5,\"mode\":\"auto\"}".to_owned(), &clock)?;
        producer.send(&Bare::of(&event))?;
        if number % 1_000 == 0 {
            progress.inc(1_000);
        }
    }
    let sent = producer.finish()?;
    progress.finish_and_clear();
    topics.ensure_kept(Channel::Commands, sent)?;
    Ok(())
}

/// Makes a figure of what was counted.
fn figure(counted: Counted, what: &str) -> Figure {
    let rate = counted.records as f64 / counted.time.as_secs_f64();
    let share = counted.processor_time.as_secs_f64() / counted.time.as_secs_f64();
    let each = counted.each().as_nanos();
    let note = format!("{each} ns of processor time each, {:.0} % of the core", share * 100.0);
    Figure::new(what, rate, "1/s").with_note(note)
}

/// Reads with a bare consumer.
fn poll(records: usize, topics: &Topics) -> anyhow::Result<Counted> {
    let consumer = bare::consumer(topics, Channel::Commands)?;
    let (mut count, mut silent) = (Count::new(records), now());
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                black_box(message.key());
                if let ControlFlow::Break(counted) = count.one()? {
                    return Ok(counted);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error.into()),
            None => {
                ensure!(now() - silent < PATIENCE, "{} of {records} records came", count.seen);
                continue;
            }
        }
        if count.seen.is_multiple_of(1_000) {
            silent = now();
        }
    }
}

/// Reads as a replica.
async fn consume(options: &Options, topics: &Topics) -> anyhow::Result<Counted> {
    let channels = KafkaChannels::open(topics.settings(), Clock::system()).await?;
    let (source, reading) = FromEarliest::new(Arc::new(channels), options.commands);
    let (authenticator, clock) = (Arc::new(StaticAuthenticator::new()), Clock::system());
    let limits = Limits::default();
    let sent = Arc::new(MemorySentCommands::new());
    let service =
        DeviceService::start(Arc::new(Discard), &source, authenticator.clone(), sent, limits, clock);
    let service = service.await?;
    let held = dropped::hold(&service, &authenticator, options.held).await?;
    // Nothing else runs on this thread.
    let counted = reading.finish()?;
    drop(held);
    Ok(counted)
}
