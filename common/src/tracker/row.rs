//! What the ledger holds of a command, and what is to be written there.

use bytes::Bytes;

use crate::channel::Place;
use crate::command::Command;
use crate::id::{CommandName, DeviceKey, EventId};
use crate::outcome::{Reason, State, Transition};
use crate::time::Timestamp;

/// A step in the life of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The state that it reached.
    pub state: State,
    /// How often it had been given to a connection.
    pub attempt: u32,
    /// When.
    pub time: Timestamp,
    /// Why.
    pub reason: Option<Reason>,
}

/// What a command carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The content type of the payload.
    pub content_type: String,
    /// The payload.
    pub payload: Bytes,
}

/// A command, as the ledger holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Identifies the command.
    pub id: EventId,
    /// Its device.
    pub device: DeviceKey,
    /// Its name.
    pub name: CommandName,
    /// Its state.
    pub state: State,
    /// Why it is in that state.
    pub reason: Option<Reason>,
    /// While its device is away it is kept for it.
    pub kept: bool,
    /// The tracker has taken it for the attempt `attempt`: nobody else ends it.
    pub handed: bool,
    /// The highest attempt for which it was taken.
    pub attempt: u32,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// When it lapses.
    pub expires: Timestamp,
    /// The states that it has been in, from the oldest on.
    pub history: Vec<Step>,
    /// What it carries, if that was asked for or is yet to be written.
    pub content: Option<Content>,
    /// Where the command lies in the log, once a tracker has read it there. Every [`Change::Write`] sets it.
    pub place: Option<Place>,
    /// A tracker has read in the log of outcomes how it ended. A [`Change`] to a settled state sets it.
    pub told: bool,
}

/// What is to be written into the ledger.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A command that is followed: its row is made, or brought to this state. A row that is settled and told is changed only by
    /// a reply to what was delivered; one that is settled and not told only by how the log says it ended. The attempt never
    /// falls, steps are added to the history, and the content is written where the row has none.
    Write {
        /// The row; `handed` says nothing.
        row: Box<Row>,
        /// This attempt has ended: if the row is handed for it, it no longer is.
        returned: Option<u32>,
    },
    /// An outcome of a command that is followed no more: it is added to the history, and counts like above if the row's state
    /// [admits](State::admits) it, or is settled and not told. Without a row it means nothing.
    Late(Box<Transition>),
}

/// How far the logs of a partition were read. `None`: nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Places {
    /// The last record of `commands`.
    pub commands: Option<Place>,
    /// The last record of `outcomes`.
    pub outcomes: Option<Place>,
}

/// Returns why it is unknown whether the device has seen a command that waits again, by its history. Such a command ends as
/// [`State::Undelivered`] for this reason, whoever ends it: that it lapsed or was cancelled would say that the device never
/// saw it.
pub fn doubt(history: &[Step]) -> Option<Reason> {
    let reasons = history.iter().rev().filter(|step| step.state == State::Pending);
    reasons.filter_map(|step| step.reason).find(|reason| match reason {
        Reason::NoAck | Reason::ConnectionLost => true,
        Reason::NotConnected | Reason::Overflow => false,
    })
}

impl Row {
    /// Makes the row of a command that was just accepted. A kept one is pending from the first.
    pub fn accepted(command: &Command, accepted: Timestamp) -> Self {
        let step = |state, attempt| Step { state, attempt, time: accepted, reason: None };
        let mut history = vec![step(State::Accepted, 0)];
        if command.kept {
            history.push(step(State::Pending, 1));
        }
        Self {
            id: command.id.clone(),
            device: command.device.clone(),
            name: command.name.clone(),
            state: if command.kept { State::Pending } else { State::Accepted },
            reason: None,
            kept: command.kept,
            handed: false,
            attempt: 0,
            accepted,
            expires: command.expires,
            history,
            content: Some(Content {
                content_type: command.content_type.clone(),
                payload: command.payload.clone(),
            }),
            place: None,
            told: false,
        }
    }

    /// Ends a command that waits: as wanted, or as undelivered where there is a [doubt](doubt()).
    #[must_use]
    pub fn ended(mut self, wanted: State, time: Timestamp) -> Self {
        let doubt = doubt(&self.history);
        self.state = if doubt.is_some() { State::Undelivered } else { wanted };
        self.reason = doubt;
        let attempt = if doubt.is_some() { self.attempt } else { self.attempt + 1 };
        self.history.push(Step { state: self.state, attempt, time, reason: doubt });
        self.content = None;
        self
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

    /// Returns the row's command, if the row has its content.
    pub fn command(&self) -> Option<Command> {
        let content = self.content.clone()?;
        Some(Command {
            id: self.id.clone(),
            device: self.device.clone(),
            name: self.name.clone(),
            expires: self.expires,
            kept: self.kept,
            content_type: content.content_type,
            payload: content.payload,
        })
    }
}
