//! The records of connections.

use super::entry::Hold;
use super::{PartitionTracker, Recorded};
use crate::connections::Now;
use crate::id::{ConnectionRef, DeviceKey, EventId};
use crate::order::Began;
use crate::outcome::{Reason, State};
use crate::records::{Disconnected, Given, Handover, Lapsed, OrderRecord};
use crate::time::Timestamp;

impl PartitionTracker {
    /// Takes a record of connections.
    pub fn handle_record(&mut self, recorded: Recorded, now: Now) {
        self.note_time(now);
        self.note_place(recorded.place);
        let Recorded { id, device, place, time, record } = recorded;
        match record {
            OrderRecord::Connected(record) => {
                self.heard(&record.id.incarnation, now);
                // Who was not there from the beginning lacks what is repeated.
                let lacking = record.repeats.filter(|place| !self.complete && Some(*place) < self.first);
                let known = self.devices.entry(device.clone()).or_default();
                let began = match lacking {
                    Some(place) => known.order.repeated(&record, place),
                    None => known.order.connected(&record, place),
                };
                if began == Began::Ignored {
                    return;
                }
                known.ended(time);
                known.began(&record, time);
                known.resume();
                self.try_hand_over(&device, now);
            }
            OrderRecord::Disconnected(Disconnected { id }) => {
                self.heard(&id.incarnation, now);
                let Some(known) = self.devices.get_mut(&device) else { return };
                if known.order.disconnected(&id).is_some() {
                    known.ended(time);
                    // Another connection may be the newest now.
                    self.try_hand_over(&device, now);
                }
            }
            OrderRecord::Released(record) => {
                self.heard(&record.id.incarnation, now);
                self.released(record, &id, now);
            }
            OrderRecord::Handover(record) => self.handover(record, &device, time, now),
            OrderRecord::Alive(record) => self.heard(&record.incarnation, now),
            OrderRecord::Lapsed(record) => self.lapsed(&record, &id, time, now),
            OrderRecord::Announce(record) => self.announce(record, now),
            OrderRecord::Announced(record) => {
                self.heard(&record.incarnation, now);
                if let Some(replica) = self.replicas.get_mut(&record.incarnation) {
                    replica.announced = replica.announced.max(record.epoch);
                }
            }
        }
    }

    /// Notes the epoch of a record. Tells whether it is one of a tracker that has no successor yet.
    pub(super) fn is_current(&mut self, epoch: u64) -> bool {
        if epoch < self.highest_epoch {
            return false;
        }
        self.highest_epoch = epoch;
        if self.epoch().is_some_and(|own| own < epoch) {
            self.stop_acting();
        }
        true
    }

    fn handover(&mut self, record: Handover, key: &DeviceKey, time: Timestamp, now: Now) {
        if !self.is_current(record.epoch) {
            return;
        }
        let device = self.devices.entry(key.clone()).or_default();
        // Whoever does not know all connections believes whoever did.
        let effective = device.order.handover(&record.id) || !self.complete;
        device.ended(time);
        for given in record.commands {
            self.given(&record.id, given, effective, now);
        }
        self.try_hand_over(key, now);
    }

    fn given(&mut self, connection: &ConnectionRef, given: Given, effective: bool, now: Now) {
        let id = given.command;
        let Some(entry) = self.commands.get_mut(&id) else { return };
        // Of one that was found in the ledger, this may be the attempt that is known.
        let known = if entry.hold == Hold::Unknown { entry.attempt.saturating_sub(1) } else { entry.attempt };
        if given.attempt <= known {
            return;
        }
        // It may have been read here before the outcome that says that the last attempt was over.
        let waits = match &entry.hold {
            Hold::Queued | Hold::Looked | Hold::Asked | Hold::Ending | Hold::Sent(_) | Hold::Returned(_) => {
                true
            }
            Hold::Unconfirmed | Hold::Owned(_) | Hold::Unknown => true,
            Hold::Decided | Hold::Settled => false,
        };
        if !waits {
            return;
        }
        entry.attempt = given.attempt;
        if effective {
            entry.hold = Hold::Owned(connection.clone());
            entry.orphaned = None;
        } else if let Hold::Returned(returned) = &mut entry.hold {
            returned.sent = false;
            self.pass_on(&id, now);
        } else if entry.kept {
            entry.returned = Some(given.attempt);
            self.mark_dirty(&id);
            self.queue(&id, now);
        }
    }

    /// Ends the connections of a replica, and gives up or takes back what they owned.
    fn lapsed(&mut self, record: &Lapsed, cause: &EventId, time: Timestamp, now: Now) {
        if record.epoch.is_some_and(|epoch| !self.is_current(epoch)) {
            return;
        }
        self.replicas.remove(&record.incarnation);
        let mut changed = Vec::new();
        for (key, device) in &mut self.devices {
            if !device.order.lapsed(&record.incarnation).is_empty() {
                device.ended(time);
                changed.push(key.clone());
            }
        }
        let is_its = |owner: &ConnectionRef| owner.incarnation == record.incarnation;
        let owned = self.commands.iter().filter(|(_, entry)| entry.hold.owner().is_some_and(is_its));
        let mut owned: Vec<_> = owned.map(|(id, entry)| (entry.place, id.clone())).collect();
        owned.sort_unstable();
        for (_, id) in owned {
            self.lose(&id, cause, now);
        }
        for key in changed {
            self.try_hand_over(&key, now);
        }
    }

    /// Gives up on the owner of a command: the device may have it or not.
    pub(super) fn lose(&mut self, id: &EventId, cause: &EventId, now: Now) {
        let Some(entry) = self.commands.get(id) else { return };
        let lost = Some(Reason::ConnectionLost);
        if entry.kept {
            let owner = entry.hold.owner().cloned();
            self.wait_again(id, lost, owner, cause, now);
        } else {
            self.decide(id, (State::Undelivered, lost), entry.attempt.max(1), now.wall, cause.clone());
        }
    }
}
