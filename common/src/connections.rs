//! The connection table: the ways in which this replica can hand commands to devices.
//!
//! A state machine without I/O. Its methods are atomic under the lock of whoever owns it; that decides every race: a
//! command is either assigned to a connection before the connection ends, and then the one who ends it finds it, or
//! the connection is gone and the command goes to the next newest.
//!
//! A connection takes commands from where its record lies in the log of commands. What lies before was for the device's
//! connections of then, on whichever replica: a replica that reads slower than another must not deliver it once more.
//!
//! Invariants: an assigned command is in exactly one queue; a connection's queue is in the order in which commands
//! came; a connection of [`Capacity::One`] gets one command and is thereby ended.

use std::collections::{HashMap, VecDeque};
use std::task::Waker;
use std::time::Instant;

use crate::command::Command;
use crate::id::{ConnectionId, DeviceKey};
use crate::outcome::{Outcome, Reason};
use crate::time::Timestamp;

/// What the clocks show: the monotonic one for waits, the wall clock for expiries.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic time.
    pub instant: Instant,
    /// Wall-clock time.
    pub wall: Timestamp,
}

/// How many commands a connection takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// One, which ends it: an HTTP wait.
    One,
    /// Any number, of which so many may wait to be taken: an MQTT session.
    Queue(usize),
}

/// What a connection offers.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How many commands it takes.
    pub capacity: Capacity,
    /// From when on it takes none any more.
    pub deadline: Option<Instant>,
}

/// A command that was given to a connection, with its place in the order of all commands of this table.
#[derive(Debug, Clone, PartialEq)]
pub struct Assigned {
    sequence: u64,
    /// The command.
    pub command: Command,
}

/// What must be done after a change of the table.
#[derive(Debug)]
pub enum Effect {
    /// A connection has something to take: wake whoever waits for it. `None`: nobody waits just now.
    Assigned(ConnectionId, Option<Waker>),
    /// A command came to its end.
    Ended(Command, Outcome),
}

/// What a connection holds for its owner.
#[derive(Debug, PartialEq)]
pub enum Taken {
    /// A command, to be delivered.
    Command(Assigned),
    /// A command that lapsed while it waited to be taken. Take again.
    Expired(Command),
    /// Nothing yet; the waker is called when that changes.
    Nothing,
    /// The connection is at its end, and nothing will come.
    Ended,
}

/// Says that a device holds as many connections on this replica as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyConnections;

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    terms: Terms,
    /// Its record was read.
    recorded: bool,
    queue: VecDeque<Assigned>,
    waker: Option<Waker>,
}

impl Connection {
    fn is_open(&self, now: Now) -> bool {
        let in_time = self.terms.deadline.is_none_or(|deadline| now.instant < deadline);
        let free = match self.terms.capacity {
            Capacity::One => self.queue.is_empty(),
            Capacity::Queue(_) => true,
        };
        in_time && free
    }

    fn takes_commands(&self, now: Now) -> bool {
        self.recorded && self.is_open(now)
    }

    fn is_full(&self) -> bool {
        match self.terms.capacity {
            Capacity::One => !self.queue.is_empty(),
            Capacity::Queue(limit) => self.queue.len() >= limit,
        }
    }
}

/// The connections that this replica holds, by device; of each device in the order of their records.
#[derive(Debug, Default)]
pub struct ConnectionTable {
    devices: HashMap<DeviceKey, Vec<Connection>>,
    next_sequence: u64,
}

impl ConnectionTable {
    /// Tells whether a device has a connection here, by the key of a record.
    pub fn holds(&self, key: &[u8]) -> bool {
        self.devices.contains_key(key)
    }

