//! What the ledger takes and gives.

use std::time::Duration;

use bytes::Bytes;

use crate::channel::{Partition, Place};
use crate::command::Command;
use crate::id::{CommandName, DeviceKey, EventId};
use crate::outcome::{Reason, State, Transition};
use crate::time::Timestamp;

/// How long an idempotency key is kept.
pub const KEY_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest key by which commands are compared, in bytes.
pub const MAX_KEY_LEN: usize = 255;

/// What is known of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRow {
    /// Identifies the command.
    pub id: EventId,
    /// The device that it is for.
    pub device: DeviceKey,
    /// What it asks for.
    pub name: CommandName,
    /// Where it lies in its partition; `None` where the tracker has not read it there.
    pub place: Option<Place>,
    /// What became of it.
    pub state: State,
    /// Why, of what is undelivered or pending again.
    pub reason: Option<Reason>,
    /// While its device is away it is kept for it.
    pub kept: bool,
    /// It is pending for others, but is being given to a connection.
    pub handed: bool,
    /// How often it was given to a connection.
    pub attempt: u32,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// From this time on it is not delivered.
    pub expires: Timestamp,
    /// Its states, the first of which is [`State::Accepted`].
    pub history: Vec<Step>,
    /// Its W3C trace context.
    pub traceparent: Option<String>,
    /// The content type of the payload.
    pub content_type: String,
    /// The payload: `None` once the command is settled, and in rows that are read without it.
    pub payload: Option<Bytes>,
}

/// A state that a command came into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The state.
    pub state: State,
    /// When.
    pub time: Timestamp,
    /// Why, of what is undelivered or pending again.
    pub reason: Option<Reason>,
    /// The attempt that its event names: of what waits, the next one.
    pub attempt: u32,
}

/// A command that is to have its row before it is published.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// The command, with a new id.
    pub command: Command,
    /// When it is accepted: now.
    pub accepted: Timestamp,
    /// Its W3C trace context.
    pub traceparent: Option<String>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It has its row and is to be published now.
    New {
        /// What it superseded, whose transitions are to be published also. Without payload.
        superseded: Vec<CommandRow>,
    },
    /// The same request was submitted before: its command, without payload.
    Same(CommandRow),
    /// Another request was submitted with the idempotency key.
    Conflict,
    /// The device has as many kept commands under way as it may have.
    Full,
}

/// What became of a wish to cancel a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancel {
    /// It is cancelled, and its transition is to be published. Without payload.
    Done(CommandRow),
    /// It does not wait, or is being given to a connection. Without payload.
    NotPending(CommandRow),
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

/// Up to where a partition was read, the record at each place included; `None` where nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Places {
    /// In the channel `commands`.
    pub commands: Option<Place>,
    /// In the channel `outcomes`.
    pub outcomes: Option<Place>,
}

/// What a tracker remembers of a partition, in its own form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The form.
    pub bytes: Bytes,
    /// Up to where it had read.
    pub places: Places,
}

/// What a tracker writes at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Rows as they are to be. Of several with one id the last counts. Of a row that is there, what its command's event
    /// says stays; so does the payload, until it is settled, where none is given here; and whether it is handed over is
    /// changed by [`Ledger::hand_over`] and [`Ledger::take_back`] alone, until it is settled.
    ///
    /// [`Ledger::hand_over`]: super::Ledger::hand_over
    /// [`Ledger::take_back`]: super::Ledger::take_back
    pub rows: Vec<CommandRow>,
    /// Up to where the rows have what the log says; `None` leaves that as it was.
    pub applied: Places,
    /// A new snapshot; `None` leaves the one that there is.
    pub snapshot: Option<Snapshot>,
    /// Now.
    pub now: Timestamp,
}

/// What the ledger has of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Up to where the rows have what the log says.
    pub applied: Places,
    /// The last snapshot.
    pub snapshot: Option<Snapshot>,
    /// The commands that are not settled, in their order in the log. Without payload.
    pub rows: Vec<CommandRow>,
}

impl CommandRow {
    /// Makes the row of a command that was just accepted. A kept one is pending from the first.
    pub fn accepted(command: Command, accepted: Timestamp, traceparent: Option<String>) -> Self {
        let step = |state, attempt| Step { state, time: accepted, reason: None, attempt };
        let mut history = vec![step(State::Accepted, 0)];
        if command.kept {
            history.push(step(State::Pending, 1));
        }
        Self {
            id: command.id,
            device: command.device,
            name: command.name,
            place: None,
            state: if command.kept { State::Pending } else { State::Accepted },
            reason: None,
            kept: command.kept,
            handed: false,
            attempt: 0,
            accepted,
            expires: command.expires,
            history,
            traceparent,
            content_type: command.content_type,
            payload: Some(command.payload),
        }
    }

    /// Returns the command, if the payload is there.
    pub fn command(&self) -> Option<Command> {
        Some(Command {
            id: self.id.clone(),
            device: self.device.clone(),
            name: self.name.clone(),
            expires: self.expires,
            kept: self.kept,
            content_type: self.content_type.clone(),
            payload: self.payload.clone()?,
        })
    }

    /// Makes the transition by which the command came into its state, without what only its outcome knows: how it is
    /// known, and the reply. `cause` is the event that brought it there.
    pub fn transition(&self, cause: EventId) -> Transition {
        let last = self.history.last();
        Transition {
            command: self.id.clone(),
            device: self.device.clone(),
            name: self.name.clone(),
            attempt: last.map_or(self.attempt, |step| step.attempt),
            state: self.state,
            reason: self.reason,
            confirmation: None,
            time: last.map_or(self.accepted, |step| step.time),
            cause,
            reply: None,
        }
    }
}
