//! The queues of what is kept: to whom it goes, and when.

use std::collections::HashMap;

use super::entry::{Hold, Told};
use super::{Effect, PartitionTracker, Row};
use crate::connections::Now;
use crate::id::{ConnectionRef, DeviceKey, EventId};
use crate::order::Live;
use crate::outcome::{Reason, State};
use crate::records::{Given, Handover, OrderRecord, Takes};

impl PartitionTracker {
    /// Takes a command that is to be kept.
    pub(super) fn begin_keeping(&mut self, id: &EventId, now: Now) {
        self.mark_dirty(id);
        let Some(entry) = self.commands.get_mut(id) else { return };
        if entry.state != State::Accepted || entry.hold == Hold::Decided {
            return;
        }
        entry.state = State::Pending;
        let (time, key) = (entry.accepted, entry.device.clone());
        let told = Told {
            state: State::Pending,
            attempt: 1,
            reason: None,
            millis: time.as_millis(),
            cause: id.clone(),
        };
        self.tell(id, Hold::Queued, told);
        let count = self.devices.get(&key).map_or(0, |device| device.kept.len());
        if count > self.settings.max_pending && self.acting().is_some() {
            self.look(id);
        } else {
            self.queue(id, now);
        }
    }

    /// Asks whether the ledger has accepted what is one too many.
    pub(super) fn look(&mut self, id: &EventId) {
        let Some(entry) = self.commands.get_mut(id) else { return };
        entry.hold = Hold::Looked;
        self.effects.push_back(Effect::Look(vec![id.clone()]));
    }

    /// Takes the news that an attempt is over: `reason` says why, `owner` at which connection, if that is known. Another
    /// connection gets the command at once, that one only after a pause.
    pub(super) fn wait_again(
        &mut self,
        id: &EventId,
        reason: Option<Reason>,
        owner: Option<ConnectionRef>,
        cause: &EventId,
        now: Now,
    ) {
        let Some(entry) = self.commands.get_mut(id) else { return };
        let key = entry.device.clone();
        let attempt = entry.attempt + 1;
        entry.orphaned = None;
        let told = Told {
            state: State::Pending,
            attempt,
            reason,
            millis: now.wall.as_millis(),
            cause: cause.clone(),
        };
        self.tell(id, Hold::Unconfirmed, told);
        let (first, longest) = (self.settings.retry_first, self.settings.retry_longest);
        if let Some(device) = self.devices.get_mut(&key) {
            let until = device.pause(owner, first, longest, now.instant);
            self.retries.entry(until).or_default().push(key);
        }
    }

    /// Puts a command into the queue of its device.
    pub(super) fn queue(&mut self, id: &EventId, now: Now) {
        let Some(entry) = self.commands.get_mut(id) else { return };
        entry.hold = Hold::Queued;
        let key = entry.device.clone();
        if entry.expires <= now.wall {
            self.expire(id);
        }
        self.try_hand_over(&key, now);
    }

    /// Asks the ledger to end what has lapsed in its queue.
    pub(super) fn expire(&mut self, id: &EventId) {
        let acting = self.acting().is_some();
        let Some(entry) = self.commands.get_mut(id) else { return };
        if acting && entry.hold == Hold::Queued {
            entry.hold = Hold::Ending;
            self.effects.push_back(Effect::Expire(vec![id.clone()]));
        }
    }

    /// Asks the ledger for what the newest connection of a device may get now.
    pub(super) fn try_hand_over(&mut self, key: &DeviceKey, now: Now) {
        if self.acting().is_none() {
            return;
        }
        let Some(newest) = self.receiver(key, now) else { return };
        let chosen = self.next_for(key, &newest, Hold::Queued);
        if chosen.is_empty() {
            return;
        }
        let mut asked = Vec::with_capacity(chosen.len());
        for id in chosen {
            if let Some(entry) = self.commands.get_mut(&id) {
                entry.hold = Hold::Asked;
                asked.push((id, entry.attempt + 1));
            }
        }
        self.effects.push_back(Effect::HandOver(asked));
    }

    fn receiver(&self, key: &DeviceKey, now: Now) -> Option<Live> {
        let device = self.devices.get(key).filter(|device| !device.kept.is_empty())?;
        let newest = device.order.newest()?;
        (!device.is_paused(newest, now.instant)).then(|| newest.clone())
    }

    /// Returns the first commands of a device's queue, of those in the given hold, as many as a connection may get. None
    /// overtakes one of which is not known what became of it elsewhere.
    fn next_for(&self, key: &DeviceKey, newest: &Live, hold: Hold) -> Vec<EventId> {
        let limit = match newest.takes {
            Takes::One => 1,
            Takes::Batch(most) => self.settings.batch_commands.min(most.max(1) as usize),
            Takes::Many => self.settings.batch_commands,
        };
        let (mut chosen, mut bytes) = (Vec::new(), 0);
        let Some(device) = self.devices.get(key) else { return chosen };
        let all = device.kept.iter().filter_map(|(_, id)| Some((id, self.commands.get(id)?)));
        for (id, entry) in all {
            match &entry.hold {
                held if *held == hold => {
                    bytes += entry.size;
                    if chosen.len() == limit || (bytes > self.settings.batch_bytes && !chosen.is_empty()) {
                        break;
                    }
                    chosen.push(id.clone());
                }
                Hold::Owned(owner) if *owner == newest.id && newest.takes == Takes::Many => {}
                // It will never be delivered.
                Hold::Ending | Hold::Decided | Hold::Settled => {}
                // One handover at a time.
                Hold::Asked | Hold::Sent(_) => return Vec::new(),
                Hold::Queued | Hold::Unknown | Hold::Owned(_) => break,
                Hold::Unconfirmed | Hold::Looked | Hold::Returned(_) => break,
            }
        }
        chosen
    }

