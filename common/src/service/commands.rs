//! The way of a command: from the channel to the connection of its device.
//!
//! Between the commands come the records that say whose they are.

use std::collections::HashMap;
use std::sync::Arc;

use super::reports::Report;
use super::shared::Shared;
use crate::channel::{Flow, Partition, Record, RecordHandler, SourceError};
use crate::command::Command;
use crate::connections::{ConnectionTable, Effect};
use crate::event::{COMMAND_TYPE, Event, Malformed};
use crate::id::DeviceKey;
use crate::records::OrderRecord;

/// Gives each command of the channel to the connection that owns it, and drops those for devices that are elsewhere.
pub(super) struct CommandHandler {
    shared: Arc<Shared>,
    /// The key of records that concern a whole partition.
    all: DeviceKey,
    /// The highest epoch of a tracker that was read in each partition: what an earlier one says does not count.
    epochs: HashMap<Partition, u64>,
}

impl CommandHandler {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, all: DeviceKey::all(), epochs: HashMap::new() }
    }
}

impl RecordHandler for CommandHandler {
    fn record(&mut self, record: &dyn Record) -> Flow {
        let key = record.key();
        let taken = if key == self.all.as_str().as_bytes() {
            record.event().and_then(|event| self.take_for_all(&event, record.partition()))
        } else if self.shared.connections.of(key).holds(key) {
            record.event().and_then(|event| self.take(event, record))
        } else {
            self.shared.meters.foreign.increment(1);
            Ok(())
        };
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
            let before = self.shared.start_over();
            self.shared.reports.send(Report::Lapse(before));
        }
        Flow::Continue
    }
}

impl CommandHandler {
    /// Takes an event of a device that has a connection here. Types that are not known are for others.
    fn take(&mut self, event: Event, record: &dyn Record) -> Result<(), Malformed> {
        if event.kind == COMMAND_TYPE {
            let command = Command::from_event(event, self.shared.limits.command_lifetime)?;
            let device = command.device.clone();
            let look = self.shared.look(&device);
            self.change(&device, |table| table.command(command, look));
            return Ok(());
        }
        let device = event.device.clone();
        match OrderRecord::from_event(&event)? {
            Some(OrderRecord::Connected(connected)) => {
                let (partition, place) = (record.partition(), record.place());
                self.change(&device, |table| table.connected(&device, &connected, partition, place));
            }
            Some(OrderRecord::Disconnected(ended)) => {
                self.change(&device, |table| table.disconnected(&device, &ended));
            }
            Some(OrderRecord::Handover(handover)) => {
                if self.counts(record.partition(), handover.epoch) {
                    let look = self.shared.look(&device);
                    self.change(&device, |table| table.handover(&device, handover, &event.id, look));
                }
            }
            // Whose turn it is then, the tracker says.
            Some(OrderRecord::Released(_)) | None => {}
            // These are of all devices.
            Some(
                OrderRecord::Alive(_)
                | OrderRecord::Lapsed(_)
                | OrderRecord::Announce(_)
                | OrderRecord::Announced(_),
            ) => {}
        }
        Ok(())
    }

    /// Takes an event that concerns all devices of a partition.
    fn take_for_all(&mut self, event: &Event, partition: Partition) -> Result<(), Malformed> {
        match OrderRecord::from_event(event)? {
            Some(OrderRecord::Lapsed(lapsed)) => {
                if lapsed.epoch.is_none_or(|epoch| self.counts(partition, epoch)) {
                    self.shared.lapsed(partition, &lapsed.incarnation, lapsed.epoch.is_none());
                }
            }
            Some(OrderRecord::Announce(announce)) => {
                if self.counts(partition, announce.epoch) && announce.repeat {
                    self.shared.repeat(partition, announce.epoch);
                }
            }
            // They are for trackers.
            Some(OrderRecord::Alive(_) | OrderRecord::Announced(_)) | None => {}
            // These are of one device each.
            Some(
                OrderRecord::Connected(_)
                | OrderRecord::Disconnected(_)
                | OrderRecord::Released(_)
                | OrderRecord::Handover(_),
            ) => {}
        }
        Ok(())
    }

    /// Tells whether no later tracker has taken charge of a partition.
    fn counts(&mut self, partition: Partition, epoch: u64) -> bool {
        let highest = self.epochs.entry(partition).or_default();
        *highest = epoch.max(*highest);
        epoch == *highest
    }

    fn change(&self, device: &DeviceKey, change: impl FnOnce(&mut ConnectionTable) -> Vec<Effect>) {
        let mut table = self.shared.connections.of(device.as_str().as_bytes());
        let effects = change(&mut table);
        drop(table);
        self.shared.carry_out(effects);
    }
}
