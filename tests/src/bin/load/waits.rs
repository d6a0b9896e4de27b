//! Waits that begin elsewhere: what the records of connections cost a replica that holds other devices.
//!
//! Each wait has two records, one when it begins and one when it ends. They are in the log before, and read by a reader
//! that looks at each key and does no more, by a device endpoint that holds other devices, and by a tracker, which follows
//! all devices. Three things differ from replicas at work: they begin at the earliest record, there is always a next one,
//! and the tracker does not act, so that it saves nothing.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use command_endpoint::Tracker;
use common::channel::{Channel, EventSink, EventSource, Flow, Record, RecordHandler, SourceError, Start};
use common::embedded::{EmbeddedLog, LogSettings};
use common::id::{AppId, ConnectionId, ConnectionRef, DeviceKey, EventId};
use common::records::{Connected, Disconnected, OrderRecord, Takes};
use common::registry::sqlite_url;
use common::service::{Clock, DeviceService, Limits, Shutdown, new_event_id};
use common::sessions::SessionId;
use common::startup::{self, RegistryOptions};
use common::testing::{MemorySentCommands, StaticAuthenticator};
use futures_util::StreamExt;
use futures_util::stream;

use crate::discard::Discard;
use crate::drive::run;
use crate::dropped;
use crate::fleet::APPLICATION;
use crate::progress;
use crate::reading::{Counted, FromEarliest, Reading};
use crate::report::Figure;

/// Records that are written at the same time.
const WINDOW: usize = 5_000;

/// The waits a second that the cost is stated for.
const RATE: f64 = 10_000.0;

/// How many waits are read, and by whom.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How many waits begin and end; each takes about 1 KB of disk.
    #[arg(long, default_value_t = 200_000)]
    pub(crate) waits: usize,

    /// How many devices take turns in waiting.
    #[arg(long, default_value_t = 50_000)]
    pub(crate) devices: usize,

    /// How many other devices hold a connection to the device endpoint that reads.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) held: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { waits: 200_000, devices: 50_000, held: 10_000 }
    }
}

/// Where the log is, if it is of this process alone.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Disk {
    /// Where the log is made, in a directory that is deleted afterwards. It should be on a real disk.
    #[arg(long, default_value = ".")]
    pub(crate) disk: PathBuf,
}

/// Measures over the embedded log.
///
/// # Errors
/// Fails if the log cannot be written, or the records do not come.
pub(crate) fn measure(options: &Options, disk: &Path) -> anyhow::Result<Vec<Figure>> {
    let directory = tempfile::Builder::new().prefix(".load-").tempdir_in(disk)?;
    run(async {
        let file = directory.path().join("log.sqlite");
        let log = Arc::new(EmbeddedLog::open(&file, LogSettings::default(), Clock::system())?);
        read_by_each(options, log.clone(), log, directory.path()).await
    })
}

/// Writes waits into a channel, lets each reader read them, and measures. The tracker's store is kept in `directory`.
///
/// # Errors
/// Fails if the channel does, or the records do not come.
pub(crate) async fn read_by_each(
    options: &Options,
    sink: Arc<dyn EventSink>,
    source: Arc<dyn EventSource>,
    directory: &Path,
) -> anyhow::Result<Vec<Figure>> {
    write(options, &*sink).await?;
    let records = 2 * options.waits;
    let progress = progress::running("reading waits");
    let reader = |name: &str, counted: Counted| figure(name, &counted);
    let (tap, reading) = FromEarliest::new(source.clone(), records);
    let keys = reader("a reader of keys", by_key(&tap, reading).await?);
    let (tap, reading) = FromEarliest::new(source.clone(), records);
    let device = by_device_endpoint(&tap, reading, options.held).await?;
    let device = reader("a device endpoint", device).with_more_behind(&format!("{} held", options.held));
    let (tap, reading) = FromEarliest::new(source, records);
    let tracker = reader("a tracker", by_tracker(sink, &tap, reading, directory).await?);
    progress.finish_and_clear();
    Ok(vec![keys, device, tracker.with_more_behind(&format!("{} devices", options.devices))])
}

