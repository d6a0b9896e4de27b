//! The ledger of commands: what is known of each, which of them wait, and who tracks them. In the registry's database.
//!
//! A command whose acceptance promises something (it is kept, has an idempotency key, or supersedes others) has its row
//! before it is published ([`Ledger::submit`]). The tracker writes what it reads in the log ([`Ledger::commit`]) with
//! the place up to which it has read, in one transaction: a batch at a time, and only while it has the lease of the
//! partition. Whatever is to happen to a command that waits (it is handed over, cancelled, superseded, or expires)
//! happens here first, by compare-and-set, and is told to others afterwards: so only one of these happens.
//!
//! All of this runs on the runtime that the registry was opened on, wherever it is called from, and what was begun ends
//! there although its caller has gone.
//!
//! Invariants: a row's state changes only as [`State::admits`] says; while `handed` is set, only the holder of the lease
//! changes it; what a holder of an older lease writes is not written at all; the payload is there as long as somebody
//! may need it, and no longer.
//!
//! [`State::admits`]: crate::outcome::State::admits

mod commit;
mod error;
mod leases;
mod model;
mod read;
mod rows;
mod sent;
mod submit;
#[cfg(test)]
mod tests;
mod waiting;

use std::sync::Arc;

use tokio::runtime::Handle;

pub use error::LedgerError;
pub use model::{
    Batch, Cancel, Idempotency, KEY_LIFETIME, Lease, Loaded, MAX_KEY_LEN, Renewed, Saved, Submission,
    Submitted,
};

use crate::registry::Registry;
use crate::registry::store::{self, Store};

/// The ledger. Clones share one store.
#[derive(Debug, Clone)]
pub struct Ledger {
    home: Handle,
    store: Arc<Store>,
}

impl Ledger {
    /// Returns the ledger that lies in the registry's database.
    pub fn of(registry: &Registry) -> Self {
        let (home, store) = registry.store();
        Self { home, store }
    }

    /// Runs work on the home runtime: to its end, or as long as the store may take.
    async fn at_home<T, F>(&self, work: impl FnOnce(Arc<Store>) -> F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, LedgerError>> + Send + 'static,
    {
        store::run(&self.home, store::in_time(work(self.store.clone()))).await
    }
}
