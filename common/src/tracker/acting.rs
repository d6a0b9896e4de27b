//! How a tracker takes charge of its partition.

use std::collections::HashSet;
use std::time::Instant;

use super::entry::{Entry, Hold};
use super::{Announced, Effect, PartitionTracker, Probe, Role, Row};
use crate::connections::Now;
use crate::id::EventId;
use crate::outcome::State;

impl PartitionTracker {
    /// Takes charge of the partition, with the epoch of the lease and the rows (not settled, or not told, without contents)
    /// that were loaded after it was acquired. It acts once its announcement is read back. With an epoch that is not
    /// [the highest](Self::highest_epoch) it does nothing.
    pub fn begin_acting(&mut self, epoch: u64, rows: Vec<Row>, now: Now) {
        self.note_time(now);
        self.stop_acting();
        if epoch <= self.highest_epoch {
            return;
        }
        self.role = Role::Announced(Announced { epoch, rows });
        self.probe = Some(Probe { sent: now.instant });
        self.put_announce(epoch, !self.complete);
    }

    /// Gives the charge up. Effects that were not taken are dropped; so are the answers to those that ask.
    pub fn stop_acting(&mut self) {
        self.role = Role::Standby;
        self.effects.clear();
        self.probe = None;
        self.asked_at = None;
        self.unseen.clear();
        self.replicas.values_mut().for_each(|replica| replica.lapsing = false);
        for entry in self.commands.values_mut() {
            match &mut entry.hold {
                Hold::Ending if !entry.kept => entry.hold = Hold::Unknown,
                // The ledger and the log tell, to whoever acts next, what came of it.
                Hold::Looked | Hold::Asked | Hold::Ending | Hold::Sent(_) => entry.hold = Hold::Queued,
                Hold::Returned(returned) => returned.sent = false,
                Hold::Unknown | Hold::Owned(_) | Hold::Queued | Hold::Unconfirmed => {}
                Hold::Decided | Hold::Settled => {}
            }
        }
    }

    /// Returns the epoch with which it has charge. It loses it by itself when it reads of a higher one.
    pub fn epoch(&self) -> Option<u64> {
        match &self.role {
            Role::Standby => None,
            Role::Announced(announced) => Some(announced.epoch),
            Role::Acting(epoch) => Some(*epoch),
        }
    }

    pub(super) fn acting(&self) -> Option<u64> {
        match &self.role {
            Role::Standby | Role::Announced(_) => None,
            Role::Acting(epoch) => Some(*epoch),
        }
    }

    /// Begins to act: all that any earlier tracker did is read, and what it does from here on is void.
    pub(super) fn take_charge(&mut self, now: Now) {
        let Role::Announced(announced) = std::mem::replace(&mut self.role, Role::Standby) else { return };
        self.role = Role::Acting(announced.epoch);
        self.asked_at = (!self.complete).then_some(now.instant);
        if let Some(own) = self.settings.sole.clone() {
            let others: Vec<_> = self.replicas.keys().filter(|id| **id != own).cloned().collect();
            others.into_iter().for_each(|id| self.put_lapsed(id));
        }
        let accepted: HashSet<EventId> = announced.rows.iter().map(|row| row.id.clone()).collect();
        for row in announced.rows {
            self.reconcile(row);
        }
        self.tell_again();
        self.look_again(&accepted);
        let mut left: Vec<_> = self.commands.iter().map(|(id, entry)| (entry.place, id.clone())).collect();
        left.sort_unstable();
        for (_, id) in left {
            let Some(entry) = self.commands.get(&id) else { continue };
            match &entry.hold {
                Hold::Queued => self.queue(&id, now),
                Hold::Returned(_) => self.pass_on(&id, now),
                Hold::Unknown | Hold::Owned(_) | Hold::Unconfirmed | Hold::Looked | Hold::Asked => {}
                Hold::Ending | Hold::Sent(_) | Hold::Decided | Hold::Settled => {}
            }
        }
    }

