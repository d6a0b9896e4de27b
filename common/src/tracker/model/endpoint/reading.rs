//! What an endpoint makes of the records that it reads.

use super::super::log::{Item, Log, place};
use super::{Assigned, Endpoint};
use crate::id::DeviceKey;
use crate::order::Began;
use crate::records::{Announced, Connected, Disconnected, Given, Handover, Lapsed, OrderRecord, Takes};

impl Endpoint {
    /// Reads the next records.
    pub(in crate::tracker::model) fn read(&mut self, most: usize, log: &Log) {
        for _ in 0..most {
            let Some(item) = log.commands.get(self.read).cloned() else { break };
            let place = place(self.read);
            self.read += 1;
            match item {
                Item::Command(command, _) => {
                    let order = self.orders.entry(command.device.clone()).or_default();
                    let owner = if command.kept { None } else { order.command() };
                    if let Some(id) = owner.filter(|id| id.incarnation == self.incarnation) {
                        self.assign(&id, Given::of(&command, 1), &command.device, log);
                    }
                }
                Item::Record(device, OrderRecord::Connected(record)) => {
                    self.read_connected(&device, &record, place, log);
                }
                Item::Record(device, OrderRecord::Disconnected(record)) => {
                    self.orders.entry(device).or_default().disconnected(&record.id);
                }
                Item::Record(device, OrderRecord::Handover(record)) => {
                    self.read_handover(&device, record, log)
                }
                Item::Record(_, OrderRecord::Lapsed(record)) => self.read_lapsed(&record, log),
                Item::Record(_, OrderRecord::Announce(record)) => {
                    if self.is_current(record.epoch) && record.repeat {
                        self.repeat(record.epoch, log);
                    }
                }
                Item::Record(
                    _,
                    OrderRecord::Released(_) | OrderRecord::Alive(_) | OrderRecord::Announced(_),
                )
                | Item::Outcome(_) => {}
            }
        }
    }

    fn is_current(&mut self, epoch: u64) -> bool {
        let current = epoch >= self.epoch;
        self.epoch = self.epoch.max(epoch);
        current
    }

    fn read_connected(
        &mut self,
        device: &DeviceKey,
        record: &Connected,
        place: crate::channel::Place,
        log: &Log,
    ) {
        let order = self.orders.entry(device.clone()).or_default();
        let began = order.connected(record, place);
        let is_over = order.get(&record.id).is_none()
            || !self.connections.iter().any(|connection| connection.id == record.id);
        if is_over && record.id.incarnation == self.incarnation {
            let id = record.id.clone();
            self.record(device, OrderRecord::Disconnected(Disconnected { id }), log);
        }
        if let Began::Live(Some(older)) = began
            && let Some(at) = self.connections.iter().position(|connection| connection.id == older.id)
        {
            self.close(at, log);
        }
    }

    fn read_handover(&mut self, device: &DeviceKey, record: Handover, log: &Log) {
        if !self.is_current(record.epoch) {
            return;
        }
        let effective = self.orders.entry(device.clone()).or_default().handover(&record.id);
        if record.id.incarnation != self.incarnation {
            return;
        }
        for given in record.commands {
            if effective {
                self.assign(&record.id, given, device, log);
            } else {
                let attempt = given.attempt;
                let command = given.into_command(device.clone()).unwrap();
                let assigned = Assigned { command, attempt, given: self.read, written: 0, given_up: false };
                self.give_back(&record.id, assigned, None, log);
            }
        }
    }

    fn read_lapsed(&mut self, record: &Lapsed, log: &Log) {
        if record.epoch.is_some_and(|epoch| !self.is_current(epoch)) {
            return;
        }
        for order in self.orders.values_mut() {
            order.lapsed(&record.incarnation);
        }
        if record.incarnation != self.incarnation {
            return;
        }
        self.lapsing &= record.epoch.is_some();
        self.in_flight.iter_mut().for_each(|(_, assigned)| assigned.given_up = true);
        for mut connection in std::mem::take(&mut self.connections) {
            // What it owned is the tracker's now.
            let was_given = !connection.queue.is_empty();
            connection.queue.clear();
            if was_given && connection.takes != Takes::Many {
                continue;
            }
            connection.id = self.next_id();
            self.announce(&connection, log);
            self.connections.push(connection);
        }
    }

    fn repeat(&mut self, epoch: u64, log: &Log) {
        for at in 0..self.connections.len() {
            let connection = &self.connections[at];
            let order = self.orders.get(&connection.device);
            let Some(live) = order.and_then(|order| order.get(&connection.id)) else { continue };
            let record = Connected { repeats: Some(live.place), ..self.connected(connection) };
            let device = connection.device.clone();
            self.record(&device, OrderRecord::Connected(record), log);
        }
        let incarnation = self.incarnation.clone();
        self.record(&DeviceKey::all(), OrderRecord::Announced(Announced { incarnation, epoch }), log);
    }
}
