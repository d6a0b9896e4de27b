//! What is held of one device: its order, and the connections of this replica.

mod connection;

use crate::channel::{Partition, Place};
use crate::command::Command;
use crate::id::{ConnectionRef, DeviceKey, EventId};
use crate::order::{Began, DeviceOrder, Live};
use crate::outcome::Outcome;
use crate::records::{Connected, Handover};

use super::{Assigned, Effect, Handle, Look};
pub(super) use connection::Connection;
use connection::Stage;

/// A device that has, or until just now had, a connection here.
///
/// Its order knows what the log says from its first connection here on. That is enough: whatever ends a connection of
/// this replica, or stands before it, lies behind its own record.
#[derive(Debug)]
pub(super) struct Device {
    /// The partition in which its records lie, once one was read.
    pub(super) partition: Option<Partition>,
    order: DeviceOrder,
    /// The connections of this replica, and those whose end is yet to be read.
    pub(super) connections: Vec<Connection>,
    /// Repeats of their records that are on their way: of connections that may have ended, or got another id, by then.
    unread_repeats: u32,
}

impl Default for Device {
    fn default() -> Self {
        // Most devices have one connection, and there may be hundreds of thousands of them.
        Self {
            partition: None,
            order: DeviceOrder::default(),
            connections: Vec::with_capacity(1),
            unread_repeats: 0,
        }
    }
}

impl Device {
    /// Returns the number of its connections that are open.
    pub(super) fn open(&self) -> usize {
        self.connections.iter().filter(|connection| connection.open).count()
    }

    /// Tells whether nothing that the log says of it can concern this replica, whose starts are `own`: by what was read,
    /// and is on its way, it has no connection here.
    pub(super) fn is_over(&self, own: &[EventId]) -> bool {
        let is_own = |live: &Live| own.contains(&live.id.incarnation);
        self.connections.is_empty() && self.unread_repeats == 0 && !self.order.live().iter().any(is_own)
    }

