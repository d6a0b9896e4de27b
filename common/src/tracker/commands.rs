//! Commands and what became of them.

use super::entry::{Entry, Hold, Returned, Told};
use super::{Early, Effect, PartitionTracker, Step};
use crate::channel::Place;
use crate::command::Command;
use crate::connections::Now;
use crate::id::{ConnectionRef, EventId};
use crate::outcome::{Reason, State, Transition};
use crate::records::{Handover, OrderRecord, Released};
use crate::time::Timestamp;

impl PartitionTracker {
    /// Takes a command.
    pub fn handle_command(&mut self, command: Command, accepted: Timestamp, place: Place, now: Now) {
        self.note_time(now);
        self.note_place(place);
        self.unseen.remove(&command.id);
        let device = self.devices.entry(command.device.clone()).or_default();
        // Also of one that is read twice: every replica reads it so.
        let owner = if command.kept { None } else { device.order.command() };
        if owner.is_some() {
            device.ended(accepted);
        }
        let id = command.id.clone();
        match self.commands.get_mut(&id) {
            None => {
                self.insert(id.clone(), Entry::of_command(&command, accepted, place));
                self.unwritten.push_back((now.instant + self.settings.row_after, id.clone()));
            }
            Some(entry) if entry.restored => entry.restored = false,
            Some(_) => return,
        }
        self.set_place(&id, place);
        if command.kept {
            self.begin_keeping(&id, now);
        } else {
            self.begin_owned(&id, owner, accepted);
        }
        for early in self.early.remove(&id).unwrap_or_default() {
            self.apply(early.outcome, early.place, now);
        }
    }

    /// Takes an outcome.
    pub fn handle_outcome(&mut self, outcome: Transition, place: Place, now: Now) {
        self.note_time(now);
        let behind = self.places.outcomes.replace(place);
        if self.commands.contains_key(&outcome.command) {
            return self.apply(outcome, place, now);
        }
        // What the reply says is for others to tell.
        let outcome = Transition { reply: None, ..outcome };
        let is_late = outcome.state == State::Replied;
        if is_late {
            self.late.push((place, outcome.clone()));
        }
        let early = Early { outcome, place, behind, arrived: now.instant, is_late };
        self.early.entry(early.outcome.command.clone()).or_default().push(early);
    }

    pub(super) fn note_place(&mut self, place: Place) {
        self.places.commands = Some(place);
        self.first.get_or_insert(place);
    }

    pub(super) fn insert(&mut self, id: EventId, entry: Entry) {
        if entry.kept {
            self.devices.entry(entry.device.clone()).or_default().keep(entry.place, &id);
            self.expiries.insert((entry.expires, id.clone()));
        }
        self.commands.insert(id, entry);
    }

    fn set_place(&mut self, id: &EventId, place: Place) {
        let Some(entry) = self.commands.get_mut(id) else { return };
        if entry.place != place {
            entry.place = place;
            if let Some(device) = self.devices.get_mut(&entry.device).filter(|_| entry.kept) {
                device.drop_kept(id);
                device.keep(place, id);
            }
        }
    }

    fn begin_owned(&mut self, id: &EventId, owner: Option<ConnectionRef>, accepted: Timestamp) {
        let complete = self.complete;
        let Some(entry) = self.commands.get_mut(id).filter(|entry| entry.hold == Hold::Unknown) else {
            return;
        };
        match owner {
            Some(owner) => {
                entry.attempt = 1;
                entry.hold = Hold::Owned(owner);
            }
            None if complete => {
                self.decide(id, (State::Undelivered, Some(Reason::NotConnected)), 1, accepted, id.clone());
            }
            None => {}
        }
    }

    /// Notes how a command ends, and tells it. It counts once it is read.
    pub(super) fn decide(
        &mut self,
        id: &EventId,
        (state, reason): (State, Option<Reason>),
        attempt: u32,
        time: Timestamp,
        cause: EventId,
    ) {
        self.tell(id, Hold::Decided, Told { state, attempt, reason, millis: time.as_millis(), cause });
    }

    pub(super) fn tell(&mut self, id: &EventId, hold: Hold, told: Told) {
        let acting = self.acting().is_some();
        let Some(entry) = self.commands.get_mut(id) else { return };
        entry.hold = hold;
        let transition = entry.transition(id, &told);
        entry.told = Some(Box::new(told));
        if acting {
            self.effects.push_back(Effect::Tell(Box::new(transition)));
        }
    }

