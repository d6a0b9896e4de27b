//! The connection table: the ways in which this replica can hand commands to devices.
//!
//! A state machine without I/O, fed with the records of the devices that are connected here. The order of the log says
//! which connection owns a command ([`DeviceOrder`](crate::order::DeviceOrder)); the table keeps what is this replica's
//! own: which of its connections are open, and what they hold for their owners. Its methods are atomic under the lock of
//! whoever owns it; that decides every race: a command is either taken by its connection's owner or given back to the
//! log, never both.
//!
//! A device is held from the first of its connections on, and until the log has ended the last: a command that the order
//! gives to a connection that is just closing must be given back.
//!
//! Invariants: an assigned command is in exactly one queue; a queue is in the order of the log; only what the order gives
//! to a connection of this replica is assigned; what lies before a lapse of this replica is taken by nobody behind it.

mod device;

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::channel::{Partition, Place};
use crate::command::Command;
use crate::id::{ConnectionId, ConnectionRef, DeviceKey, EventId};
use crate::outcome::{Outcome, Reason, Transition};
use crate::records::{Connected, Disconnected, Given, Handover, Released, Takes};
use crate::sessions::SessionId;
use crate::time::Timestamp;
use device::{Connection, Device};

/// What the clocks show: the monotonic one for waits, the wall clock for expiries.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic time.
    pub instant: Instant,
    /// Wall-clock time.
    pub wall: Timestamp,
}

/// What a replica looks at before it judges a command.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// The time.
    pub now: Now,
    /// Whether nobody can have declared this replica dead: its last heartbeat is young. Else what it owns may be another's
    /// already, and waits.
    pub alive: bool,
}

/// How many commands a connection takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// One, which ends it: an HTTP wait.
    One,
    /// One, or at most so many that were pending, which ends it: an HTTP wait for a batch.
    Batch(u32),
    /// Any number, of which so many may wait to be taken: an MQTT session.
    Queue(usize),
}

impl From<Capacity> for Takes {
    fn from(capacity: Capacity) -> Self {
        match capacity {
            Capacity::One => Self::One,
            Capacity::Batch(most) => Self::Batch(most),
            Capacity::Queue(_) => Self::Many,
        }
    }
}

/// What a connection offers.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How many commands it takes.
    pub capacity: Capacity,
    /// From when on it takes none any more.
    pub deadline: Option<Instant>,
}

/// Whose connection it is, as its record says.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its session on this replica.
    pub session: SessionId,
    /// The client id of the session, if its protocol has such.
    pub client: Option<Arc<str>>,
    /// The protocol by which the device came.
    pub protocol: &'static str,
    /// When it ends, for people.
    pub until: Option<Timestamp>,
}

/// Identifies a connection for its owner on this replica. In the log it has another id with every announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

/// A command that a connection of this replica owns.
#[derive(Debug, Clone, PartialEq)]
pub struct Assigned {
    /// The command.
    pub command: Command,
    /// The how-manieth connection this is that got it.
    pub attempt: u32,
    /// The event by which it got it.
    pub cause: EventId,
    /// The connection, as the log knows it.
    pub id: ConnectionRef,
}

impl Assigned {
    /// Makes the record that gives the command back.
    pub fn released(self, reason: Option<Reason>) -> Released {
        Released { id: self.id, given: Given::of(&self.command, self.attempt), reason }
    }

    /// Tells what became of the command.
    pub fn transition(&self, outcome: Outcome, time: Timestamp) -> Transition {
        Transition {
            command: self.command.id.clone(),
            device: self.command.device.clone(),
            name: self.command.name.clone(),
            attempt: self.attempt,
            state: outcome.state(),
            reason: outcome.reason(),
            confirmation: outcome.confirmation(),
            time,
            cause: self.cause.clone(),
            reply: None,
        }
    }
}

/// What must be done after a change of the table, in this order.
#[derive(Debug)]
pub enum Effect {
    /// A connection has something to take, or is at its end: wake whoever waits for it.
    Wake(Waker),
    /// A command came to its end at a connection.
    Ended(Assigned, Outcome),
    /// A connection gives a command back of which nothing was written: the log must say so.
    Released(Assigned),
    /// A connection is closed: the log must say so.
    Disconnected(DeviceKey, ConnectionRef),
    /// The log ended a connection that is still open: it must be [announced](ConnectionTable::announce) anew.
    AnnounceAnew(DeviceKey, Handle),
    /// A newer connection of the same client, but of another session, ended this one.
    TakenOver {
        /// The device.
        device: DeviceKey,
        /// The connection that ended. If the newer one is of this replica too, it can be announced anew.
        handle: Handle,
        /// Its session.
        session: SessionId,
        /// Whether the newer one is of this replica too.
        here: bool,
    },
}

/// What a connection holds for its owner.
#[derive(Debug, PartialEq)]
pub enum Taken {
    /// A command, to be delivered.
    Command(Assigned),
    /// A command that lapsed while it waited to be taken. Take again.
    Expired(Assigned),
    /// There is something, but for as long as this replica is not known to live nobody may take it; the waker is called
    /// by [`ConnectionTable::wakers`].
    Withheld,
    /// Nothing yet; the waker is called when that changes.
    Nothing,
    /// The connection is at its end, and nothing will come.
    Ended,
}

/// Says that a device holds as many connections on this replica as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyConnections;

/// How many earlier starts of this replica are remembered, for records of theirs that are read late.
const STARTS: usize = 8;

/// The connections that this replica holds, by device.
#[derive(Debug, Default)]
pub struct ConnectionTable {
    devices: HashMap<DeviceKey, Device>,
    /// The starts of this replica, the present one last.
    own: Vec<EventId>,
}