    /// Finds a connection that is open.
    pub(super) fn find(&mut self, handle: Handle) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.handle == handle && connection.open)
    }

    pub(super) fn close(
        &mut self,
        device: &DeviceKey,
        handle: Handle,
        look: Look,
        quietly: bool,
    ) -> Vec<Effect> {
        let Some(connection) = self.find(handle) else { return Vec::new() };
        connection.open = false;
        connection.waker = None;
        let mut effects = Vec::new();
        if !quietly {
            // Before what it gives back, which another connection gets then.
            effects.extend(connection.say_its_end(device));
        }
        effects.extend(connection.queue.drain(..).map(|assigned| give_back(assigned, look)));
        self.forget();
        effects
    }

    pub(super) fn connected(
        &mut self,
        device: &DeviceKey,
        record: &Connected,
        place: Place,
        own: &[EventId],
    ) -> Vec<Effect> {
        let began = self.order.connected(record, place);
        let here = own.contains(&record.id.incarnation);
        let mut effects = Vec::new();
        if here {
            if record.repeats.is_some() {
                self.unread_repeats = self.unread_repeats.saturating_sub(1);
            }
            let is_live = self.order.get(&record.id).is_some();
            let (holds, anew) = match self.of(&record.id) {
                Some(connection) => connection.recorded(record, is_live),
                None => (false, None),
            };
            if !holds {
                // Who began to read later than this replica may take it for live.
                effects.push(Effect::Disconnected(device.clone(), record.id.clone()));
            }
            effects.extend(anew.map(|handle| Effect::AnnounceAnew(device.clone(), handle)));
        }
        if let Began::Live(Some(older)) = began
            && let Some(connection) = self.of(&older.id)
        {
            let session = connection.origin.session;
            let same_session = here && session == record.session;
            effects.extend(connection.queue.drain(..).map(Effect::Released));
            connection.stage = if here && !same_session { Stage::New } else { Stage::Over };
            if connection.open && !same_session {
                let (device, handle) = (device.clone(), connection.handle);
                effects.push(Effect::TakenOver { device, handle, session, here });
                effects.extend(connection.waker.take().map(Effect::Wake));
            }
        }
        self.forget();
        effects
    }

    pub(super) fn disconnected(&mut self, id: &ConnectionRef) -> Vec<Effect> {
        self.order.disconnected(id);
        let Some(connection) = self.of(id) else { return Vec::new() };
        connection.stage = Stage::Over;
        let woken = connection.waker.take().map(Effect::Wake).into_iter().collect();
        self.forget();
        woken
    }

    /// Takes a command that is not kept.
    pub(super) fn command(&mut self, command: Command, own: &[EventId], look: Look) -> Vec<Effect> {
        let Some(owner) = self.order.command().filter(|owner| own.contains(&owner.incarnation)) else {
            return Vec::new();
        };
        let (cause, device) = (command.id.clone(), command.device.clone());
        self.assign(&device, vec![Assigned { command, attempt: 1, cause, id: owner.clone() }], &owner, look)
    }

    pub(super) fn handover(
        &mut self,
        device: &DeviceKey,
        record: Handover,
        cause: &EventId,
        own: &[EventId],
        look: Look,
    ) -> Vec<Effect> {
        let has_effect = self.order.handover(&record.id);
        if !own.contains(&record.id.incarnation) {
            return Vec::new();
        }
        let assigned = record.commands.into_iter().filter_map(|given| {
            let attempt = given.attempt;
            // The tracker read it as a command; if it is none, the tracker hears nothing, and says so in the end.
            let command = given.into_command(device.clone()).ok()?;
            Some(Assigned { command, attempt, cause: cause.clone(), id: record.id.clone() })
        });
        match has_effect {
            true => self.assign(device, assigned.collect(), &record.id, look),
            false => assigned.map(Effect::Released).collect(),
        }
    }

    /// Takes the lapse of an incarnation.
    pub(super) fn lapsed(&mut self, device: &DeviceKey, incarnation: &EventId) -> Vec<Effect> {
        self.order.lapsed(incarnation);
        let own = self.connections.iter_mut().filter(|connection| connection.is_of(incarnation));
        let effects = own.filter_map(|connection| connection.lapsed(device)).collect();
        self.forget();
        effects
    }

    /// Returns the records of its live connections, which are written once more.
    pub(super) fn repeat(&mut self) -> impl Iterator<Item = Connected> {
        let Self { order, connections, unread_repeats, .. } = self;
        let open = connections.iter().filter(|connection| connection.open);
        open.filter_map(|connection| {
            let place = order.get(connection.id.as_ref()?)?.place;
            let repeated = connection.repeat(place)?;
            *unread_repeats += 1;
            Some(repeated)
        })
    }

    /// Ends its connections; those whose record is yet to be read are remembered until it was, and its end.
    pub(super) fn interrupt(&mut self, device: &DeviceKey) -> Vec<Effect> {
        self.order = DeviceOrder::default();
        self.unread_repeats = 0;
        let mut effects = Vec::new();
        for connection in &mut self.connections {
            connection.queue.clear();
            connection.open = false;
            effects.extend(connection.waker.take().map(Effect::Wake));
            if connection.stage != Stage::Announced {
                // The lapse of the start whose connection this was ends it in the log.
                connection.stage = Stage::Over;
            }
            effects.extend(connection.say_its_end(device));
        }
        self.forget();
        effects
    }

    /// Gives commands to a connection of this replica that owns them by the order.
    fn assign(
        &mut self,
        device: &DeviceKey,
        commands: Vec<Assigned>,
        owner: &ConnectionRef,
        look: Look,
    ) -> Vec<Effect> {
        let still_live = self.order.get(owner).is_some();
        let Some(connection) = self.of(owner) else {
            return commands.into_iter().map(Effect::Released).collect();
        };
        let mut effects = Vec::new();
        if !connection.open {
            effects.extend(connection.say_its_end(device));
        }
        effects.extend(commands.into_iter().filter_map(|assigned| connection.offer(assigned, look)));
        if !still_live {
            connection.stage = Stage::Over;
        }
        if !connection.queue.is_empty() || !still_live {
            effects.extend(connection.waker.take().map(Effect::Wake));
        }
        self.forget();
        effects
    }

    fn of(&mut self, id: &ConnectionRef) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id.as_ref() == Some(id))
    }

    /// Forgets connections that are closed and ended in the log.
    fn forget(&mut self) {
        self.connections.retain(|connection| connection.open || connection.is_awaited());
    }
}

/// Gives back what was not begun, unless it has lapsed.
fn give_back(assigned: Assigned, look: Look) -> Effect {
    match look.alive && assigned.command.is_expired(look.now.wall) {
        true => Effect::Ended(assigned, Outcome::Expired),
        false => Effect::Released(assigned),
    }
}
