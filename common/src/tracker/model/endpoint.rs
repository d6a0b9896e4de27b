//! A device endpoint that keeps to the rules of `docs/events.md`, and nothing else.

mod reading;

use std::collections::{HashMap, VecDeque};

use super::log::{Item, Log};
use crate::command::Command;
use crate::id::{ConnectionId, ConnectionRef, DeviceKey, EventId};
use crate::order::DeviceOrder;
use crate::outcome::{Confirmation, Reason, Reply, State, Transition};
use crate::records::{Alive, Connected, Disconnected, Given, Lapsed, OrderRecord, Released, Takes};
use crate::sessions::SessionId;

pub(super) const LAPSE_AFTER: u64 = 5_000;
const LOOK: u64 = LAPSE_AFTER * 8 / 10;
const HEARTBEAT: u64 = 1_000;
const ACK_WITHIN: u64 = 3_000;
const QUEUE: usize = 3;

/// A command at a connection.
#[derive(Debug, Clone)]
struct Assigned {
    command: Command,
    attempt: u32,
    /// How far the log was read when it was given.
    given: usize,
    /// When it was written.
    written: u64,
    /// Nothing is reported of it any more but that the device has it.
    given_up: bool,
}

#[derive(Debug)]
pub(super) struct Connection {
    id: ConnectionRef,
    device: DeviceKey,
    takes: Takes,
    client: Option<String>,
    acknowledges: bool,
    until: Option<u64>,
    queue: VecDeque<Assigned>,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) incarnation: EventId,
    next: u64,
    pub(super) read: usize,
    pub(super) outbox: VecDeque<(Item, u64)>,
    orders: HashMap<DeviceKey, DeviceOrder>,
    epoch: u64,
    pub(super) connections: Vec<Connection>,
    in_flight: Vec<(ConnectionRef, Assigned)>,
    /// When the last heartbeat that is acknowledged was sent.
    acknowledged: u64,
    beat: Option<u64>,
    /// It was silent for so long that it calls itself dead: it writes nothing before that is read.
    lapsing: bool,
    pub(super) paused: bool,
}

/// What a new connection offers.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) takes: Takes,
    pub(super) client: Option<String>,
    pub(super) acknowledges: bool,
    pub(super) lasts: u64,
}

impl Endpoint {
    pub(super) fn start(incarnation: &str, log: &Log) -> Self {
        Self {
            incarnation: incarnation.parse().unwrap(),
            next: 1,
            read: log.commands.len(),
            outbox: VecDeque::new(),
            orders: HashMap::new(),
            epoch: 0,
            connections: Vec::new(),
            in_flight: Vec::new(),
            acknowledged: log.millis,
            beat: None,
            lapsing: false,
            paused: false,
        }
    }

    fn put(&mut self, item: Item, log: &Log) {
        self.outbox.push_back((item, log.millis));
    }

    fn record(&mut self, device: &DeviceKey, record: OrderRecord, log: &Log) {
        self.put(Item::Record(device.clone(), record), log);
    }

    /// Publishes what waits, in order, and takes the acknowledgements.
    pub(super) fn flush(&mut self, most: usize, log: &mut Log) {
        for _ in 0..most {
            let Some((item, sent)) = self.outbox.pop_front() else { break };
            if matches!(&item, Item::Record(_, OrderRecord::Alive(_))) {
                self.doubt_itself(log);
                self.acknowledged = self.acknowledged.max(sent);
            }
            log.append(self.incarnation.as_str(), item);
        }
    }

    /// Calls itself dead if it was silent for too long: a tracker that never heard of it counts on that.
    fn doubt_itself(&mut self, log: &Log) {
        if self.acknowledged + LAPSE_AFTER <= log.millis && !self.lapsing {
            self.lapsing = true;
            let lapsed = Lapsed { incarnation: self.incarnation.clone(), epoch: None };
            self.record(&DeviceKey::all(), OrderRecord::Lapsed(lapsed), log);
        }
    }

    pub(super) fn connect(&mut self, device: &DeviceKey, offer: Offer, log: &Log) {
        let id = self.next_id();
        let until = (offer.takes != Takes::Many).then_some(log.millis + offer.lasts);
        let client = offer.client.filter(|_| offer.takes == Takes::Many);
        let connection = Connection {
            id,
            device: device.clone(),
            takes: offer.takes,
            client,
            acknowledges: offer.acknowledges && offer.takes == Takes::Many,
            until,
            queue: VecDeque::new(),
        };
        self.announce(&connection, log);
        self.connections.push(connection);
    }

    fn next_id(&mut self) -> ConnectionRef {
        self.next += 1;
        ConnectionRef { incarnation: self.incarnation.clone(), connection: ConnectionId(self.next) }
    }

    fn announce(&mut self, connection: &Connection, log: &Log) {
        let record = self.connected(connection);
        self.record(&connection.device, OrderRecord::Connected(record), log);
    }

    fn connected(&self, connection: &Connection) -> Connected {
        Connected {
            id: connection.id.clone(),
            session: SessionId(0),
            client: connection.client.clone(),
            protocol: "test".to_owned(),
            takes: connection.takes,
            until: None,
            repeats: None,
        }
    }

