//! What of a tracker outlives its process, beside the rows of the ledger.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::device::{About, Device, Past};
use super::entry::{Entry, Hold, Told};
use super::{PartitionTracker, Places, Replica, Row, Settings};
use crate::channel::Place;
use crate::connections::Now;
use crate::id::{DeviceKey, EventId};
use crate::order::DeviceOrder;
use crate::time::Timestamp;

/// A device that was away for longer is forgotten.
const FORGET_AFTER_MILLIS: i64 = 30 * 86_400_000;

/// The connections of a partition, and who owns its commands, at certain places of its logs. Opaque; serde gives it a form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Snapshot {
    places: Places,
    first: Option<Place>,
    epoch: u64,
    complete: bool,
    replicas: Vec<EventId>,
    devices: Vec<(String, DeviceOrder, Vec<About>, Past)>,
    held: Vec<Held>,
}

/// Who has a command that is not settled. Of one that merely waits, the row says all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Held {
    id: EventId,
    attempt: u32,
    hold: Hold,
    told: Option<Told>,
}

impl Snapshot {
    /// Returns up to where the logs were read.
    pub fn places(&self) -> Places {
        self.places
    }

    /// Forgets who is connected, as what came after is not known; what is left are the patterns of devices.
    pub fn forgotten(self) -> Self {
        let devices = self.devices.into_iter();
        let devices = devices.map(|(key, _, _, past)| (key, DeviceOrder::default(), Vec::new(), past));
        Self { epoch: self.epoch, devices: devices.collect(), ..Self::default() }
    }
}

impl PartitionTracker {
    /// Makes a tracker of a snapshot and the rows that the ledger held with it (not settled, or not told; read in one
    /// transaction with it). It is to be fed with what lies behind [`Snapshot::places`].
    ///
    /// Where the logs no longer reach back to these: use [`Snapshot::forgotten`] instead, and feed from the earliest.
    pub fn restore(settings: Settings, snapshot: Snapshot, rows: Vec<Row>, now: Now) -> Self {
        let is_forgotten = snapshot.places.commands.is_none();
        let mut tracker = Self::new(settings, snapshot.complete);
        tracker.places = snapshot.places;
        tracker.first = snapshot.first;
        tracker.highest_epoch = snapshot.epoch;
        let replica = || Replica { heard: now.instant, announced: 0, lapsing: false };
        tracker.replicas = snapshot.replicas.into_iter().map(|id| (id, replica())).collect();
        for (key, order, about, past) in snapshot.devices {
            let Ok(key) = DeviceKey::from_bytes(key.as_bytes()) else { continue };
            tracker.devices.insert(key, Device { order, about, past, ..Device::default() });
        }
        let mut held: HashMap<EventId, Held> =
            snapshot.held.into_iter().map(|held| (held.id.clone(), held)).collect();
        for row in rows {
            // One that no tracker has seen is looked for later.
            let Some(place) = row.place else { continue };
            let held = held.remove(&row.id);
            let (id, mut entry) =
                (row.id.clone(), if is_forgotten { Entry::of_strange_row(row) } else { Entry::of_row(row) });
            entry.restored = Some(place) > tracker.places.commands;
            if let Some(held) =
                held.filter(|held| held.attempt >= entry.attempt && entry.hold != Hold::Decided)
            {
                entry.attempt = held.attempt;
                entry.hold = held.hold;
                entry.told = held.told.map(Box::new);
            }
            tracker.insert(id, entry);
        }
        tracker
    }

    pub(super) fn snapshot(&mut self, now: Now) -> Snapshot {
        let forget = Timestamp::from_millis(now.wall.as_millis() - FORGET_AFTER_MILLIS);
        self.devices.retain(|_, device| !device.is_empty(forget));
        let devices = self.devices.iter().map(|(key, device)| {
            (key.as_str().to_owned(), device.order.clone(), device.about.clone(), device.past)
        });
        Snapshot {
            places: self.settled_places(),
            first: self.first,
            epoch: self.highest_epoch,
            complete: self.complete,
            replicas: self.replicas.keys().cloned().collect(),
            devices: devices.collect(),
            held: self.commands.iter().filter_map(|(id, entry)| held(id, entry)).collect(),
        }
    }

    /// Returns up to where nothing of the logs is needed any more: what became of commands that are yet to be read is.
    fn settled_places(&self) -> Places {
        let early = self.early.values().flatten().min_by_key(|early| early.place);
        let outcomes = early.map_or(self.places.outcomes, |early| early.behind);
        Places { outcomes, ..self.places }
    }
}

fn held(id: &EventId, entry: &Entry) -> Option<Held> {
    let hold = match &entry.hold {
        Hold::Settled => return None,
        Hold::Queued if entry.kept && entry.told.is_none() => return None,
        Hold::Ending if !entry.kept => Hold::Unknown,
        // What the ledger was asked, and what was published, is found there and in the log.
        Hold::Queued | Hold::Looked | Hold::Asked | Hold::Ending | Hold::Sent(_) => Hold::Queued,
        Hold::Unknown | Hold::Owned(_) | Hold::Unconfirmed | Hold::Returned(_) | Hold::Decided => {
            entry.hold.clone()
        }
    };
    let told = entry.told.as_deref().cloned();
    Some(Held { id: id.clone(), attempt: entry.attempt, hold, told })
}
