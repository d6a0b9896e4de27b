//! Tables that many threads use at once, split by device so that they seldom meet.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 64;

/// A table for each of 64 groups of devices. A device's key decides its group.
#[derive(Debug)]
pub(super) struct Shards<T> {
    hasher: RandomState,
    tables: Vec<Mutex<T>>,
}

impl<T: Default> Default for Shards<T> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), tables: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl<T> Shards<T> {
    /// Locks the table in which the device with this key is.
    pub(super) fn of(&self, key: &[u8]) -> MutexGuard<'_, T> {
        let shard = self.hasher.hash_one(key) as usize % SHARDS;
        // The tables' methods do not panic between two changes, so a poisoned one is whole.
        self.tables[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks one table after the other.
    pub(super) fn each(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.tables.iter().map(|table| table.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
