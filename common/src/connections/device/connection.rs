//! One connection of this replica: what its owner sees of it, and how far the log is with it.

use std::collections::VecDeque;
use std::task::Waker;

use super::give_back;
use crate::channel::Place;
use crate::connections::{Assigned, Capacity, Effect, Handle, Look, Now, Origin, Taken, Terms};
use crate::id::{ConnectionRef, DeviceKey, EventId};
use crate::outcome::{Outcome, Reason};
use crate::records::Connected;

/// How far the log is with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::connections) enum Stage {
    /// It is yet to be announced.
    New,
    /// Its record is on its way.
    Announced,
    /// Its record was read, and it is live.
    Live,
    /// The log has ended it.
    Over,
}

#[derive(Debug)]
pub(in crate::connections) struct Connection {
    pub(in crate::connections) handle: Handle,
    terms: Terms,
    pub(super) origin: Origin,
    /// What the log calls it: by its last announcement.
    pub(super) id: Option<ConnectionRef>,
    pub(super) stage: Stage,
    /// Its owner holds it.
    pub(super) open: bool,
    /// The record of its end was asked for.
    end_is_said: bool,
    pub(super) queue: VecDeque<Assigned>,
    pub(super) waker: Option<Waker>,
}

impl Connection {
    pub(in crate::connections) fn new(handle: Handle, terms: Terms, origin: Origin) -> Self {
        Self {
            handle,
            terms,
            origin,
            id: None,
            stage: Stage::New,
            open: true,
            end_is_said: false,
            queue: VecDeque::new(),
            waker: None,
        }
    }

    /// Tells whether it was announced by this start of the replica, and its record read.
    pub(super) fn is_of(&self, incarnation: &EventId) -> bool {
        let announced = self.id.as_ref().is_some_and(|id| id.incarnation == *incarnation);
        match self.stage {
            Stage::New | Stage::Announced => false,
            Stage::Live | Stage::Over => announced,
        }
    }

    /// Tells whether the log may still say something of it.
    pub(super) fn is_awaited(&self) -> bool {
        match self.stage {
            Stage::New | Stage::Over => false,
            Stage::Announced | Stage::Live => true,
        }
    }

    /// Asks for the record of its end, once, if the log has it or will.
    pub(super) fn say_its_end(&mut self, device: &DeviceKey) -> Option<Effect> {
        let said = self.end_is_said || !self.is_awaited();
        let id = self.id.clone().filter(|_| !said)?;
        self.end_is_said = true;
        Some(Effect::Disconnected(device.clone(), id))
    }

    pub(in crate::connections) fn announce(&mut self, id: ConnectionRef, now: Now) -> Option<Connected> {
        if self.stage != Stage::New || !self.is_in_time(now) {
            return None;
        }
        self.stage = Stage::Announced;
        self.end_is_said = false;
        self.id = Some(id.clone());
        Some(self.record(id))
    }

    fn record(&self, id: ConnectionRef) -> Connected {
        Connected {
            id,
            session: self.origin.session,
            client: self.origin.client.as_deref().map(str::to_owned),
            protocol: self.origin.protocol.to_owned(),
            takes: self.terms.capacity.into(),
            until: self.origin.until.map(|until| until.as_millis()),
            repeats: None,
        }
    }

    /// Returns its record once more. `place` is that of the first.
    pub(super) fn repeat(&self, place: Place) -> Option<Connected> {
        let id = self.id.clone()?;
        Some(Connected { repeats: Some(place), ..self.record(id) })
    }

    /// Takes note that its record was read; `is_live` if by all that was read it is live now. Tells whether this replica
    /// holds it, or has said its end behind this record, and whether it must be announced anew.
    pub(super) fn recorded(&mut self, record: &Connected, is_live: bool) -> (bool, Option<Handle>) {
        if record.repeats.is_some() {
            return (is_live && self.open && self.stage == Stage::Live, None);
        }
        if self.stage != Stage::Announced {
            return (is_live, None);
        }
        self.stage = match (is_live, self.open) {
            (true, _) => Stage::Live,
            (false, true) => Stage::New,
            (false, false) => Stage::Over,
        };
        (is_live, (self.stage == Stage::New).then_some(self.handle))
    }

    /// Takes the lapse of this replica, which ended it in the log: what nobody has taken is the tracker's.
    pub(super) fn lapsed(&mut self, device: &DeviceKey) -> Option<Effect> {
        let untaken = !self.queue.is_empty();
        self.queue.clear();
        // One that was ended by a command that its owner has is at its end.
        let goes_on = self.open && (self.stage == Stage::Live || untaken);
        self.stage = if goes_on { Stage::New } else { Stage::Over };
        goes_on.then(|| Effect::AnnounceAnew(device.clone(), self.handle))
    }

    /// Puts a command into the queue, or says what becomes of it instead.
    pub(super) fn offer(&mut self, assigned: Assigned, look: Look) -> Option<Effect> {
        let expired = look.alive && assigned.command.is_expired(look.now.wall);
        if expired || !self.open || !self.is_in_time(look.now) {
            return Some(give_back(assigned, look));
        }
        let held = self.queue.len();
        let (room, bounded) = match self.terms.capacity {
            Capacity::One => (held == 0, false),
            Capacity::Batch(most) => (held < most.max(1) as usize, false),
            Capacity::Queue(limit) => (held < limit, true),
        };
        match (room, bounded) {
            (true, _) => {
                self.queue.push_back(assigned);
                None
            }
            (false, true) => Some(Effect::Ended(assigned, Outcome::Undelivered(Reason::Overflow))),
            // More than it said that it takes.
            (false, false) => Some(Effect::Released(assigned)),
        }
    }

    pub(in crate::connections) fn take(&mut self, waker: &Waker, look: Look) -> Taken {
        if !look.alive && !self.queue.is_empty() {
            self.waker = Some(waker.clone());
            return Taken::Withheld;
        }
        match self.queue.pop_front() {
            Some(assigned) if assigned.command.is_expired(look.now.wall) => Taken::Expired(assigned),
            Some(assigned) => Taken::Command(assigned),
            None if self.stage == Stage::Over || !self.is_in_time(look.now) => Taken::Ended,
            None => {
                self.waker = Some(waker.clone());
                Taken::Nothing
            }
        }
    }

    /// Returns whom to wake when what it holds may be taken.
    pub(in crate::connections) fn withheld(&mut self) -> Option<Waker> {
        self.waker.take_if(|_| !self.queue.is_empty())
    }

    fn is_in_time(&self, now: Now) -> bool {
        self.terms.deadline.is_none_or(|deadline| now.instant < deadline)
    }
}
