//! Retention: deletes the oldest records in small steps between the batches, so that publishing does not stall.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior, params};

use super::LogSettings;
use super::cursor::Position;
use super::link::{Access, Link};
use crate::channel::Channel;
use crate::time::Timestamp;

/// How much one step deletes at most.
const STEP_RECORDS: usize = 1_000;
const STEP_BYTES: u64 = 2 << 20;
/// How much may be written before the size is looked at again; less than a step deletes, so that deletion keeps up.
const CHECK_BYTES: u64 = 512 << 10;

/// Decides when to delete, and how much.
#[derive(Debug)]
pub(super) struct Retention {
    /// A deletion that a power failure undoes does no harm, so it costs no fsync.
    link: Link,
    age: Duration,
    size: u64,
    interval: Duration,
    next: Instant,
    written: u64,
}

/// What a step did.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Records that were deleted.
    pub(super) deleted: usize,
    /// Bytes that the records of all channels took before.
    pub(super) bytes: u64,
}

impl Retention {
    pub(super) fn new(path: &Path, settings: &LogSettings, now: Instant) -> Self {
        let age = settings.retention_age;
        // A record outlives its age by this at most; a commit makes the check earlier.
        let interval = (age / 10).clamp(Duration::from_millis(10), Duration::from_secs(60));
        let link = Link::new(path, Access::Write);
        Self { link, age, size: settings.retention_size, interval, next: now, written: 0 }
    }

    /// Notes what a batch wrote.
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.written += bytes;
    }

    /// Returns how long the writer may wait before it must call [`Retention::step`].
    pub(super) fn patience(&self, now: Instant) -> Duration {
        if self.written >= CHECK_BYTES { Duration::ZERO } else { self.next.saturating_duration_since(now) }
    }

    /// Deletes a few of the oldest records if they are too old or too many.
    pub(super) fn step(&mut self, now: Instant, wall: Timestamp) -> rusqlite::Result<Step> {
        // Also after a failure the next attempt waits its time.
        self.next = now + self.interval;
        self.written = 0;
        let age = i64::try_from(self.age.as_millis()).unwrap_or(i64::MAX);
        let cutoff = wall.as_millis().saturating_sub(age);
        let size = self.size;
        let step = self.link.attempt(|connection| {
            let bytes = bytes_in_use(connection)?;
            let last = select(connection, cutoff, bytes.saturating_sub(size))?;
            let deleted = last.map_or(Ok(0), |last| delete(connection, last))?;
            Ok(Step { deleted, bytes })
        })?;
        if step.deleted > 0 {
            // There may be more to delete.
            self.next = now;
        }
        Ok(step)
    }
}

fn bytes_in_use(connection: &Connection) -> rusqlite::Result<u64> {
    let mut query = connection.prepare_cached(
        "SELECT (page_count - freelist_count) * page_size
         FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    )?;
    let bytes: i64 = query.query_row((), |row| row.get(0))?;
    Ok(bytes.unsigned_abs())
}

/// Returns the last position, within one step, that is recorded before `cutoff` or belongs to the oldest `excess` bytes.
fn select(connection: &Connection, cutoff: i64, excess: u64) -> rusqlite::Result<Option<Position>> {
    // `length` of a column reads none of the pages onto which a large one overflows.
    let select = |channel: Channel| {
        format!("SELECT position, recorded, length(key) + length(attributes) + length(data) FROM {channel}")
    };
    let sql = format!("{} ORDER BY position", Channel::ALL.map(select).join(" UNION ALL "));
    let mut query = connection.prepare_cached(&sql)?;
    let mut rows = query.query(())?;
    let (mut last, mut records, mut freed) = (None, 0, 0);
    while records < STEP_RECORDS
        && freed < STEP_BYTES
        && let Some(row) = rows.next()?
    {
        if row.get::<_, i64>(1)? >= cutoff && freed >= excess {
            break;
        }
        last = Some(row.get(0)?);
        records += 1;
        freed += row.get::<_, i64>(2)?.unsigned_abs();
    }
    Ok(last)
}

/// Deletes everything up to a position and notes for each channel how far that went.
fn delete(connection: &mut Connection, last: Position) -> rusqlite::Result<usize> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Positions of deleted records are not given again.
    transaction.prepare_cached("UPDATE log SET last_position = max(last_position, ?1)")?.execute([last])?;
    let mut deleted = 0;
    for channel in Channel::ALL {
        let newest: Option<Position> = transaction
            .prepare_cached(&format!("SELECT max(position) FROM {channel} WHERE position <= ?1"))?
            .query_row([last], |row| row.get(0))?;
        if newest.is_none() {
            continue;
        }
        transaction
            .prepare_cached("UPDATE retired SET position = ?2 WHERE channel = ?1")?
            .execute(params![channel.as_str(), newest])?;
        deleted += transaction
            .prepare_cached(&format!("DELETE FROM {channel} WHERE position <= ?1"))?
            .execute([last])?;
    }
    transaction.commit()?;
    Ok(deleted)
}