impl ConnectionTable {
    /// Notes a start of this replica: connections are announced as its own from here on.
    pub fn start(&mut self, incarnation: EventId) {
        if self.own.len() == STARTS {
            self.own.remove(0);
        }
        self.own.push(incarnation);
    }

    /// Tells whether records of a device matter here, by their key.
    pub fn holds(&self, key: &[u8]) -> bool {
        self.devices.contains_key(key)
    }

    /// Adds a connection. It takes no commands before it is announced, and its record read.
    ///
    /// # Errors
    /// Fails if the device already has `limit` connections here.
    pub fn connect(
        &mut self,
        device: DeviceKey,
        handle: Handle,
        terms: Terms,
        origin: Origin,
        limit: usize,
    ) -> Result<(), TooManyConnections> {
        let held = self.devices.entry(device).or_default();
        if held.open() >= limit.max(1) {
            return Err(TooManyConnections);
        }
        held.connections.push(Connection::new(handle, terms, origin));
        Ok(())
    }

    /// Gives a connection its id in the log, and returns the record that must be written. `None` if that is of no use.
    ///
    /// The ids of a device must rise in the order of the records.
    pub fn announce(
        &mut self,
        device: &DeviceKey,
        handle: Handle,
        id: ConnectionId,
        now: Now,
    ) -> Option<Connected> {
        let incarnation = self.own.last()?.clone();
        let connection = self.devices.get_mut(device)?.find(handle)?;
        connection.announce(ConnectionRef { incarnation, connection: id }, now)
    }

    /// Takes the next command of a connection, or leaves a waker.
    pub fn take(&mut self, device: &DeviceKey, handle: Handle, waker: &Waker, look: Look) -> Taken {
        let connection = self.devices.get_mut(device).and_then(|held| held.find(handle));
        connection.map_or(Taken::Ended, |connection| connection.take(waker, look))
    }

    /// Closes a connection, and no other. What it held is given back.
    ///
    /// The log is told, unless `quietly`: then only if it turns out to matter, because a command is given to it.
    pub fn disconnect(
        &mut self,
        device: &DeviceKey,
        handle: Handle,
        look: Look,
        quietly: bool,
    ) -> Vec<Effect> {
        self.change(device, |held, _| held.close(device, handle, look, quietly))
    }

    /// Takes the record of a connection, of whichever replica.
    pub fn connected(
        &mut self,
        device: &DeviceKey,
        record: &Connected,
        partition: Partition,
        place: Place,
    ) -> Vec<Effect> {
        self.change(device, |held, own| {
            held.partition = Some(partition);
            held.connected(device, record, place, own)
        })
    }

    /// Takes the record that a connection has ended, on whichever replica.
    pub fn disconnected(&mut self, device: &DeviceKey, record: &Disconnected) -> Vec<Effect> {
        self.change(device, |held, _| held.disconnected(&record.id))
    }

    /// Takes a command, which the newest connection owns unless it is kept.
    pub fn command(&mut self, command: Command, look: Look) -> Vec<Effect> {
        let device = command.device.clone();
        self.change(&device, |held, own| match command.kept {
            true => Vec::new(),
            false => held.command(command, own, look),
        })
    }

    /// Takes the record by which a connection is given commands; `cause` is the id of its event.
    pub fn handover(
        &mut self,
        device: &DeviceKey,
        record: Handover,
        cause: &EventId,
        look: Look,
    ) -> Vec<Effect> {
        self.change(device, |held, own| held.handover(device, record, cause, own, look))
    }

    /// Takes the record that the connections of a replica in a partition have ended.
    ///
    /// What those of this replica own and nobody has taken yet is dropped: it is the tracker's now.
    pub fn lapsed(&mut self, partition: Partition, incarnation: &EventId) -> Vec<Effect> {
        let (mut effects, own) = (Vec::new(), &self.own);
        self.devices.retain(|device, held| {
            if held.partition == Some(partition) {
                effects.extend(held.lapsed(device, incarnation));
            }
            !held.is_over(own)
        });
        effects
    }

    /// Returns the records of all connections in a partition, to be written once more.
    pub fn repeat(&mut self, partition: Partition) -> Vec<(DeviceKey, Connected)> {
        let there = self.devices.iter_mut().filter(|(_, held)| held.partition == Some(partition));
        there.flat_map(|(device, held)| held.repeat().map(|record| (device.clone(), record))).collect()
    }

    /// Ends all connections, as records may have been missed, and notes the replica's new start. The one before must be
    /// declared lapsed.
    pub fn interrupt(&mut self, incarnation: EventId) -> Vec<Effect> {
        self.start(incarnation);
        let (mut effects, own) = (Vec::new(), &self.own);
        self.devices.retain(|device, held| {
            effects.extend(held.interrupt(device));
            !held.is_over(own)
        });
        effects
    }

    /// Returns whom to wake when what was [withheld](Taken::Withheld) may be taken.
    pub fn wakers(&mut self) -> Vec<Waker> {
        let connections = self.devices.values_mut().flat_map(|held| &mut held.connections);
        connections.filter_map(Connection::withheld).collect()
    }

    /// Changes a device that is held, and holds it no longer if that ended the last of its connections.
    fn change(
        &mut self,
        device: &DeviceKey,
        change: impl FnOnce(&mut Device, &[EventId]) -> Vec<Effect>,
    ) -> Vec<Effect> {
        let Some(held) = self.devices.get_mut(device) else { return Vec::new() };
        let effects = change(held, &self.own);
        if held.is_over(&self.own) {
            self.devices.remove(device);
        }
        effects
    }
}

#[cfg(test)]
mod tests;
