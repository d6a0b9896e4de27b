//! A command that is followed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Instant;

use super::row::{Content, Row, Step, doubt};
use crate::channel::Place;
use crate::command::Command;
use crate::id::{CommandName, ConnectionRef, DeviceKey, EventId};
use crate::outcome::{Reason, State, Transition};
use crate::records::Given;
use crate::time::Timestamp;

/// Who has a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Hold {
    /// A connection that is not known, or none.
    Unknown,
    /// A connection owns it.
    Owned(ConnectionRef),
    /// Kept: it waits for its device.
    Queued,
    /// Kept: it waits again, and its outcome that says so is not read yet.
    Unconfirmed,
    /// Kept, and one too many, unless the ledger has accepted it: that was asked.
    Looked,
    /// Kept: the ledger was asked to hand it over.
    Asked,
    /// Kept: the ledger was asked to end it.
    Ending,
    /// Kept: the record that hands it over, as this attempt, is not read yet.
    Sent(u32),
    /// Not kept: its owner gave it back.
    Returned(Box<Returned>),
    /// How it ended was told, or would have been, and is not read yet.
    Decided,
    /// It is settled.
    Settled,
}

impl Hold {
    /// Returns the connection that owns the command.
    pub(super) fn owner(&self) -> Option<&ConnectionRef> {
        match self {
            Self::Owned(owner) => Some(owner),
            Self::Unknown
            | Self::Queued
            | Self::Unconfirmed
            | Self::Looked
            | Self::Asked
            | Self::Ending
            | Self::Sent(_)
            | Self::Returned(_)
            | Self::Decided
            | Self::Settled => None,
        }
    }
}

/// A command that is not kept, and that its owner gave back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Returned {
    /// By whom: it gets it no more.
    pub(super) by: ConnectionRef,
    pub(super) given: Given,
    /// The event of it.
    pub(super) cause: EventId,
    /// A record that hands it over is not read yet.
    #[serde(skip)]
    pub(super) sent: bool,
}

/// What was told of a command and is not read yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) state: State,
    pub(super) attempt: u32,
    pub(super) reason: Option<Reason>,
    pub(super) millis: i64,
    pub(super) cause: EventId,
}

