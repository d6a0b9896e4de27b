//! What a tracker wants done.

use crate::command::Command;
use crate::id::{DeviceKey, EventId};
use crate::outcome::Transition;
use crate::records::OrderRecord;
use crate::time::Timestamp;

/// What is to be done. Effects come only from a tracker that acts, in the order in which they are to be begun.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Publish an outcome, again and again until it is acknowledged, also when this tracker acts no longer.
    Tell(Box<Transition>),
    /// Publish a record under a device's key, or of the partition where that is [`DeviceKey::all`]. Once: if it is not known
    /// to be in the log, stop acting and begin with a new epoch, which makes a late copy void.
    Record {
        /// Whose record it is.
        device: DeviceKey,
        /// The record.
        record: OrderRecord,
    },
    /// Publish a command again, under the same id: its row is there, but the log does not have it.
    Submit {
        /// The command.
        command: Box<Command>,
        /// When it was accepted.
        accepted: Timestamp,
    },
    /// Ask the ledger for commands that are kept: each row that is not settled, and not handed, is then handed for the
    /// attempt named here. Answer by [`PartitionTracker::handle_rows`](super::PartitionTracker::handle_rows) with the rows of
    /// all of them, contents included, as they are then. Asked again, as after a failure, it changes nothing.
    ///
    /// Write all [changes](super::PartitionTracker::changes) before.
    HandOver(Vec<(EventId, u32)>),
    /// Ask the ledger to end commands: each row that is not settled, and not handed, becomes expired, or undelivered where
    /// there is a [doubt](super::doubt). Answer as above; contents are not needed.
    Expire(Vec<EventId>),
    /// Ask the ledger for rows as they are, without contents. Answer as above. Unlike above, do not write the changes before:
    /// no row at all is an answer.
    Look(Vec<EventId>),
}
