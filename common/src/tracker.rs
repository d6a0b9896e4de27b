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

mod effect;
mod reach;
mod row;
mod snapshot;

pub use effect::Effect;
pub use reach::{Reach, Way};
pub use row::{Change, Content, Places, Row, Step, doubt};
pub use snapshot::Snapshot;

use std::collections::VecDeque;
use std::time::Duration;

use crate::channel::Place;
use crate::command::Command;
use crate::connections::Now;
use crate::id::{DeviceKey, EventId};
use crate::outcome::Transition;
use crate::records::OrderRecord;
use crate::time::Timestamp;

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
    /// So many bytes of payload are handed over at once, but one command at least.
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
            batch_bytes: 768 * 1024,
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

/// The tracker of one partition.
///
/// A shell feeds it, and takes [effects](Self::poll_effect) after each call. Its calls of the ledger come one after another:
/// first what [changes](Self::changes) says, then what effects ask.
#[derive(Debug)]
pub struct PartitionTracker {
    settings: Settings,
    effects: VecDeque<Effect>,
}

impl PartitionTracker {
    /// Makes a tracker that knows nothing. `from_beginning`: the records that it will read are all that there ever were.
    /// Otherwise it will ask the replicas to repeat theirs, and call nobody away before they have.
    pub fn new(settings: Settings, from_beginning: bool) -> Self {
        let _ = from_beginning;
        Self { settings, effects: VecDeque::new() }
    }

    /// Makes a tracker of a snapshot and the rows that the ledger held with it (not settled, or not told; read in one
    /// transaction with it). It is to be fed with what lies behind [`Snapshot::places`].
    ///
    /// Where the logs no longer reach back to these: use [`Snapshot::forgotten`] instead, and feed from the earliest.
    pub fn restore(settings: Settings, snapshot: Snapshot, rows: Vec<Row>, now: Now) -> Self {
        drop((snapshot, rows, now));
        Self::new(settings, false)
    }

    /// Takes a command.
    pub fn handle_command(&mut self, command: Command, accepted: Timestamp, place: Place, now: Now) {
        drop((command, accepted, place, now));
    }

    /// Takes a record of connections.
    pub fn handle_record(&mut self, recorded: Recorded, now: Now) {
        drop((recorded, now));
    }

    /// Takes an outcome.
    pub fn handle_outcome(&mut self, outcome: Transition, place: Place, now: Now) {
        drop((outcome, place, now));
    }

    /// Takes charge of the partition, with the epoch of the lease and the rows (not settled, or not told, without contents)
    /// that were loaded after it was acquired. It acts once its announcement is read back.
    pub fn begin_acting(&mut self, epoch: u64, rows: Vec<Row>, now: Now) {
        drop((epoch, rows, now));
    }

    /// Gives the charge up. Effects that were not taken are dropped; so are the answers to those that ask.
    pub fn stop_acting(&mut self) {
        self.effects.clear();
    }

    /// Returns the epoch with which it has charge. It loses it by itself when it reads of a higher one.
    pub fn epoch(&self) -> Option<u64> {
        None
    }

    /// Takes the ledger's answer to an [`Effect`] that asks about `ids`. Those without a row have none among `rows`.
    pub fn handle_rows(&mut self, ids: &[EventId], rows: Vec<Row>, now: Now) {
        let _ = ids;
        drop((rows, now));
    }

    /// Takes rows, with contents, that no tracker has seen and that were accepted at least [`Settings::unseen_after`] ago.
    /// Asked for every few seconds by the shell of a tracker that acts; no write may lie between the asking and this.
    pub fn handle_unseen(&mut self, rows: Vec<Row>, now: Now) {
        drop((rows, now));
    }

    /// Returns what is to be written into the ledger, in one transaction, and is not under way there. Answer by
    /// [`handle_written`](Self::handle_written), before anything else is asked of it.
    pub fn changes(&mut self) -> Vec<Change> {
        Vec::new()
    }

    /// Returns a snapshot, to be written in one transaction with the changes, which are more than those of
    /// [`changes`](Self::changes). Answer alike. At most one of both is under way.
    pub fn checkpoint(&mut self, now: Now) -> (Snapshot, Vec<Change>) {
        let _ = now;
        (Snapshot::default(), Vec::new())
    }

    /// Takes the news that the last changes were written, or that they were not.
    pub fn handle_written(&mut self, written: bool) {
        let _ = written;
    }

    /// Takes the [`Snapshot::places`] that the ledger has, on a replica that does not act: what was settled up to there is
    /// forgotten. Asked for every few seconds.
    pub fn handle_saved(&mut self, places: Places) {
        let _ = places;
    }

    /// Returns how long it takes until [`handle_timeout`](Self::handle_timeout) is due.
    pub fn next_timeout(&self, now: Now) -> Option<Duration> {
        let _ = now;
        None
    }

    /// Does what is due by time. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        let _ = now;
    }

    /// Takes the next effect.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns a command that is not settled, or whose end is not written yet; of any other the ledger knows.
    pub fn command(&self, id: &EventId) -> Option<Row> {
        let _ = id;
        None
    }

    /// Says how a device can be reached. `None`: it was never seen, or not for long, or that is not known yet.
    pub fn reach(&self, device: &DeviceKey, now: Timestamp) -> Option<Reach> {
        let _ = (device, now, &self.settings);
        None
    }

    /// Tells whether it knows all connections.
    pub fn is_complete(&self) -> bool {
        false
    }
}
