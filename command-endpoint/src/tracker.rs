//! The tracker: it follows every command to its outcome, and gives those that are kept to their devices.
//!
//! The way of a record: `feed` reads `commands` and `outcomes` and hands each record to the tracker of its partition
//! ([`PartitionTracker`], a state machine without I/O), whose `seat` all know; its `work` feeds it, and does what it wants
//! done: `publish` says what it says, `clerk` asks the ledger. `leases` decides of which partitions this replica has charge: for the others its
//! trackers know the same and do nothing. `watch` wakes the requests that wait for an outcome.
//!
//! Invariants: of each partition one replica has charge; what a tracker knows it has read; whatever is written is fenced by
//! the epoch of its lease, in the ledger and in the log.

mod clerk;
mod feed;
mod leases;
mod mark;
mod publish;
mod seat;
#[cfg(test)]
mod tests;
mod watch;
mod work;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::channel::{Channel, EventSink, EventSource, Partition, Place, SourceError, Start, Subscription};
use common::id::{DeviceKey, EventId};
use common::ledger::{Ledger, LedgerError, Loaded};
use common::registry::Registry;
use common::service::{Clock, Shutdown, new_event_id};
use common::startup::Services;
use common::tracker::{PartitionTracker, Reach, Row, Settings, Snapshot};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use feed::{Feed, Item};
use mark::Mark;
use seat::Seat;
use watch::Watches;
pub(crate) use watch::{Progress, Watch};
use work::Work;

/// So many records may wait for the tracker of a partition.
const QUEUE: usize = 1024;
const CHANNELS: [Channel; 2] = [Channel::Commands, Channel::Outcomes];

/// Says why the trackers cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TrackerError {
    /// The channels cannot be followed.
    #[error("the trackers cannot follow the channels: {0}")]
    Source(#[from] SourceError),
    /// The ledger cannot be read.
    #[error("the trackers cannot start: {0}")]
    Ledger(#[from] LedgerError),
    /// One of the trackers has ended.
    #[error("a tracker has ended before its time")]
    Ended,
}

/// What the trackers go by.
#[derive(Debug, Clone)]
pub struct TrackerSettings {
    /// What each goes by.
    pub settings: Settings,
    /// How long a command lives that says nothing about it.
    pub lifetime: Duration,
    /// How long a command that is settled can be asked for.
    pub history: Duration,
}

/// What is known of commands and connections. Clones share one state.
#[derive(Clone)]
pub struct Tracker {
    shared: Arc<Shared>,
}

/// What the parts of the trackers share.
struct Shared {
    sink: Arc<dyn EventSink>,
    ledger: Ledger,
    clock: Clock,
    settings: Settings,
    history: Duration,
    /// Names this replica in the ledger.
    replica: String,
    mark: Mark,
    /// One for each partition, in their order.
    seats: Vec<Seat>,
    watches: Watches,
    /// Kept as long as the trackers work.
    subscription: Mutex<Option<Subscription>>,
}

impl Shared {
    fn seat(&self, partition: Partition) -> &Seat {
        let last = self.seats.len() - 1;
        &self.seats[usize::try_from(partition.0).unwrap_or(last).min(last)]
    }

    fn seat_of(&self, device: &DeviceKey) -> &Seat {
        self.seat(self.sink.partition_of(device))
    }

    fn is_caught_up(&self) -> bool {
        self.seats.iter().all(Seat::is_caught_up)
    }
}

/// The work of the trackers, which somebody must run.
pub struct Tracking {
    shared: Arc<Shared>,
    items: Vec<mpsc::Receiver<Item>>,
}

impl Tracker {
    /// Starts to follow the channels, from where the ledger says that they were followed to.
    ///
    /// # Errors
    /// Fails if the ledger cannot be read, or the channels cannot be followed.
    pub async fn start(
        sink: Arc<dyn EventSink>,
        source: &dyn EventSource,
        registry: &Registry,
        settings: TrackerSettings,
        clock: Clock,
    ) -> Result<(Self, Tracking), TrackerError> {
        let (ledger, TrackerSettings { settings, lifetime, history }) = (Ledger::of(registry), settings);
        let partitions: Vec<_> = (0..sink.partitions().max(1)).map(Partition).collect();
        let mut loaded = Vec::with_capacity(partitions.len());
        for partition in &partitions {
            loaded.push(ledger.load(*partition).await?);
        }
        let (trackers, items): (Vec<_>, Vec<_>) = partitions.iter().map(|_| mpsc::channel(QUEUE)).unzip();
        let feed = || Box::new(Feed { trackers: trackers.clone(), lifetime });
        let start = Start::After(source.cursor_behind(&places(&loaded))?);
        let (subscription, lost) = match source.subscribe(&CHANNELS, start, feed()).await {
            Err(SourceError::Gone | SourceError::InvalidCursor) => {
                tracing::warn!("the channels do not reach back to what the trackers know: begins anew");
                (source.subscribe(&CHANNELS, Start::Earliest, feed()).await?, true)
            }
            subscribed => (subscribed?, false),
        };
        let seat = |(partition, loaded)| Seat::new(partition, restored(&settings, loaded, lost, &clock));
        let seats = partitions.into_iter().zip(loaded).map(seat).collect();
        let replica = new_event_id(clock.wall());
        let shared = Arc::new(Shared {
            sink,
            ledger,
            settings,
            history,
            mark: Mark::of(&replica),
            replica: replica.to_string(),
            clock,
            seats,
            watches: Watches::default(),
            subscription: Mutex::new(Some(subscription)),
        });
        Ok((Self { shared: shared.clone() }, Tracking { shared, items }))
    }

    /// Tells whether all that was in the channels at the start was read, and what is accepted now is followed.
    pub fn is_live(&self) -> bool {
        let subscription = self.shared.subscription.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.is_caught_up() && subscription.as_ref().is_some_and(Subscription::is_live)
    }

    /// Begins to watch a command: nothing that is read from now on is missed.
    pub(crate) fn watch(&self, command: EventId) -> Watch {
        self.shared.watches.begin(command)
    }

    /// Returns what is known of a command that is not written into the ledger yet.
    pub(crate) fn command(&self, device: &DeviceKey, id: &EventId) -> Option<Row> {
        self.shared.seat_of(device).tracker().command(id).filter(|row| row.device == *device)
    }

    /// Says how a device can be reached.
    pub(crate) fn reach(&self, device: &DeviceKey) -> Option<Reach> {
        self.shared.seat_of(device).tracker().reach(device, self.shared.clock.wall())
    }

    /// Returns the ledger.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }
}

impl Tracking {
    /// Works as a part of a process, which is ready only while it is live.
    pub fn serve_in(self, services: &mut Services, shutdown: Shutdown) {
        let watched = Tracker { shared: self.shared.clone() };
        services.require("tracker", move || watched.is_live());
        services.spawn("tracker", self.run(shutdown));
    }

    /// Works until the shutdown.
    ///
    /// # Errors
    /// Fails if one of the trackers ends before: the channels can be followed no more.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), TrackerError> {
        let Self { shared, items } = self;
        let mut work = JoinSet::new();
        for (at, items) in items.into_iter().enumerate() {
            work.spawn(Work::new(&shared, at, items).run(shutdown.clone()));
        }
        let mut marks = JoinSet::new();
        marks.spawn(write_marks(shared.clone(), shutdown.clone()));
        let ended = tokio::select! {
            () = leases::keep(shared.clone(), shutdown.clone()) => Ok(()),
            // Others take over then.
            _ = work.join_next() => if shutdown.is_cancelled() { Ok(()) } else { Err(TrackerError::Ended) },
        };
        if ended.is_err() {
            work.abort_all();
        }
        while work.join_next().await.is_some() {}
        leases::leave(&shared).await;
        drop(shared.subscription.lock().unwrap_or_else(PoisonError::into_inner).take());
        ended
    }
}

