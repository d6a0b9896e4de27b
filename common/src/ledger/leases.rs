//! Who tracks which partition.
//!
//! Clocks decide only when a lease may be taken from somebody. That it was taken, the epoch decides: whatever is
//! written under a lower one fails ([`fence`]).

use std::time::Duration;

use sqlx::{AnyConnection, Row};

use super::Ledger;
use super::error::LedgerError;
use super::model::{Lease, Renewed};
use super::rows::Statement;
use crate::channel::Partition;
use crate::registry::store;
use crate::time::Timestamp;

/// How long a tracker that has gone without a word is remembered. Longer than clocks differ: nobody forgets one that
/// lives.
const FORGET: Duration = Duration::from_secs(24 * 60 * 60);

impl Ledger {
    /// Takes a partition that nobody has, or whose holder has not renewed its lease, or that `holder` has already.
    /// `holder` is another for each start of each replica. The epoch is higher than `above`, too. Returns `None` where
    /// somebody else has it.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn acquire(
        &self,
        partition: Partition,
        above: u64,
        holder: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Option<Lease>, LedgerError> {
        let holder = holder.to_owned();
        self.at_home(|store| async move {
            let number = i64::from(partition.0);
            let taken = "SELECT 1 FROM partitions WHERE partition_number = $1 AND until > $2 AND holder <> $3";
            let taken = sqlx::query(taken).bind(number).bind(now.as_millis()).bind(holder.clone());
            // Most often it is: then nobody needs to wait for a turn to write.
            if taken.fetch_optional(store.pool()).await?.is_some() {
                return Ok(None);
            }
            let mut work = store.work().await?;
            let insert = "INSERT INTO partitions (partition_number, epoch, holder, until) VALUES ($1, 0, '', 0) \
                 ON CONFLICT (partition_number) DO NOTHING";
            sqlx::query(insert).bind(number).execute(work.connection()).await?;
            let update = "UPDATE partitions SET epoch = 1 + CASE WHEN epoch > $5 THEN epoch ELSE $5 END, holder = $1, \
                 until = $2 WHERE partition_number = $3 AND (until <= $4 OR holder = $1) RETURNING epoch";
            let row = sqlx::query(update)
                .bind(holder)
                .bind(now.saturating_add(ttl).as_millis())
                .bind(number)
                .bind(now.as_millis())
                .bind(i64::try_from(above).unwrap_or(i64::MAX - 1))
                .fetch_optional(work.connection())
                .await?;
            work.commit().await?;
            let Some(row) = row else { return Ok(None) };
            let epoch = u64::try_from(row.try_get::<i64, _>(0)?).map_err(store::unreadable)?;
            Ok(Some(Lease { partition, epoch }))
        })
        .await
    }

    /// Says that the tracker `holder` lives, with or without leases, and renews those that are still its own.
    ///
    /// # Errors
    /// Fails if the store does; nothing is renewed then.
    pub async fn renew(
        &self,
        holder: &str,
        leases: &[Lease],
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Renewed, LedgerError> {
        let (holder, mut leases) = (holder.to_owned(), leases.to_vec());
        // In one order: two who renew at once then wait for each other at most.
        leases.sort_unstable_by_key(|lease| lease.partition);
        self.at_home(|store| async move {
            let mut work = store.work().await?;
            let until = now.saturating_add(ttl).as_millis();
            let trackers = live(work.connection(), holder, now, until).await?;
            let mut held = Vec::with_capacity(leases.len());
            for lease in leases {
                let update = "UPDATE partitions SET until = $1 WHERE partition_number = $2 AND epoch = $3";
                if bind(sqlx::query(update).bind(until), lease)?
                    .execute(work.connection())
                    .await?
                    .rows_affected()
                    > 0
                {
                    held.push(lease);
                }
            }
            work.commit().await?;
            Ok(Renewed { held, trackers })
        })
        .await
    }

    /// Gives a lease up: anybody may take the partition at once. One that was lost is given up already.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn give_up(&self, lease: Lease) -> Result<(), LedgerError> {
        self.at_home(|store| async move {
            let mut work = store.work().await?;
            let update =
                "UPDATE partitions SET until = 0, holder = '' WHERE partition_number = $1 AND epoch = $2";
            bind(sqlx::query(update), lease)?.execute(work.connection()).await?;
            Ok(work.commit().await?)
        })
        .await
    }

    /// Says that the tracker `holder` ends. Its leases it gives up itself.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn leave(&self, holder: &str) -> Result<(), LedgerError> {
        let holder = holder.to_owned();
        self.at_home(|store| async move {
            let mut work = store.work().await?;
            let delete = "DELETE FROM trackers WHERE holder = $1";
            sqlx::query(delete).bind(holder).execute(work.connection()).await?;
            Ok(work.commit().await?)
        })
        .await
    }
}

/// Notes that a tracker lives, and returns how many do.
async fn live(
    connection: &mut AnyConnection,
    holder: String,
    now: Timestamp,
    until: i64,
) -> Result<u32, LedgerError> {
    let insert = "INSERT INTO trackers (holder, until) VALUES ($1, $2) \
         ON CONFLICT (holder) DO UPDATE SET until = excluded.until";
    sqlx::query(insert).bind(holder).bind(until).execute(&mut *connection).await?;
    let forget = i64::try_from(FORGET.as_millis()).unwrap_or(i64::MAX);
    let delete = "DELETE FROM trackers WHERE until < $1";
    sqlx::query(delete).bind(now.as_millis().saturating_sub(forget)).execute(&mut *connection).await?;
    let count = "SELECT COUNT(*) FROM trackers WHERE until > $1";
    let row = sqlx::query(count).bind(now.as_millis()).fetch_one(connection).await?;
    Ok(u32::try_from(row.try_get::<i64, _>(0)?).map_err(store::unreadable)?)
}

/// Fails unless the lease is the last that was given of its partition, and makes sure that no other is given before the
/// transaction ends.
pub(super) async fn fence(connection: &mut AnyConnection, lease: Lease) -> Result<(), LedgerError> {
    let hold = "UPDATE partitions SET epoch = epoch WHERE partition_number = $1 AND epoch = $2";
    let held = bind(sqlx::query(hold), lease)?.execute(connection).await?;
    if held.rows_affected() == 0 { Err(LedgerError::Fenced) } else { Ok(()) }
}

/// Binds a lease's partition and epoch.
pub(super) fn bind(statement: Statement<'_>, lease: Lease) -> Result<Statement<'_>, LedgerError> {
    // No epoch is that high.
    let epoch = i64::try_from(lease.epoch).map_err(|_| LedgerError::Fenced)?;
    Ok(statement.bind(i64::from(lease.partition.0)).bind(epoch))
}
