//! How a change becomes known: here before the write returns, to other processes by reading the database.

use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use sqlx::Row;
use tokio::time::timeout;

use super::Shared;
use super::error::RegistryError;
use super::store::Store;
use crate::auth::{Change, ChangeObserver};
use crate::id::DeviceKey;

/// How long the store may not answer before nothing that is remembered is believed any more.
const BLIND: Duration = Duration::from_secs(30);
const POLL_TIMEOUT: Duration = Duration::from_secs(10);
const BATCH: i64 = 1_000;

/// Who is told of changes.
#[derive(Default)]
pub(super) struct Observers(RwLock<Vec<ChangeObserver>>);

impl Observers {
    pub(super) fn add(&self, observer: ChangeObserver) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    fn tell(&self, change: &Change) {
        // Held while they are called: they must not block, and only `add` waits for it.
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().for_each(|observer| observer(change));
    }
}

impl Shared {
    /// Makes committed changes known in this process.
    pub(super) fn announce(&self, changes: &[Change]) {
        for change in changes {
            // The observers end sessions, whose devices come back at once and must then not be let in by memory.
            self.cache.forget(change);
            self.observers.tell(change);
        }
    }
}

/// Starts to read the changes that other processes make, until the registry is dropped: when there is news, and at
/// intervals, because news may get lost.
pub(super) async fn follow(shared: &Arc<Shared>) -> Result<(), RegistryError> {
    let reader = Reader::at_end(&shared.store).await?;
    let interval = shared.settings.poll_interval;
    shared.home.spawn(poll(Arc::downgrade(shared), reader, interval));
    Ok(())
}

async fn poll(shared: Weak<Shared>, mut reader: Reader, interval: Duration) {
    let Some((news, clock)) =
        shared.upgrade().map(|shared| (shared.store.news(), shared.settings.clock.clone()))
    else {
        return;
    };
    let mut contact = clock.instant();
    loop {
        // Whichever it was, all that there is to read is read.
        let (Ok(()) | Err(_)) = timeout(interval, news.notified()).await;
        let Some(shared) = shared.upgrade() else { return };
        let began = clock.instant();
        match timeout(POLL_TIMEOUT, reader.read(&shared)).await {
            Ok(Ok(())) => contact = began,
            Ok(Err(_)) | Err(_) => {
                if is_blind(contact, clock.instant()) {
                    tracing::warn!("the registry's changes cannot be read: each login is checked anew");
                    shared.cache.forget_all();
                }
            }
        }
    }
}

/// Tells whether changes may have been missed for too long.
fn is_blind(contact: Instant, now: Instant) -> bool {
    now.duration_since(contact) >= BLIND
}

/// How far the changes were read.
pub(super) struct Reader {
    last: i64,
}

impl Reader {
    /// Makes a reader of the changes from now on.
    pub(super) async fn at_end(store: &Store) -> Result<Self, RegistryError> {
        Ok(Self { last: last_write(store).await? })
    }

    /// Reads all changes since the last time, and makes those of other processes known.
    pub(super) async fn read(&mut self, shared: &Shared) -> Result<(), RegistryError> {
        let last = last_write(&shared.store).await?;
        if last < self.last {
            tracing::warn!(
                "the registry's store has lost writes, as by a backup: each login is checked anew"
            );
            shared.cache.forget_all();
            self.last = last;
        }
        self.last = shared.store.origin().resume(self.last);
        while self.last < last {
            self.read_batch(shared, last).await?;
        }
        Ok(())
    }

    /// Reads changes on, at least to the `end` if there is less than a batch.
    async fn read_batch(&mut self, shared: &Shared, end: i64) -> Result<(), RegistryError> {
        let statement = "SELECT application, device, write_number, origin FROM changes \
             WHERE write_number > $1 ORDER BY write_number LIMIT $2";
        let rows = sqlx::query(statement).bind(self.last).bind(BATCH).fetch_all(shared.store.pool()).await?;
        let own = shared.store.origin().name();
        for row in &rows {
            let (application, device): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let (number, origin): (i64, String) = (row.try_get(2)?, row.try_get(3)?);
            if origin != own {
                shared.announce(&parse(&application, &device));
            }
            self.last = number;
        }
        if rows.len() < BATCH as usize {
            self.last = self.last.max(end);
        }
        Ok(())
    }
}

async fn last_write(store: &Store) -> Result<i64, RegistryError> {
    Ok(sqlx::query("SELECT last FROM writes").fetch_one(store.pool()).await?.try_get(0)?)
}

fn parse(application: &str, device: &str) -> Vec<Change> {
    let change = if device.is_empty() {
        application.parse().map(Change::Application)
    } else {
        DeviceKey::from_bytes(format!("{application}/{device}").as_bytes()).map(Change::Device)
    };
    change
        .inspect_err(|error| tracing::error!(%error, "the registry's store holds a malformed change"))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Clock;

    #[test]
    fn memory_is_not_believed_when_the_store_was_silent_for_too_long() {
        let contact = Clock::system().instant();
        assert!(!is_blind(contact, contact + Duration::from_secs(29)));
        assert!(is_blind(contact, contact + Duration::from_secs(30)));
    }
}
