//! What the ledger takes and gives.

use std::time::Duration;

use bytes::Bytes;

use crate::channel::Partition;
use crate::command::Command;
use crate::time::Timestamp;
use crate::tracker::{Change, Places, Row};

/// How long an idempotency key is kept.
pub const KEY_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest key by which commands are compared, in bytes.
pub const MAX_KEY_LEN: usize = 255;

/// A command that is to have its row before it is published.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// The command, with a new id.
    pub command: Command,
    /// When it is accepted: now.
    pub accepted: Timestamp,
    /// What tells whether it was submitted before.
    pub idempotency: Option<Idempotency>,
    /// Waiting commands of the device with the same key are superseded: 1 to [`MAX_KEY_LEN`] printable characters.
    pub supersede: Option<String>,
    /// The most kept commands of the device that may be under way, this one included.
    pub max_pending: u32,
}

/// What tells whether a command was submitted before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The device's key: 1 to [`MAX_KEY_LEN`] printable characters. It is kept for [`KEY_LIFETIME`].
    pub key: String,
    /// A text that is the same for the same request, as a digest.
    pub fingerprint: String,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq)]
pub enum Submitted {
    /// It has its row and is to be published now.
    New {
        /// What it superseded, whose transitions are to be published also. Without content.
        superseded: Vec<Row>,
    },
    /// The same request was submitted before: its command, without content.
    Same(Row),
    /// Another request was submitted with the idempotency key.
    Conflict,
    /// The device has as many kept commands under way as it may have.
    Full,
}

/// What became of a wish to cancel a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Cancel {
    /// It is cancelled, and its transition is to be published. Without content.
    Done(Row),
    /// It does not wait, or is being given to a connection. Without content.
    NotPending(Row),
    /// The device has no such command, as far as the ledger knows.
    Unknown,
}

/// The right to track a partition. Whoever has a lower epoch than the last that was given has it no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The partition.
    pub partition: Partition,
    /// Higher than that of every tracker before.
    pub epoch: u64,
}

/// What a tracker that lives still has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// The leases that are still its own.
    pub held: Vec<Lease>,
    /// How many trackers live, this one included.
    pub trackers: u32,
}

/// What a tracker remembers of a partition, in its own form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The form.
    pub bytes: Bytes,
    /// Up to where it had read.
    pub places: Places,
}

/// What a tracker writes at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// What is to be changed, in this order. Of several writes of one command the last counts.
    pub changes: Vec<Change>,
    /// What the tracker remembers; `None` leaves what there is.
    pub saved: Option<Saved>,
    /// Now.
    pub now: Timestamp,
}

/// What the ledger has of a partition.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loaded {
    /// What its tracker remembered.
    pub saved: Option<Saved>,
    /// The commands that are not settled, or of whose end no tracker has read, in their order in the log. Without content.
    pub rows: Vec<Row>,
}