    /// Compares what the ledger holds of a command with what the log says.
    fn reconcile(&mut self, row: Row) {
        let id = row.id.clone();
        let Some(entry) = self.commands.get_mut(&id) else {
            // One that no tracker has seen is looked for later.
            if row.place.is_some() || row.state.is_settled() {
                self.adopt(row);
            }
            return;
        };
        if !entry.is_active() {
            return self.mark_dirty(&id);
        }
        if row.state.is_settled() {
            if entry.hold != Hold::Decided {
                self.ended_by(&row);
            }
            return;
        }
        let taken = row.handed && (row.attempt > entry.attempt || entry.hold == Hold::Queued);
        if entry.kept && entry.hold == Hold::Queued {
            entry.attempt = entry.attempt.max(row.attempt);
        }
        if entry.kept && taken {
            // It was taken for an attempt whose record is not in the log, and would now be void.
            entry.attempt = entry.attempt.max(row.attempt);
            entry.returned = Some(row.attempt);
            self.mark_dirty(&id);
        }
    }

    /// Follows a command of which only the row is known.
    fn adopt(&mut self, row: Row) {
        let (id, place) = (row.id.clone(), row.place);
        let mut entry = Entry::of_strange_row(row);
        entry.restored = place.is_none() || place > self.places.commands;
        self.insert(id, entry);
    }

    /// Tells what an earlier tracker may not have come to.
    fn tell_again(&mut self) {
        let mut told: Vec<_> = self.commands.iter().filter(|(_, entry)| entry.told.is_some()).collect();
        told.sort_unstable_by_key(|(id, entry)| (entry.place, *id));
        for (id, entry) in told {
            let transition = entry.told.as_ref().map(|told| entry.transition(id, told));
            self.effects.extend(transition.map(|transition| Effect::Tell(Box::new(transition))));
        }
    }

    /// Asks for those that are too many, and that the ledger may not have accepted.
    fn look_again(&mut self, accepted: &HashSet<EventId>) {
        let max = self.settings.max_pending;
        let full = self.devices.values().filter(|device| device.kept.len() > max);
        let beyond = full.flat_map(|device| device.kept.iter().skip(max)).map(|(_, id)| id);
        let is_new = |id: &&EventId| {
            let entry = self.commands.get(*id);
            entry.is_some_and(|entry| entry.hold == Hold::Queued && !entry.written && entry.attempt == 0)
        };
        let beyond: Vec<_> = beyond.filter(|id| !accepted.contains(*id)).filter(is_new).cloned().collect();
        beyond.iter().for_each(|id| self.look(id));
    }

    /// Takes rows, with contents, that were accepted at least [`Settings::unseen_after`](super::Settings::unseen_after) ago,
    /// and are not settled and without a place, or settled and not told. Asked for every few seconds by the shell of a tracker
    /// that acts; no write may lie between the asking and this.
    pub fn handle_unseen(&mut self, rows: Vec<Row>, now: Now) {
        self.note_time(now);
        if self.acting().is_none() {
            return;
        }
        for row in rows {
            let id = row.id.clone();
            match self.commands.get(&id) {
                None if row.state.is_settled() => {
                    self.adopt(row.clone());
                    self.ended_by(&row);
                }
                None => {
                    self.unseen.entry(id).or_insert((row, now.instant));
                }
                Some(entry) if row.state.is_settled() && entry.is_active() => {
                    if entry.hold != Hold::Decided {
                        self.ended_by(&row);
                    }
                }
                Some(_) => self.mark_dirty(&id),
            }
        }
    }

    /// Publishes commands that were not in the log, as far as it was read.
    pub(super) fn submit_unseen(&mut self, read: Instant, now: Now) {
        let due: Vec<_> = self.unseen.extract_if(|_, (_, since)| *since <= read).collect();
        for (id, (row, _)) in due {
            let accepted = row.accepted;
            if row.expires <= now.wall {
                let mut entry = Entry::of_row(row);
                entry.hold = Hold::Ending;
                entry.state = if entry.state.is_settled() { State::Pending } else { entry.state };
                self.insert(id.clone(), entry);
                self.effects.push_back(Effect::Expire(vec![id]));
            } else if let Some(command) = row.command() {
                self.effects.push_back(Effect::Submit { command: Box::new(command), accepted });
            }
        }
    }
}