/// Writes a mark at the end of each partition, until the channels have taken them all.
async fn write_marks(shared: Arc<Shared>, shutdown: Shutdown) {
    for seat in &shared.seats {
        for channel in CHANNELS {
            let mark = || mark::write(&*shared.sink, &shared.clock, &shared.mark, channel, seat.partition);
            while let Some(Err(error)) = shutdown.run_until_cancelled(mark()).await {
                tracing::debug!(%error, "a mark was not taken, writing it again");
                let pause = tokio::time::sleep(Duration::from_millis(500));
                if shutdown.run_until_cancelled(pause).await.is_none() {
                    return;
                }
            }
        }
    }
}

/// Returns up to where each partition of each channel was followed.
fn places(loaded: &[Loaded]) -> Vec<(Channel, Vec<Option<Place>>)> {
    let places =
        || loaded.iter().map(|loaded| loaded.saved.as_ref().map(|saved| saved.places).unwrap_or_default());
    vec![
        (Channel::Commands, places().map(|places| places.commands).collect()),
        (Channel::Outcomes, places().map(|places| places.outcomes).collect()),
    ]
}

/// Makes the tracker of a partition of what the ledger has. `lost`: records behind that are gone.
fn restored(settings: &Settings, loaded: Loaded, lost: bool, clock: &Clock) -> PartitionTracker {
    let snapshot = loaded.saved.and_then(|saved| {
        let read = postcard::from_bytes::<Snapshot>(&saved.bytes);
        read.inspect_err(|error| tracing::warn!(%error, "what a tracker knew cannot be read")).ok()
    });
    match snapshot {
        None => PartitionTracker::new(settings.clone(), !lost),
        Some(snapshot) => {
            let snapshot = if lost { snapshot.forgotten() } else { snapshot };
            PartitionTracker::restore(settings.clone(), snapshot, loaded.rows, clock.now())
        }
    }
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker").field("partitions", &self.shared.seats.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tracking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracking").finish_non_exhaustive()
    }
}