fn figure(reader: &str, counted: &Counted) -> Figure {
    let (each, rate) = (counted.each(), counted.records as f64 / counted.time.as_secs_f64());
    let share = each.as_secs_f64() * 2.0 * RATE * 100.0;
    let note = format!("at {rate:.0} records/s; {RATE} waits/s take {share:.1} % of a core");
    let micros = each.as_secs_f64() * 1e6;
    Figure::new(format!("record of a wait elsewhere, {reader}"), micros, "µs of processor time")
        .with_note(note)
}

/// Writes the records of all waits, in the order in which a replica would.
async fn write(options: &Options, sink: &dyn EventSink) -> anyhow::Result<()> {
    let clock = Clock::system();
    let (incarnation, application) = (new_event_id(clock.wall()), APPLICATION.parse()?);
    let progress = progress::count("writing waits", options.waits);
    let events = (0..options.waits).flat_map(|number| {
        let device = format!("elsewhere-{}", number % options.devices);
        records(&application, &device, number as u64 + 1, &incarnation)
    });
    let mut written = stream::iter(events)
        .map(|record| {
            let now = clock.wall();
            let record = record.map(|(key, record)| record.into_event(new_event_id(now), key, now));
            async move { anyhow::Ok(sink.publish(Channel::Commands, record?).await?) }
        })
        .buffered(WINDOW);
    let mut count = 0_u64;
    while let Some(result) = written.next().await {
        result.context("the channel did not take a record")?;
        count += 1;
        progress.set_position(count / 2);
    }
    progress.finish_and_clear();
    Ok(())
}

/// Makes the two records of a wait.
fn records(
    application: &AppId,
    device: &str,
    number: u64,
    incarnation: &EventId,
) -> [anyhow::Result<(DeviceKey, OrderRecord)>; 2] {
    let id = ConnectionRef { incarnation: incarnation.clone(), connection: ConnectionId(number) };
    let connected = OrderRecord::Connected(Connected {
        id: id.clone(),
        session: SessionId(number),
        client: None,
        protocol: "http".to_owned(),
        takes: Takes::One,
        until: Some(Clock::system().wall().saturating_add(Duration::from_secs(30)).as_millis()),
        repeats: None,
    });
    [connected, OrderRecord::Disconnected(Disconnected { id })]
        .map(|record| Ok((DeviceKey::new(application, &device.parse()?), record)))
}

/// Reads as somebody who looks at each key.
async fn by_key(source: &dyn EventSource, reading: Reading) -> anyhow::Result<Counted> {
    struct Keys;
    impl RecordHandler for Keys {
        fn record(&mut self, record: &dyn Record) -> Flow {
            black_box(record.key());
            Flow::Continue
        }

        fn interrupted(&mut self, _error: &SourceError) -> Flow {
            Flow::Stop
        }
    }
    let subscription = source.subscribe(&[Channel::Commands], Start::Earliest, Box::new(Keys)).await?;
    let counted = reading.finish();
    drop(subscription);
    counted
}

/// Reads as a device endpoint that holds other devices.
async fn by_device_endpoint(
    source: &dyn EventSource,
    reading: Reading,
    held: usize,
) -> anyhow::Result<Counted> {
    let (authenticator, sent) = (Arc::new(StaticAuthenticator::new()), Arc::new(MemorySentCommands::new()));
    let (sink, limits, clock) = (Arc::new(Discard), Limits::default(), Clock::system());
    let service = DeviceService::start(sink, source, authenticator.clone(), sent, limits, clock).await?;
    let held = dropped::hold(&service, &authenticator, held).await?;
    let counted = reading.finish();
    drop(held);
    counted
}

/// Reads as a tracker.
async fn by_tracker(
    sink: Arc<dyn EventSink>,
    source: &dyn EventSource,
    reading: Reading,
    directory: &Path,
) -> anyhow::Result<Counted> {
    let (clock, shutdown) = (Clock::system(), Shutdown::new());
    let database_url = Some(sqlite_url(&directory.join("registry.sqlite")));
    let store = RegistryOptions { database_url, max_pending_logins: 1 };
    let registry = startup::open_registry(&store, None, clock.clone()).await?;
    let settings = command_endpoint::Config::default().tracker(&Limits::default(), None);
    let (tracker, tracking) = Tracker::start(sink, source, &registry, settings, clock).await?;
    let work = tokio::spawn(tracking.run(shutdown.clone()));
    // It works on this thread, which must not be blocked.
    let counted = tokio::task::spawn_blocking(|| reading.finish()).await?;
    shutdown.cancel();
    work.await??;
    drop(tracker);
    counted
}
