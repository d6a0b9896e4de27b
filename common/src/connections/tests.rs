//! The connection table over a log in memory: against the order of the whole log, and rule by rule.

mod model;
mod races;
mod rules;

use std::time::Duration;

use super::*;
use crate::event::example;
use crate::records::OrderRecord;

const START: Timestamp = Timestamp::from_millis(1_000_000);
const LIMIT: usize = 3;
const HERE: Partition = Partition(0);

fn device(number: u8) -> DeviceKey {
    DeviceKey::from_bytes(format!("a/{number}").as_bytes()).unwrap()
}

fn incarnation(name: &str) -> EventId {
    name.parse().unwrap()
}

fn elsewhere(connection: u64) -> ConnectionRef {
    ConnectionRef { incarnation: incarnation("elsewhere"), connection: ConnectionId(connection) }
}

/// A record of the log: a command, or what is said of connections.
#[derive(Debug, Clone)]
enum Entry {
    Command(Command),
    Record(DeviceKey, OrderRecord),
}

/// A replica: its table, a log that it shares with one elsewhere, and clocks.
struct Replica {
    table: ConnectionTable,
    log: Vec<Entry>,
    read: usize,
    start: Instant,
    millis: u64,
    alive: bool,
    next: u64,
    /// What became of commands here, beside those that were taken.
    fates: Vec<(String, &'static str)>,
    /// The sessions that the log has ended.
    taken_over: Vec<SessionId>,
}

impl Replica {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other origin; only differences are used"
    )]
    fn new() -> Self {
        let mut table = ConnectionTable::default();
        table.start(incarnation("here"));
        Self {
            table,
            log: Vec::new(),
            read: 0,
            start: Instant::now(),
            millis: 0,
            alive: true,
            next: 0,
            fates: Vec::new(),
            taken_over: Vec::new(),
        }
    }

    fn wall(&self, millis: u64) -> Timestamp {
        START.saturating_add(Duration::from_millis(millis))
    }

    fn look(&self) -> Look {
        let passed = Duration::from_millis(self.millis);
        let now = Now { instant: self.start + passed, wall: self.wall(self.millis) };
        Look { now, alive: self.alive }
    }

    /// Opens a connection and writes its record, which is yet to be read.
    fn open(
        &mut self,
        device: &DeviceKey,
        capacity: Capacity,
        lasts: Option<u64>,
        client: Option<&str>,
    ) -> Option<Handle> {
        self.next += 1;
        let handle = Handle(self.next);
        let deadline = lasts.map(|millis| self.look().now.instant + Duration::from_millis(millis));
        let origin = Origin {
            session: SessionId(handle.0),
            client: client.map(Into::into),
            protocol: "test",
            until: None,
        };
        let terms = Terms { capacity, deadline };
        self.table.connect(device.clone(), handle, terms, origin, LIMIT).ok()?;
        self.announce(device, handle);
        Some(handle)
    }

    fn announce(&mut self, device: &DeviceKey, handle: Handle) {
        self.next += 1;
        let connected = self.table.announce(device, handle, ConnectionId(self.next), self.look().now);
        self.log
            .extend(connected.map(|record| Entry::Record(device.clone(), OrderRecord::Connected(record))));
    }

    /// Opens a connection whose record is read at once.
    fn connect(&mut self, device: &DeviceKey, capacity: Capacity) -> Handle {
        let handle = self.open(device, capacity, None, None).unwrap();
        self.catch_up();
        handle
    }

    fn write(&mut self, device: &DeviceKey, record: OrderRecord) {
        self.log.push(Entry::Record(device.clone(), record));
    }

    /// Writes the record of a connection elsewhere.
    fn connect_elsewhere(&mut self, device: &DeviceKey, connection: u64, client: Option<&str>) {
        let record = Connected {
            id: elsewhere(connection),
            session: SessionId(connection),
            client: client.map(str::to_owned),
            protocol: "test".to_owned(),
            takes: Takes::Many,
            until: None,
            repeats: None,
        };
        self.write(device, OrderRecord::Connected(record));
    }

    fn command(&self, device: &DeviceKey, id: &str, lives: u64) -> Command {
        let expires = self.wall(self.millis + lives);
        let command = Command::from_event(example(), Duration::ZERO).unwrap();
        Command { id: id.parse().unwrap(), device: device.clone(), expires, ..command }
    }

    /// Writes a command that lasts, and reads up to it.
    fn send(&mut self, device: &DeviceKey, id: &str) {
        self.log.push(Entry::Command(self.command(device, id, 1_000)));
        self.catch_up();
    }

    fn send_all(&mut self, device: &DeviceKey, ids: &[&str]) {
        ids.iter().for_each(|id| self.send(device, id));
    }

    /// Writes the record that gives kept commands to a connection, and reads up to it.
    fn hand_over(&mut self, device: &DeviceKey, id: ConnectionRef, commands: &[&str]) {
        let kept = |id: &&str| {
            let command = Command { kept: true, ..self.command(device, id, 1_000) };
            Given::of(&command, 2)
        };
        let handover = Handover { epoch: 1, id, commands: commands.iter().map(kept).collect() };
        self.write(device, OrderRecord::Handover(handover));
        self.catch_up();
    }

    /// Reads the next record, and writes what follows from it.
    fn read(&mut self) -> bool {
        let Some(entry) = self.log.get(self.read).cloned() else { return false };
        let place = Place(self.read as u64);
        self.read += 1;
        let look = self.look();
        let effects = match entry {
            Entry::Command(command) => self.table.command(command, look),
            Entry::Record(device, OrderRecord::Connected(record)) => {
                self.table.connected(&device, &record, HERE, place)
            }
            Entry::Record(device, OrderRecord::Disconnected(record)) => {
                self.table.disconnected(&device, &record)
            }
            Entry::Record(device, OrderRecord::Handover(record)) => {
                let cause = incarnation("cause");
                self.table.handover(&device, record, &cause, look)
            }
            Entry::Record(_, OrderRecord::Lapsed(record)) => self.table.lapsed(HERE, &record.incarnation),
            Entry::Record(
                ..,
                OrderRecord::Released(_)
                | OrderRecord::Alive(_)
                | OrderRecord::Announce(_)
                | OrderRecord::Announced(_),
            ) => Vec::new(),
        };
        self.carry_out(effects);
        true
    }

    fn catch_up(&mut self) {
        while self.read() {}
    }

    fn close(&mut self, device: &DeviceKey, handle: Handle) {
        let effects = self.table.disconnect(device, handle, self.look(), false);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Wake(waker) => waker.wake(),
                Effect::Ended(assigned, outcome) => {
                    let fate = if outcome == Outcome::Expired { "expired" } else { outcome.detail() };
                    self.fates.push((assigned.command.id.to_string(), fate));
                }
                Effect::Released(assigned) => {
                    self.fates.push((assigned.command.id.to_string(), "released"));
                    let device = assigned.command.device.clone();
                    self.write(&device, OrderRecord::Released(assigned.released(None)));
                }
                Effect::Disconnected(device, id) => {
                    self.write(&device, OrderRecord::Disconnected(Disconnected { id }));
                }
                Effect::AnnounceAnew(device, handle) => self.announce(&device, handle),
                Effect::TakenOver { session, .. } => self.taken_over.push(session),
            }
        }
    }

    fn take(&mut self, device: &DeviceKey, handle: Handle) -> Taken {
        self.table.take(device, handle, Waker::noop(), self.look())
    }

    /// Takes a command that must be there, and returns its id.
    fn taken(&mut self, device: &DeviceKey, handle: Handle) -> String {
        let taken = self.take(device, handle);
        let Taken::Command(assigned) = taken else { panic!("{taken:?}") };
        assigned.command.id.to_string()
    }

    /// Returns what became of a command, as far as it ended here without being taken.
    fn fate(&self, id: &str) -> Option<&'static str> {
        let mut fates = self.fates.iter().filter(|(command, _)| command == id);
        let fate = fates.next().map(|(_, fate)| *fate);
        assert!(fates.next().is_none(), "{id} has two fates: {:?}", self.fates);
        fate
    }

    /// Returns the id by which the log knows the connection whose record was written last.
    fn last_id(&self) -> ConnectionRef {
        let ids = self.log.iter().rev().filter_map(|entry| match entry {
            Entry::Record(_, OrderRecord::Connected(record)) => Some(record.id.clone()),
            Entry::Record(..) | Entry::Command(_) => None,
        });
        ids.into_iter().next().unwrap()
    }

    /// Returns how many records in the log end a connection.
    fn ends(&self) -> usize {
        let is_end = |entry: &&Entry| matches!(entry, Entry::Record(_, OrderRecord::Disconnected(_)));
        self.log.iter().filter(is_end).count()
    }

    fn holds(&self, device: &DeviceKey) -> bool {
        self.table.holds(device.as_str().as_bytes())
    }
}
