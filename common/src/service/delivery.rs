//! A command on its way to a device.

use std::fmt;
use std::sync::Arc;

use super::meters;
use super::reports::Report;
use super::shared::Shared;
use crate::command::Command;
use crate::connections::Assigned;
use crate::outcome::{Confirmation, Outcome, Reason, Transition};

/// A command on its way to a device.
///
/// Until [`Delivery::begin`] nothing is written to the device, and dropping it gives the command back. From then on
/// dropping it says `connection-lost`, unless [`Delivery::finish`] says better. A command that is kept comes again after
/// anything but its delivery.
pub struct Delivery {
    shared: Arc<Shared>,
    state: State,
    /// How often this replica had lapsed when the command was taken.
    lapses: u64,
}

enum State {
    Held(Box<Assigned>),
    Begun(Box<Assigned>),
    Done,
}

impl Delivery {
    pub(super) fn new(shared: Arc<Shared>, assigned: Assigned, lapses: u64) -> Self {
        Self { shared, state: State::Held(Box::new(assigned)), lapses }
    }

    /// Takes the last look before the command is written, and returns it.
    ///
    /// Returns `None` if it has lapsed, or may be another's: this replica did, or it does not know whether others take it
    /// for dead.
    pub fn begin(&mut self) -> Option<Command> {
        let State::Held(assigned) = std::mem::replace(&mut self.state, State::Done) else { return None };
        let look = self.shared.look(&assigned.command.device);
        if !look.alive || self.shared.pulse.lapses() != self.lapses {
            self.shared.released(*assigned, None);
            return None;
        }
        if assigned.command.is_expired(look.now.wall) {
            self.shared.ended(*assigned, Outcome::Expired);
            return None;
        }
        let command = assigned.command.clone();
        // Before the first byte is written: the device may reply as soon as it has read the last.
        self.shared.replies.begun(&command, assigned.attempt);
        self.state = State::Begun(assigned);
        Some(command)
    }

    /// Says what became of the command.
    pub fn finish(mut self, outcome: Outcome) {
        if let State::Begun(assigned) = std::mem::replace(&mut self.state, State::Done) {
            self.shared.ended(*assigned, outcome);
        }
    }

    /// Says that the device did not acknowledge the command in time. Returns what to do if it does so yet; `None` if it
    /// was never begun.
    pub fn give_up(mut self) -> Option<Overdue> {
        let State::Begun(assigned) = std::mem::replace(&mut self.state, State::Done) else { return None };
        let delivered = Outcome::Delivered(Confirmation::Puback);
        let transition = assigned.transition(delivered, self.shared.clock.wall());
        self.shared.ended(*assigned, Outcome::Undelivered(Reason::NoAck));
        Some(Overdue { shared: self.shared.clone(), transition: Box::new(transition) })
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Held(assigned) => self.shared.released(*assigned, None),
            State::Begun(assigned) => {
                self.shared.ended(*assigned, Outcome::Undelivered(Reason::ConnectionLost));
            }
            State::Done => {}
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}

/// A command that its device did not acknowledge in time. Its payload is gone.
pub struct Overdue {
    shared: Arc<Shared>,
    transition: Box<Transition>,
}

impl Overdue {
    /// Says that the device has acknowledged the command after all: if it is pending again, that completes it.
    pub fn acknowledged(self) {
        let Self { shared, mut transition } = self;
        transition.time = shared.clock.wall();
        meters::late(&transition.command, &transition.device);
        shared.reports.send(Report::Outcome(transition));
    }
}

impl fmt::Debug for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overdue").finish_non_exhaustive()
    }
}
