//! What is asked of commands, and what is forgotten of them.

use super::Ledger;
use super::error::LedgerError;
use super::rows::{self, Contents, columns};
use crate::id::{DeviceKey, EventId};
use crate::outcome::State;
use crate::time::Timestamp;
use crate::tracker::Row;

/// How many rows are read or deleted at once.
const SOME: i64 = 1_000;

impl Ledger {
    /// Returns a command of a device, without content.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn get(&self, device: &DeviceKey, id: &EventId) -> Result<Option<Row>, LedgerError> {
        let (device, id) = (device.clone(), id.clone());
        self.at_home(
            |store| async move { rows::find(&mut *store.pool().acquire().await?, &device, &id).await },
        )
        .await
    }

    /// Returns commands as they are, without content, in the given order. What is not there is left out.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn find(&self, ids: Vec<EventId>) -> Result<Vec<Row>, LedgerError> {
        self.at_home(|store| async move {
            rows::select(&mut *store.pool().acquire().await?, &ids, Contents::Left).await
        })
        .await
    }

    /// Returns the commands of a device, of one state or of all, whose ids come after `after`: ordered by id, which of
    /// ours is the order of acceptance, `limit` at most, without content.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn list(
        &self,
        device: &DeviceKey,
        state: Option<State>,
        after: Option<&EventId>,
        limit: usize,
    ) -> Result<Vec<Row>, LedgerError> {
        let (device, after) = (device.clone(), after.map(ToString::to_string).unwrap_or_default());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.at_home(|store| async move {
            let statement = sqlx::query(list(state))
                .bind(device.application())
                .bind(device.device())
                .bind(after)
                .bind(limit)
                .bind(state.map_or("", State::as_str));
            rows::read_all(&statement.fetch_all(store.pool()).await?)
        })
        .await
    }

    /// Returns commands that were accepted before a time, and that no tracker has read in the log (with their contents),
    /// or that have ended without that a tracker has read of it: the oldest first, some at a time.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn unseen(&self, accepted_before: Timestamp) -> Result<Vec<Row>, LedgerError> {
        self.at_home(|store| async move {
            let select = concat!(
                "SELECT ",
                columns!(),
                ", payload FROM commands WHERE partition_number IS NULL AND accepted < $1 \
                 AND state IN ('accepted', 'pending') ORDER BY accepted, id LIMIT 100"
            );
            let statement = sqlx::query(select).bind(accepted_before.as_millis());
            let mut unseen = rows::read_all(&statement.fetch_all(store.pool()).await?)?;
            let select = concat!(
                "SELECT ",
                columns!(),
                " FROM commands WHERE told = 0 AND accepted < $1 \
                 AND state NOT IN ('accepted', 'pending') ORDER BY accepted, id LIMIT 100"
            );
            let statement = sqlx::query(select).bind(accepted_before.as_millis());
            unseen.extend(rows::read_all(&statement.fetch_all(store.pool()).await?)?);
            Ok(unseen)
        })
        .await
    }

    /// Forgets the commands that were settled before a time, and returns how many. Their idempotency keys go with them:
    /// that time is to be [`KEY_LIFETIME`](super::KEY_LIFETIME) ago or longer.
    ///
    /// # Errors
    /// Fails if the store does; some may be forgotten then.
    pub async fn purge(&self, settled_before: Timestamp) -> Result<u64, LedgerError> {
        let mut purged = 0;
        loop {
            // In pieces, between which others have their turn.
            let some = self.purge_some(settled_before).await?;
            purged += some;
            if some < SOME.unsigned_abs() {
                return Ok(purged);
            }
        }
    }

    async fn purge_some(&self, settled_before: Timestamp) -> Result<u64, LedgerError> {
        self.at_home(|store| async move {
            let mut work = store.work().await?;
            let delete = "DELETE FROM commands WHERE id IN (SELECT id FROM commands \
                 WHERE state NOT IN ('accepted', 'pending') AND updated < $1 ORDER BY updated LIMIT $2)";
            let statement = sqlx::query(delete).bind(settled_before.as_millis()).bind(SOME);
            let deleted = statement.execute(work.connection()).await?.rows_affected();
            work.commit().await?;
            Ok(deleted)
        })
        .await
    }
}

/// Returns the statement that lists commands of a state. For each of these there is an index.
fn list(state: Option<State>) -> &'static str {
    macro_rules! list {
        ($condition:literal) => {
            concat!(
                "SELECT ",
                columns!(),
                " FROM commands WHERE application = $1 AND device = $2 AND id > $3 AND ",
                $condition,
                " ORDER BY id LIMIT $4"
            )
        };
    }
    match state {
        None => list!("$5 = ''"),
        Some(State::Accepted | State::Pending) => list!("state IN ('accepted', 'pending') AND state = $5"),
        Some(
            State::Delivered
            | State::Replied
            | State::Undelivered
            | State::Expired
            | State::Cancelled
            | State::Superseded,
        ) => list!("state = $5"),
    }
}