    /// Takes the ledger's answer to an [`Effect`] that asks about `ids`. Those without a row have none among `rows`.
    pub fn handle_rows(&mut self, ids: &[EventId], rows: Vec<Row>, now: Now) {
        self.note_time(now);
        if self.acting().is_none() {
            return;
        }
        let mut rows: HashMap<_, _> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        let mut devices: Vec<DeviceKey> = Vec::new();
        for id in ids {
            let Some(entry) = self.commands.get_mut(id) else { continue };
            let (key, row) = (entry.device.clone(), rows.remove(id));
            match entry.hold {
                Hold::Asked => self.asked(id, row, &key, &mut devices),
                Hold::Ending => self.ended(id, row, now),
                Hold::Looked => self.looked(id, row, now),
                Hold::Unknown | Hold::Owned(_) | Hold::Queued | Hold::Unconfirmed | Hold::Sent(_) => {}
                Hold::Returned(_) | Hold::Decided | Hold::Settled => {}
            }
        }
        for key in devices {
            self.send(&key, now);
        }
    }

    fn asked(&mut self, id: &EventId, row: Option<Row>, key: &DeviceKey, devices: &mut Vec<DeviceKey>) {
        let Some(entry) = self.commands.get_mut(id) else { return };
        match row {
            Some(row) if row.state.is_settled() => self.ended_by(&row),
            Some(row) if row.handed && row.attempt == entry.attempt + 1 && row.content.is_some() => {
                entry.size = row.content.as_ref().map_or(0, |content| content.payload.len());
                entry.content = row.content;
            }
            Some(row) if row.handed => {
                // For an attempt that came to nothing.
                entry.attempt = entry.attempt.max(row.attempt);
                entry.returned = Some(row.attempt);
                entry.hold = Hold::Queued;
                self.mark_dirty(id);
            }
            Some(_) | None => entry.hold = Hold::Queued,
        }
        if !devices.contains(key) {
            devices.push(key.clone());
        }
    }

    /// Hands over what the ledger gave, as far as it can still be handed over.
    fn send(&mut self, key: &DeviceKey, now: Now) {
        let Some(epoch) = self.acting() else { return };
        let receiver = self.receiver(key, now);
        let chosen =
            receiver.as_ref().map(|newest| self.next_for(key, newest, Hold::Asked)).unwrap_or_default();
        let mut commands = Vec::with_capacity(chosen.len());
        for id in &chosen {
            let Some(entry) = self.commands.get_mut(id) else { continue };
            let Some(content) = entry.content.take() else { continue };
            entry.hold = Hold::Sent(entry.attempt + 1);
            commands.push(Given {
                command: id.clone(),
                attempt: entry.attempt + 1,
                name: entry.name.clone(),
                expires: entry.expires.as_millis(),
                kept: true,
                content_type: content.content_type,
                payload: content.payload,
            });
        }
        if let Some(newest) = receiver.filter(|_| !commands.is_empty()) {
            let record = OrderRecord::Handover(Handover { epoch, id: newest.id, commands });
            self.effects.push_back(Effect::Record { device: key.clone(), record });
        }
        self.put_back(key, now);
    }

    /// Puts back what the ledger gave and nobody takes.
    fn put_back(&mut self, key: &DeviceKey, now: Now) {
        let kept = self.devices.get(key).map(|device| device.kept.as_slice()).unwrap_or_default();
        let left = kept.iter().map(|(_, id)| id.clone());
        let left: Vec<_> =
            left.filter(|id| self.commands.get(id).is_some_and(|e| e.hold == Hold::Asked)).collect();
        for id in &left {
            if let Some(entry) = self.commands.get_mut(id) {
                entry.attempt += 1;
                entry.returned = Some(entry.attempt);
                entry.content = None;
                entry.hold = Hold::Queued;
            }
            self.mark_dirty(id);
        }
        for id in left {
            self.queue(&id, now);
        }
        self.try_hand_over(key, now);
    }

    fn ended(&mut self, id: &EventId, row: Option<Row>, now: Now) {
        match row {
            Some(row) if row.state.is_settled() => self.ended_by(&row),
            Some(_) => {
                // It is another's just now: looked at again before long.
                let Some(entry) = self.commands.get_mut(id) else { return };
                entry.hold = Hold::Queued;
                self.expiries.insert((now.wall.saturating_add(self.settings.retry_first), id.clone()));
            }
            None => {
                let Some(entry) = self.commands.get(id) else { return };
                let (end, attempt) = (entry.lapses(), entry.attempt + 1);
                self.decide(id, end, attempt, now.wall, id.clone());
            }
        }
    }

    /// Tells what the ledger says of the end of a command.
    pub(super) fn ended_by(&mut self, row: &Row) {
        self.tell(&row.id, Hold::Decided, Told::of_end(row));
    }

    fn looked(&mut self, id: &EventId, row: Option<Row>, now: Now) {
        match row {
            Some(row) if row.state.is_settled() => self.ended_by(&row),
            Some(_) => self.queue(id, now),
            None => self.decide(id, (State::Undelivered, Some(Reason::Overflow)), 1, now.wall, id.clone()),
        }
    }
}