    /// Ends a connection, for any reason but a lapse.
    pub(super) fn close(&mut self, at: usize, log: &Log) {
        if at >= self.connections.len() {
            return;
        }
        let connection = self.connections.remove(at);
        let id = connection.id.clone();
        let all = std::mem::take(&mut self.in_flight);
        let (mine, others) = all.into_iter().partition::<Vec<_>, _>(|(owner, _)| *owner == id);
        self.in_flight = others;
        for (_, assigned) in mine.into_iter().filter(|(_, assigned)| !assigned.given_up) {
            self.failed(&id, assigned, Reason::ConnectionLost, log);
        }
        for assigned in connection.queue {
            self.give_back(&id, assigned, None, log);
        }
        self.record(&connection.device, OrderRecord::Disconnected(Disconnected { id }), log);
    }

    fn give_back(&mut self, id: &ConnectionRef, assigned: Assigned, reason: Option<Reason>, log: &Log) {
        let given = Given::of(&assigned.command, assigned.attempt);
        let record = Released { id: id.clone(), given, reason };
        self.record(&assigned.command.device, OrderRecord::Released(record), log);
    }

    fn failed(&mut self, id: &ConnectionRef, assigned: Assigned, reason: Reason, log: &Log) {
        if assigned.command.kept {
            self.give_back(id, assigned, Some(reason), log);
        } else {
            self.report(&assigned, State::Undelivered, Some(reason), log);
        }
    }

    fn report(&mut self, assigned: &Assigned, state: State, reason: Option<Reason>, log: &Log) {
        let reply = Reply { status: 200, content_type: "a/b".to_owned(), payload: "ok".into() };
        let transition = Transition {
            command: assigned.command.id.clone(),
            device: assigned.command.device.clone(),
            name: assigned.command.name.clone(),
            attempt: assigned.attempt,
            state,
            reason,
            confirmation: (state == State::Delivered).then_some(Confirmation::Written),
            time: log.wall(),
            cause: assigned.command.id.clone(),
            reply: (state == State::Replied).then_some(reply),
        };
        self.put(Item::Outcome(transition), log);
    }

    fn assign(&mut self, id: &ConnectionRef, given: Given, device: &DeviceKey, log: &Log) {
        let attempt = given.attempt;
        let command = given.into_command(device.clone()).unwrap();
        let assigned = Assigned { command, attempt, given: self.read, written: 0, given_up: false };
        match self.connections.iter_mut().find(|connection| connection.id == *id) {
            None => self.give_back(id, assigned, None, log),
            Some(connection) if connection.queue.len() >= QUEUE => {
                self.failed(id, assigned, Reason::Overflow, log);
            }
            Some(connection) => connection.queue.push_back(assigned),
        }
    }

    /// Writes the next command of a connection to the device, if it may.
    pub(super) fn write(&mut self, at: usize, log: &mut Log) {
        self.doubt_itself(log);
        if self.lapsing || log.millis >= self.acknowledged + LOOK {
            return;
        }
        let Some(connection) = self.connections.get_mut(at) else { return };
        let Some(mut assigned) = connection.queue.pop_front() else { return };
        let (id, acknowledges) = (connection.id.clone(), connection.acknowledges);
        if assigned.command.is_expired(log.wall()) {
            if assigned.command.kept && assigned.attempt > 1 {
                self.give_back(&id, assigned, None, log);
            } else {
                self.report(&assigned, State::Expired, None, log);
            }
        } else {
            assigned.written = log.millis;
            log.saw(&assigned.command, assigned.attempt, &id, assigned.given);
            if acknowledges {
                self.in_flight.push((id, assigned));
            } else {
                self.report(&assigned, State::Delivered, None, log);
            }
        }
        let done = |connection: &Connection| connection.takes != Takes::Many && connection.queue.is_empty();
        if self.connections.get(at).is_some_and(done) {
            // The order has ended it.
            self.connections.remove(at);
        }
    }

    pub(super) fn acknowledge(&mut self, at: usize, log: &Log) {
        if at < self.in_flight.len() {
            let (_, assigned) = self.in_flight.remove(at);
            self.report(&assigned, State::Delivered, None, log);
        }
    }

    /// A device replies to what it has not acknowledged yet.
    pub(super) fn reply(&mut self, at: usize, log: &Log) {
        if let Some((_, assigned)) = self.in_flight.get(at).cloned() {
            self.report(&assigned, State::Replied, None, log);
        }
    }

    pub(super) fn handle_time(&mut self, log: &Log) {
        self.doubt_itself(log);
        if self.beat.is_none_or(|beat| beat + HEARTBEAT <= log.millis) {
            self.beat = Some(log.millis);
            let alive = OrderRecord::Alive(Alive { incarnation: self.incarnation.clone() });
            self.record(&DeviceKey::all(), alive, log);
        }
        let late = |assigned: &Assigned| !assigned.given_up && assigned.written + ACK_WITHIN <= log.millis;
        let mut failed = Vec::new();
        for (id, assigned) in self.in_flight.iter_mut().filter(|(_, assigned)| late(assigned)) {
            assigned.given_up = true;
            failed.push((id.clone(), assigned.clone()));
        }
        for (id, assigned) in failed {
            self.failed(&id, assigned, Reason::NoAck, log);
        }
        let over = |connection: &Connection| connection.until.is_some_and(|until| until <= log.millis);
        while let Some(at) = self.connections.iter().position(over) {
            self.close(at, log);
        }
    }

    /// Ends all sessions, and says so once everything else is said.
    pub(super) fn shut_down(&mut self, log: &mut Log) {
        while !self.connections.is_empty() {
            self.close(0, log);
        }
        let lapsed = Lapsed { incarnation: self.incarnation.clone(), epoch: None };
        self.record(&DeviceKey::all(), OrderRecord::Lapsed(lapsed), log);
        self.flush(usize::MAX, log);
    }
}
