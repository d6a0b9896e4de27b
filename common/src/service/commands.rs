//! The way of a command: from the channel to the connection of its device.
//!
//! In the same order come the records of connections, which end the sessions that they take over.

use std::sync::Arc;
use std::task::Waker;

use super::devices::Shared;
use crate::channel::{Flow, Record, RecordHandler, SourceError};
use crate::command::Command;
use crate::event::{COMMAND_TYPE, Event, Malformed};
use crate::records::{Connected, OrderRecord};
use crate::sessions::SessionTable;

/// Gives each command of the channel to its device's connection, and drops those for devices that are elsewhere.
pub(super) struct CommandHandler {
    shared: Arc<Shared>,
}

impl CommandHandler {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl RecordHandler for CommandHandler {
    fn record(&mut self, record: &dyn Record) -> Flow {
        let key = record.key();
        if !self.shared.connections.of(key).holds(key) {
            self.shared.meters.foreign.increment(1);
            return Flow::Continue;
        }
        let taken = record.event().and_then(|event| self.take(event));
        if let Err(error) = taken {
            self.shared.meters.malformed.increment(1);
            tracing::warn!(%error, position = record.cursor().0, "malformed record skipped");
        }
        Flow::Continue
    }

    fn interrupted(&mut self, error: &SourceError) -> Flow {
        tracing::error!(%error, "the command subscription was interrupted, commands may have been missed");
        if *error == SourceError::Gone {
            // Records of connections may have been missed as well: whoever connects anew has a new one.
            self.shared.change_sessions(SessionTable::interrupt);
        }
        Flow::Continue
    }
}

impl CommandHandler {
    /// Takes an event of a device that has a connection here. Types that are not known are for others.
    fn take(&self, event: Event) -> Result<(), Malformed> {
        match event.kind.as_ref() {
            COMMAND_TYPE => self.deliver(Command::from_event(event, self.shared.limits.command_lifetime)?),
            _ => {
                if let Some(OrderRecord::Connected(connected)) = OrderRecord::from_event(&event)? {
                    self.note(&event, &connected);
                }
            }
        }
        Ok(())
    }

    fn deliver(&self, command: Command) {
        let now = self.shared.clock.now();
        let mut table = self.shared.connections.of(command.device.as_str().as_bytes());
        let effect = table.deliver(command, now);
        drop(table);
        self.shared.carry_out([effect]);
    }

    fn note(&self, event: &Event, connected: &Connected) {
        let key = event.device.as_str().as_bytes();
        if connected.id.incarnation == self.shared.incarnation {
            self.shared.connections.of(key).recorded(&event.device, connected.id.connection);
            self.shared.sessions.of(key).recorded(&event.device, connected.session, connected.id.connection);
        } else if let Some(client) = &connected.client {
            let ended = self.shared.sessions.of(key).taken_over_elsewhere(&event.device, client);
            let now = self.shared.clock.now();
            for (connection, waker) in ended {
                // Before the next record is looked at, which is for the other replica.
                let effects = self.shared.connections.of(key).disconnect(&event.device, connection, now);
                self.shared.carry_out(effects);
                waker.into_iter().for_each(Waker::wake);
            }
        }
    }
}