    /// Returns the number of devices that have a connection here.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Adds a connection. It takes no commands before its record is read.
    ///
    /// # Errors
    /// Fails if the device already has `limit` connections here.
    pub fn connect(
        &mut self,
        device: DeviceKey,
        id: ConnectionId,
        terms: Terms,
        limit: usize,
    ) -> Result<(), TooManyConnections> {
        // Most devices have one connection, and there may be hundreds of thousands of them.
        let connections = self.devices.entry(device).or_insert_with(|| Vec::with_capacity(1));
        if connections.len() >= limit.max(1) {
            return Err(TooManyConnections);
        }
        connections.push(Connection { id, terms, recorded: false, queue: VecDeque::new(), waker: None });
        Ok(())
    }

    /// Notes that the record of a connection was read: from here on it takes commands, as the newest of its device.
    pub fn recorded(&mut self, device: &DeviceKey, id: ConnectionId) {
        let Some(connections) = self.devices.get_mut(device) else { return };
        if let Some(place) = connections.iter().position(|connection| connection.id == id) {
            connections[place].recorded = true;
            connections[place..].rotate_left(1);
        }
    }

    /// Gives a command to the newest connection of its device that takes commands.
    pub fn deliver(&mut self, command: Command, now: Now) -> Effect {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.offer(Assigned { sequence, command }, now)
    }

    /// Takes the next command of a connection, or leaves a waker. A connection of [`Capacity::One`] ends with it.
    pub fn take(&mut self, device: &DeviceKey, id: ConnectionId, waker: &Waker, now: Now) -> Taken {
        let Some(connection) = self.find(device, id) else { return Taken::Ended };
        if let Some(assigned) = connection.queue.pop_front() {
            if assigned.command.is_expired(now.wall) {
                return Taken::Expired(assigned.command);
            }
            if connection.terms.capacity == Capacity::One {
                self.remove(device, id);
            }
            return Taken::Command(assigned);
        }
        if connection.is_open(now) {
            connection.waker = Some(waker.clone());
            return Taken::Nothing;
        }
        self.remove(device, id);
        Taken::Ended
    }

    /// Gives back a command that was taken and of which nothing was written to the device.
    pub fn release(&mut self, assigned: Assigned, now: Now) -> Effect {
        self.offer(assigned, now)
    }

    /// Ends a connection, and no other. What it held goes to the next newest.
    pub fn disconnect(&mut self, device: &DeviceKey, id: ConnectionId, now: Now) -> Vec<Effect> {
        let left = self.remove(device, id);
        left.into_iter().map(|assigned| self.offer(assigned, now)).collect()
    }

    fn offer(&mut self, assigned: Assigned, now: Now) -> Effect {
        let ended = |assigned: Assigned, outcome| Effect::Ended(assigned.command, outcome);
        if assigned.command.is_expired(now.wall) {
            return ended(assigned, Outcome::Expired);
        }
        let connections = self.devices.get_mut(&assigned.command.device);
        let newest = connections
            .and_then(|all| all.iter_mut().rev().find(|connection| connection.takes_commands(now)));
        match newest {
            None => ended(assigned, Outcome::Undelivered(Reason::NotConnected)),
            Some(full) if full.is_full() => ended(assigned, Outcome::Undelivered(Reason::Overflow)),
            Some(newest) => {
                // A command that comes back from another connection is older than what is queued here.
                let place = newest.queue.partition_point(|other| other.sequence < assigned.sequence);
                newest.queue.insert(place, assigned);
                Effect::Assigned(newest.id, newest.waker.take())
            }
        }
    }

    fn find(&mut self, device: &DeviceKey, id: ConnectionId) -> Option<&mut Connection> {
        self.devices.get_mut(device)?.iter_mut().find(|connection| connection.id == id)
    }

    fn remove(&mut self, device: &DeviceKey, id: ConnectionId) -> VecDeque<Assigned> {
        let Some(connections) = self.devices.get_mut(device) else { return VecDeque::new() };
        let Some(place) = connections.iter().position(|connection| connection.id == id) else {
            return VecDeque::new();
        };
        let removed = connections.remove(place);
        if connections.is_empty() {
            self.devices.remove(device);
        }
        removed.queue
    }
}

#[cfg(test)]
mod tests;
