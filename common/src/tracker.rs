//! The tracker of one partition: what becomes of every command, and who gets those that are kept.
//!
//! A state machine without I/O. It is fed with the records of `commands` and `outcomes` of one partition, its own included,
//! and with time. Every replica of the command endpoint runs it for all partitions; the one that holds the lease of a
//! partition acts, and only there [effects](Effect) come out. The others are ready to act at any record.
//!
//! The way of a command: the record is read, the [`DeviceOrder`](crate::order::DeviceOrder) says who owns it, the outcome is
//! read, the row is written and the command is forgotten. One that is kept waits in its device's queue instead, until the
//! ledger, by compare and set, has given it to the tracker; then a `handover` is published, and owns once it is read.
//!
//! Invariants: a decision is made from what was read from the logs and from compare and set in the ledger, never from what was
//! merely published; whoever reads the same records decides the same. A command that waits again is not handed over
//! before its `pending` outcome was read: whatever its last owner had reported lies before that. Of one device's kept
//! commands none overtakes another.

mod acting;
mod changes;
mod commands;
mod connections;
mod device;
mod effect;
mod entry;
mod queue;
mod reach;
mod replicas;
mod row;
mod snapshot;

pub use effect::Effect;
pub use reach::{Reach, Way};
pub use row::{Change, Content, Places, Row, Step, doubt};
pub use snapshot::Snapshot;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::channel::Place;
use crate::id::{DeviceKey, EventId};
use crate::outcome::Transition;
use crate::records::OrderRecord;
use crate::time::Timestamp;
use device::Device;
use entry::Entry;

/// What a tracker goes by. The same on all replicas.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A replica that was silent for so long is dead.
    pub lapse_after: Duration,
    /// A command whose owner says nothing is given up so long after it lapsed, or, if it is kept, so long after its owner's
    /// connection ended.
    pub settle_after: Duration,
    /// A plain command gets a row if it is not settled by then.
    pub row_after: Duration,
    /// A command that the ledger has and the log has not is published again so long after it was accepted.
    pub unseen_after: Duration,
    /// How long the first pause between two attempts is; each next is twice as long.
    pub retry_first: Duration,
    /// The longest pause between two attempts.
    pub retry_longest: Duration,
    /// So many commands may wait for a device. One more that the ledger has not accepted overflows.
    pub max_pending: usize,
    /// So many commands are handed over at once.
    pub batch_commands: usize,
    /// So many bytes of payload are handed over at once, but one command at least. In the record they are a third longer,
    /// and no channel need take one of more than 1 MiB for them.
    pub batch_bytes: usize,
    /// The incarnation of the only replica, if there is but one: when it begins to act, all others have lapsed.
    pub sole: Option<EventId>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lapse_after: Duration::from_secs(5),
            settle_after: Duration::from_secs(60),
            row_after: Duration::from_secs(1),
            unseen_after: Duration::from_secs(20),
            retry_first: Duration::from_secs(1),
            retry_longest: Duration::from_secs(60),
            max_pending: 50,
            batch_commands: 50,
            batch_bytes: 700 * 1024,
            sole: None,
        }
    }
}

/// A record of connections as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The id of its event.
    pub id: EventId,
    /// Whose record it is.
    pub device: DeviceKey,
    /// Its place in `commands`.
    pub place: Place,
    /// When it was written.
    pub time: Timestamp,
    /// The record.
    pub record: OrderRecord,
}

/// A replica of a device endpoint.
#[derive(Debug)]
struct Replica {
    /// When a record of it was read.
    heard: Instant,
    /// The highest epoch for which it has repeated its records.
    announced: u64,
    /// It was called dead, and that is not read yet.
    lapsing: bool,
}

/// An outcome of a command that is yet to be read, or that is followed no more.
#[derive(Debug)]
struct Early {
    outcome: Transition,
    place: Place,
    /// The place of the record before.
    behind: Option<Place>,
    arrived: Instant,
    /// It was passed on as one that came late.
    is_late: bool,
}

/// An announcement that is not read back yet: once it is, all that was written before it was sent is read.
#[derive(Debug)]
struct Probe {
    sent: Instant,
}

#[derive(Debug)]
struct Announced {
    epoch: u64,
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Role {
    Standby,
    /// Its announcement is not read back yet.
    Announced(Announced),
    Acting(u64),
}

/// The tracker of one partition.
///
/// A shell feeds it, and takes [effects](Self::poll_effect) after each call. Its calls of the ledger come one after another:
/// first what [changes](Self::changes) says, then what effects ask.
#[derive(Debug)]
pub struct PartitionTracker {
    settings: Settings,
    role: Role,
    effects: VecDeque<Effect>,
    places: Places,
    /// The place of the first record of `commands` that was read.
    first: Option<Place>,
    highest_epoch: u64,
    complete: bool,
    /// Since when replicas are asked to repeat their records.
    asked_at: Option<Instant>,
    probe: Option<Probe>,
    probed: Option<Instant>,
    swept: Option<Instant>,
    devices: HashMap<DeviceKey, Device>,
    commands: HashMap<EventId, Entry>,
    replicas: HashMap<EventId, Replica>,
    early: HashMap<EventId, Vec<Early>>,
    /// Outcomes of commands that are followed no more, until they are written.
    late: Vec<(Place, Transition)>,
    writing_late: Vec<(Place, Transition)>,
    dirty: Vec<EventId>,
    writing: Vec<(EventId, Option<u32>)>,
    /// When a plain command gets a row.
    unwritten: VecDeque<(Instant, EventId)>,
    expiries: BTreeSet<(Timestamp, EventId)>,
    retries: BTreeMap<Instant, Vec<DeviceKey>>,
    /// Rows of which the log has no command, as far as it was read when they were found.
    unseen: HashMap<EventId, (Row, Instant)>,
}

impl PartitionTracker {
    /// Makes a tracker that knows nothing. `from_beginning`: the records that it will read are all that there ever were.
    /// Otherwise it will ask the replicas to repeat theirs, and call nobody away before they have.
    pub fn new(settings: Settings, from_beginning: bool) -> Self {
        Self {
            settings,
            role: Role::Standby,
            effects: VecDeque::new(),
            places: Places::default(),
            first: None,
            highest_epoch: 0,
            complete: from_beginning,
            asked_at: None,
            probe: None,
            probed: None,
            swept: None,
            devices: HashMap::new(),
            commands: HashMap::new(),
            replicas: HashMap::new(),
            early: HashMap::new(),
            late: Vec::new(),
            writing_late: Vec::new(),
            dirty: Vec::new(),
            writing: Vec::new(),
            unwritten: VecDeque::new(),
            expiries: BTreeSet::new(),
            retries: BTreeMap::new(),
            unseen: HashMap::new(),
        }
    }

    /// Takes the next effect.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns a command that is not settled, or whose end is not written yet; of any other the ledger knows.
    pub fn command(&self, id: &EventId) -> Option<Row> {
        self.commands.get(id).map(|entry| entry.row(id))
    }

    /// Says how a device can be reached. `None`: it was never seen, or not for long, or that is not known yet.
    pub fn reach(&self, device: &DeviceKey, now: Timestamp) -> Option<Reach> {
        self.devices.get(device).map(|device| device.reach(now))
    }

    /// Tells whether it knows all connections.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns the highest epoch that was read: only with a higher one can it take charge.
    pub fn highest_epoch(&self) -> u64 {
        self.highest_epoch
    }

    /// Returns up to where the logs were read.
    pub fn places(&self) -> Places {
        self.places
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