impl Told {
    /// Tells how a command ended, as its row has it; whoever ended it may not have come to that.
    pub(super) fn of_end(row: &Row) -> Self {
        let step = row.history.last().filter(|step| step.state == row.state);
        let (attempt, time) = step.map_or((row.attempt + 1, row.expires), |step| (step.attempt, step.time));
        Self {
            state: row.state,
            attempt,
            reason: row.reason,
            millis: time.as_millis(),
            cause: row.id.clone(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) device: DeviceKey,
    pub(super) name: CommandName,
    pub(super) kept: bool,
    pub(super) state: State,
    pub(super) reason: Option<Reason>,
    /// The highest attempt that is known.
    pub(super) attempt: u32,
    pub(super) accepted: Timestamp,
    pub(super) expires: Timestamp,
    pub(super) history: Vec<Step>,
    /// Where it lies in the log; the first place if it was only found in the ledger.
    pub(super) place: Place,
    /// It was found in the ledger, and its record may yet be read.
    pub(super) restored: bool,
    pub(super) hold: Hold,
    pub(super) told: Option<Box<Told>>,
    /// Of what is kept, until its row is written.
    pub(super) content: Option<Content>,
    /// The length of the payload, as far as it is known.
    pub(super) size: usize,
    /// The attempt that ended, until that is written.
    pub(super) returned: Option<u32>,
    /// Its row is to be written.
    pub(super) dirty: bool,
    /// Its row was written once.
    pub(super) written: bool,
    /// Since when nobody is known who would settle it.
    pub(super) orphaned: Option<Instant>,
    /// Where the outcome lies that settled it.
    pub(super) settled_at: Option<Place>,
}

impl Entry {
    pub(super) fn of_command(command: &Command, accepted: Timestamp, place: Place) -> Self {
        let step = Step { state: State::Accepted, attempt: 0, time: accepted, reason: None };
        let content = || Content {
            content_type: command.content_type.clone(),
            // A copy, so that what the log's record came with is let go.
            payload: Bytes::copy_from_slice(&command.payload),
        };
        Self {
            device: command.device.clone(),
            name: command.name.clone(),
            kept: command.kept,
            state: State::Accepted,
            reason: None,
            attempt: 0,
            accepted,
            expires: command.expires,
            history: vec![step],
            place,
            restored: false,
            hold: Hold::Unknown,
            told: None,
            content: command.kept.then(content),
            size: command.payload.len(),
            returned: None,
            dirty: false,
            written: false,
            orphaned: None,
            settled_at: None,
        }
    }

    /// Makes the entry of a row. Of one that is handed, the record that hands it over may yet be read.
    pub(super) fn of_row(row: Row) -> Self {
        let end = row.state.is_settled().then(|| Told::of_end(&row));
        let mut entry = Self {
            // What became of one that is not kept is read again from where the snapshot was made.
            attempt: match (row.kept, row.handed) {
                (true, false) => row.attempt,
                (true, true) => row.attempt.saturating_sub(1),
                (false, _) => 0,
            },
            hold: if row.kept { Hold::Queued } else { Hold::Unknown },
            told: None,
            size: row.content.as_ref().map_or(0, |content| content.payload.len()),
            device: row.device,
            name: row.name,
            kept: row.kept,
            state: row.state,
            reason: row.reason,
            accepted: row.accepted,
            expires: row.expires,
            history: row.history,
            place: row.place.unwrap_or_default(),
            restored: true,
            content: None,
            returned: None,
            dirty: false,
            written: true,
            orphaned: None,
            settled_at: None,
        };
        if let Some(end) = end {
            entry.told = Some(Box::new(end));
            entry.hold = Hold::Decided;
            // As the log has it: not yet.
            entry.state = State::Pending;
        }
        entry
    }

    /// Makes the entry of a row where the record that handed it over may be lost.
    pub(super) fn of_strange_row(row: Row) -> Self {
        let handed = (row.kept && row.handed).then_some(row.attempt);
        let mut entry = Self::of_row(row);
        if let Some(attempt) = handed.filter(|_| entry.hold == Hold::Queued) {
            entry.attempt = attempt;
            entry.hold = Hold::Unknown;
        }
        entry
    }

    pub(super) fn row(&self, id: &EventId) -> Row {
        // Once it is decided how a command that is kept ends, nobody is to end it otherwise.
        let decided = self.told.as_ref().filter(|_| self.kept && self.hold == Hold::Decided);
        let (state, reason) = decided.map_or((self.state, self.reason), |told| (told.state, told.reason));
        Row {
            id: id.clone(),
            device: self.device.clone(),
            name: self.name.clone(),
            state,
            reason,
            kept: self.kept,
            handed: matches!(self.hold, Hold::Owned(_) | Hold::Sent(_)) && self.kept,
            attempt: self.attempt,
            accepted: self.accepted,
            expires: self.expires,
            history: self.history.clone(),
            content: self.content.clone(),
            place: Some(self.place),
            told: self.state.is_settled(),
        }
    }

    pub(super) fn transition(&self, id: &EventId, told: &Told) -> Transition {
        Transition {
            command: id.clone(),
            device: self.device.clone(),
            name: self.name.clone(),
            attempt: told.attempt,
            state: told.state,
            reason: told.reason,
            confirmation: None,
            time: Timestamp::from_millis(told.millis),
            cause: told.cause.clone(),
            reply: None,
        }
    }

    /// Tells how a command ends that nobody will deliver any more.
    pub(super) fn lapses(&self) -> (State, Option<Reason>) {
        match doubt(&self.history) {
            Some(reason) => (State::Undelivered, Some(reason)),
            None => (State::Expired, None),
        }
    }

    /// Adds a step to the history. Tells whether it was not there yet.
    pub(super) fn add(&mut self, step: Step) -> bool {
        let is_same = |other: &Step| (other.state, other.attempt) == (step.state, step.attempt);
        let is_new = !self.history.iter().any(is_same);
        if is_new {
            self.history.push(step);
        }
        is_new
    }

    pub(super) fn is_active(&self) -> bool {
        !self.state.is_settled()
    }
}
