//! How the store is written to, and how others come to know.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use sqlx::{Any, AnyConnection, Executor, Row, Transaction};
use tokio::sync::OwnedSemaphorePermit;

use super::error::RegistryError;
use crate::auth::Change;

/// Tells the changes that a process has made known in itself from all others.
///
/// A write whose commit was sent and not acknowledged may have happened, or may yet. Nobody has made it known then. So
/// the process takes another name, and reads again from there: it hears of that write as if it were another's.
#[derive(Debug)]
pub(super) struct Origin {
    process: String,
    doubts: AtomicU64,
    /// The number before the first write in doubt that was not read again.
    certain: AtomicI64,
}

impl Origin {
    /// Makes the origin of a process, which must have another name than all others.
    pub(super) fn new(process: String) -> Self {
        Self { process, doubts: AtomicU64::new(0), certain: AtomicI64::new(i64::MAX) }
    }

    /// Returns its present name.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.process, self.doubts.load(Ordering::SeqCst))
    }

    /// Returns up to which write a reader that has read up to `last` need not read again, and trusts it to do so.
    pub(super) fn resume(&self, last: i64) -> i64 {
        self.certain.swap(i64::MAX, Ordering::SeqCst).min(last)
    }
}

/// Puts a write in doubt, unless it is known how its commit went.
struct Doubt<'a> {
    origin: Option<&'a Origin>,
    before: i64,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(origin) = self.origin {
            // The name first: whoever reads again then must not take the write for its own.
            origin.doubts.fetch_add(1, Ordering::SeqCst);
            origin.certain.fetch_min(self.before, Ordering::SeqCst);
        }
    }
}

/// One write: all of it, or nothing. It is undone when dropped.
#[derive(Debug)]
pub(super) struct Write<'a> {
    before: i64,
    number: i64,
    transaction: Transaction<'static, Any>,
    origin: &'a Origin,
    notify: Option<&'static str>,
    changes: Vec<Change>,
    _turn: OwnedSemaphorePermit,
}

impl<'a> Write<'a> {
    /// Begins a write in a new transaction. `notify` is the statement that tells other processes of changes.
    pub(super) async fn begin(
        mut transaction: Transaction<'static, Any>,
        origin: &'a Origin,
        notify: Option<&'static str>,
        turn: OwnedSemaphorePermit,
    ) -> Result<Self, RegistryError> {
        // First of all: SQLite then takes its write lock before it takes a snapshot that others could outdate, and
        // PostgreSQL commits writes in the order of their numbers, which is what readers of `changes` rely on.
        let row = sqlx::query("UPDATE writes SET last = last + 1 RETURNING last")
            .fetch_one(&mut *transaction)
            .await?;
        let number: i64 = row.try_get(0)?;
        let before = number - 1;
        Ok(Self { before, number, transaction, origin, notify, changes: Vec::new(), _turn: turn })
    }

    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Notes a change, for the other processes and for [`Self::commit`].
    ///
    /// There is one row for each device, so the table grows with the devices that there ever were and no further.
    pub(super) async fn note(&mut self, change: Change) -> Result<(), RegistryError> {
        // Each change has a number of its own: nobody else counts up until this write has ended.
        self.number += 1;
        let (application, device) = match &change {
            Change::Device(device) => (device.application(), device.device()),
            Change::Application(application) => {
                sqlx::query("DELETE FROM changes WHERE application = $1")
                    .bind(application.as_str())
                    .execute(&mut *self.transaction)
                    .await?;
                (application.as_str(), "")
            }
        };
        let statement = "INSERT INTO changes (application, device, write_number, origin) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (application, device) DO UPDATE \
             SET write_number = excluded.write_number, origin = excluded.origin";
        sqlx::query(statement)
            .bind(application)
            .bind(device)
            .bind(self.number)
            .bind(self.origin.name())
            .execute(&mut *self.transaction)
            .await?;
        self.changes.push(change);
        Ok(())
    }

    /// Commits, and returns the changes that were noted: whoever commits makes them known.
    pub(super) async fn commit(mut self) -> Result<Vec<Change>, RegistryError> {
        if !self.changes.is_empty() {
            sqlx::query("UPDATE writes SET last = $1").bind(self.number).execute(self.connection()).await?;
            if let Some(notify) = self.notify {
                self.connection().execute(notify).await?;
            }
        }
        let mut doubt = Doubt { origin: Some(self.origin), before: self.before };
        self.transaction.commit().await?;
        doubt.origin = None;
        Ok(self.changes)
    }
}
