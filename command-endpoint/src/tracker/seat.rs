//! What all know of the tracker of a partition.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::channel::{Channel, Partition};
use common::ledger::Lease;
use common::tracker::PartitionTracker;
use tokio::sync::watch;

/// What all know of the tracker of a partition.
pub(super) struct Seat {
    pub(super) partition: Partition,
    tracker: Mutex<PartitionTracker>,
    /// The lease, while this replica has charge of the partition.
    pub(super) lease: watch::Sender<Option<Lease>>,
    /// Whether what was in the channels at the start was read: commands and outcomes.
    read: [AtomicBool; 2],
}

impl Seat {
    pub(super) fn new(partition: Partition, tracker: PartitionTracker) -> Self {
        Self {
            partition,
            tracker: Mutex::new(tracker),
            lease: watch::Sender::new(None),
            read: Default::default(),
        }
    }

    /// Locks the tracker.
    pub(super) fn tracker(&self) -> MutexGuard<'_, PartitionTracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives this replica the charge of the partition.
    pub(super) fn set_lease(&self, lease: Lease) {
        self.lease.send_replace(Some(lease));
    }

    /// Takes the charge of the partition from this replica, unless it has another lease by now.
    pub(super) fn end_lease(&self, lease: Lease) {
        self.lease.send_if_modified(|held| held.take_if(|held| *held == lease).is_some());
    }

    /// Tells whether this replica has charge of the partition.
    pub(super) fn is_acting(&self) -> bool {
        self.lease.borrow().is_some()
    }

    /// Tells whether what was in the channels at the start was read.
    pub(super) fn is_caught_up(&self) -> bool {
        self.read.iter().all(|read| read.load(Ordering::Acquire))
    }

    /// Notes that what was in a channel at the start was read.
    pub(super) fn has_read(&self, channel: Channel) {
        let place = match channel {
            Channel::Commands => 0,
            Channel::Outcomes => 1,
            Channel::Telemetry => return,
        };
        self.read[place].store(true, Ordering::Release);
    }
}
