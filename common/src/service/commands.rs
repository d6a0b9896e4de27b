//! The way of a command: from the channel to the connection of its device.

use std::sync::Arc;

use super::devices::Shared;
use crate::channel::{Flow, Record, RecordHandler, SourceError};
use crate::command::Command;
use crate::event::COMMAND_TYPE;

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
        let lifetime = self.shared.limits.command_lifetime;
        let command = match record.event() {
            // Other records under the device's key may share the channel.
            Ok(event) if event.kind != COMMAND_TYPE => return Flow::Continue,
            Ok(event) => Command::from_event(event, lifetime),
            Err(malformed) => Err(malformed),
        };
        match command {
            Ok(command) => {
                let now = self.shared.clock.now();
                let effect = self.shared.connections.of(key).deliver(command, now);
                self.shared.carry_out([effect]);
            }
            Err(error) => {
                self.shared.meters.malformed.increment(1);
                tracing::warn!(%error, position = record.cursor().0, "malformed command skipped");
            }
        }
        Flow::Continue
    }

    fn interrupted(&mut self, error: &SourceError) -> Flow {
        tracing::error!(%error, "the command subscription was interrupted, commands may have been missed");
        Flow::Continue
    }
}