    /// Takes an outcome of a command that is followed.
    fn apply(&mut self, outcome: Transition, place: Place, now: Now) {
        let id = outcome.command;
        let Some(entry) = self.commands.get_mut(&id) else { return };
        let (state, attempt, reason) = (outcome.state, outcome.attempt, outcome.reason);
        if entry.add(Step { state, attempt, time: outcome.time, reason }) {
            self.mark_dirty(&id);
        }
        let Some(entry) = self.commands.get_mut(&id) else { return };
        if entry.told.as_ref().is_some_and(|told| (told.state, told.attempt) == (state, attempt)) {
            entry.told = None;
        }
        if !entry.state.admits(state) {
            return;
        }
        if state != State::Pending {
            return self.settle(&id, state, reason, place, now);
        }
        entry.state = State::Pending;
        if entry.hold == Hold::Unconfirmed && attempt > entry.attempt {
            entry.reason = reason;
            entry.returned = Some(entry.attempt);
            self.mark_dirty(&id);
            self.queue(&id, now);
        }
    }

    fn settle(&mut self, id: &EventId, state: State, reason: Option<Reason>, place: Place, now: Now) {
        let Some(entry) = self.commands.get_mut(id) else { return };
        let was_active = entry.is_active();
        entry.state = state;
        entry.reason = reason;
        entry.hold = Hold::Settled;
        entry.told = None;
        entry.content = entry.content.take().filter(|_| !entry.written);
        entry.settled_at = Some(place);
        let (key, kept) = (entry.device.clone(), entry.kept);
        self.expiries.remove(&(entry.expires, id.clone()));
        self.mark_dirty(id);
        if !kept || !was_active {
            return;
        }
        if let Some(device) = self.devices.get_mut(&key) {
            device.drop_kept(id);
            if state == State::Delivered || state == State::Replied {
                device.resume();
            }
        }
        self.try_hand_over(&key, now);
    }

    /// Takes the record by which a connection gives a command back.
    pub(super) fn released(&mut self, record: Released, cause: &EventId, now: Now) {
        let id = record.given.command.clone();
        let Some(entry) = self.commands.get_mut(&id) else { return };
        let owned = match entry.hold.owner() {
            Some(owner) => *owner == record.id && entry.attempt == record.given.attempt,
            None => entry.hold == Hold::Unknown && record.given.attempt >= entry.attempt.max(1),
        };
        if !owned {
            return;
        }
        entry.attempt = record.given.attempt;
        if entry.kept {
            return self.wait_again(&id, record.reason, Some(record.id), cause, now);
        }
        match record.reason {
            Some(_) => {
                let attempt = entry.attempt;
                self.decide(&id, (State::Undelivered, record.reason), attempt, now.wall, cause.clone());
            }
            None => {
                let returned =
                    Returned { by: record.id, given: record.given, cause: cause.clone(), sent: false };
                entry.hold = Hold::Returned(Box::new(returned));
                self.pass_on(&id, now);
            }
        }
    }

    /// Hands a command that is not kept, and was given back, to the newest connection, or says that there is none.
    pub(super) fn pass_on(&mut self, id: &EventId, now: Now) {
        let epoch = self.acting();
        let complete = self.complete;
        let Some(entry) = self.commands.get_mut(id) else { return };
        let Hold::Returned(returned) = &mut entry.hold else { return };
        if returned.sent {
            return;
        }
        let device = self.devices.get(&entry.device);
        let live = device.map(|device| device.order.live()).unwrap_or_default();
        match live.iter().rev().find(|live| live.id != returned.by) {
            Some(newest) => {
                let Some(epoch) = epoch else { return };
                returned.sent = true;
                let mut given = returned.given.clone();
                given.attempt = entry.attempt + 1;
                let record = Handover { epoch, id: newest.id.clone(), commands: vec![given] };
                let (device, record) = (entry.device.clone(), OrderRecord::Handover(record));
                self.effects.push_back(Effect::Record { device, record });
            }
            None if complete => {
                let (cause, attempt) = (returned.cause.clone(), entry.attempt);
                self.decide(id, (State::Undelivered, Some(Reason::NotConnected)), attempt, now.wall, cause);
            }
            None => entry.hold = Hold::Unknown,
        }
    }
}
