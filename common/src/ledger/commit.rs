//! What the tracker writes of what it reads, and finds again when it starts.

use std::collections::BTreeMap;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::Ledger;
use super::error::LedgerError;
use super::leases;
use super::model::{Batch, CommandRow, Lease, Loaded, Places, Snapshot};
use super::rows::{self, columns, number_of, parameters, pieces, place_of};
use crate::channel::Partition;
use crate::registry::store::Store;

/// The columns that are written: [`columns`], and these.
const COLUMNS: usize = 18;

/// What is done where the row is there. A state changes as [`State::admits`] says, or stays, with a longer history.
/// Whether it is handed, and as which attempt, is for compare-and-set to say; an attempt that was not handed over here
/// is one that the log tells of.
///
/// [`State::admits`]: crate::outcome::State::admits
const ON_CONFLICT: &str = "ON CONFLICT (id) DO UPDATE SET \
    partition_number = excluded.partition_number, \
    place = COALESCE(excluded.place, commands.place), \
    state = excluded.state, \
    reason = excluded.reason, \
    handed = CASE WHEN excluded.state = 'pending' THEN commands.handed ELSE 0 END, \
    attempt = CASE WHEN excluded.attempt > commands.attempt THEN excluded.attempt ELSE commands.attempt END, \
    history = excluded.history, \
    updated = excluded.updated, \
    payload = CASE WHEN excluded.state IN ('accepted', 'pending') \
        THEN COALESCE(excluded.payload, commands.payload) END \
    WHERE commands.state = excluded.state \
    OR (commands.state IN ('accepted', 'pending') AND excluded.state <> 'accepted') \
    OR (commands.state = 'delivered' AND excluded.state = 'replied')";

impl Ledger {
    /// Writes a batch: all of it, or nothing. A row that was settled otherwise meanwhile stays as it is.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] if the lease was lost; nothing is written then. Fails if the store does; all of it may be
    /// written then, and to write it again does no harm.
    pub async fn commit(&self, lease: Lease, batch: Batch) -> Result<(), LedgerError> {
        self.at_home(|store| async move { commit(&store, lease, batch).await }).await
    }

    /// Returns what the ledger has of a partition: nothing, if no tracker ever had it.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn load(&self, partition: Partition) -> Result<Loaded, LedgerError> {
        self.at_home(|store| async move { load(&store, i64::from(partition.0)).await }).await
    }
}

async fn commit(store: &Store, lease: Lease, batch: Batch) -> Result<(), LedgerError> {
    let mut work = store.work().await?;
    let connection = work.connection();
    let update = "UPDATE partitions SET commands_place = COALESCE($1, commands_place), \
         outcomes_place = COALESCE($2, outcomes_place) WHERE partition_number = $3 AND epoch = $4";
    let places = sqlx::query(update)
        .bind(batch.applied.commands.map(number_of))
        .bind(batch.applied.outcomes.map(number_of));
    if leases::bind(places, lease)?.execute(&mut *connection).await?.rows_affected() == 0 {
        return Err(LedgerError::Fenced);
    }
    // Each once, and in the order in which others take several of them.
    let rows: BTreeMap<_, _> = batch.rows.into_iter().map(|row| (row.id.clone(), row)).collect();
    let rows: Vec<_> = rows.into_values().collect();
    for piece in pieces(&rows) {
        write(connection, lease.partition, piece, batch.now.as_millis()).await?;
    }
    if let Some(snapshot) = batch.snapshot {
        write_snapshot(connection, lease.partition, snapshot).await?;
    }
    Ok(work.commit().await?)
}

async fn write(
    connection: &mut AnyConnection,
    partition: Partition,
    rows: &[CommandRow],
    now: i64,
) -> Result<(), LedgerError> {
    let (columns, values) = (columns!(), parameters(rows.len(), COLUMNS, 1));
    let mut statement = sqlx::query(AssertSqlSafe(format!(
        "INSERT INTO commands ({columns}, partition_number, payload, updated) VALUES {values} {ON_CONFLICT}"
    )));
    for row in rows {
        let payload = row.payload.as_deref().filter(|_| !row.state.is_settled());
        statement = rows::bind(statement, row)?
            .bind(i64::from(partition.0))
            .bind(payload.map(<[u8]>::to_vec))
            .bind(now);
    }
    statement.execute(connection).await?;
    Ok(())
}

async fn write_snapshot(
    connection: &mut AnyConnection,
    partition: Partition,
    snapshot: Snapshot,
) -> Result<(), LedgerError> {
    let insert = "INSERT INTO snapshots (partition_number, commands_place, outcomes_place, snapshot) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (partition_number) DO UPDATE SET \
         commands_place = excluded.commands_place, outcomes_place = excluded.outcomes_place, \
         snapshot = excluded.snapshot";
    sqlx::query(insert)
        .bind(i64::from(partition.0))
        .bind(snapshot.places.commands.map(number_of))
        .bind(snapshot.places.outcomes.map(number_of))
        .bind(snapshot.bytes.to_vec())
        .execute(connection)
        .await?;
    Ok(())
}

async fn load(store: &Store, partition: i64) -> Result<Loaded, LedgerError> {
    let mut view = store.view().await?;
    let connection = view.connection();
    let select = "SELECT commands_place, outcomes_place FROM partitions WHERE partition_number = $1";
    let applied = sqlx::query(select).bind(partition).fetch_optional(&mut *connection).await?;
    let select = "SELECT commands_place, outcomes_place, snapshot FROM snapshots WHERE partition_number = $1";
    let snapshot = sqlx::query(select).bind(partition).fetch_optional(&mut *connection).await?;
    let select = concat!(
        "SELECT ",
        columns!(),
        " FROM commands WHERE state IN ('accepted', 'pending') AND partition_number = $1 ORDER BY place, id"
    );
    let rows = sqlx::query(select).bind(partition).fetch_all(connection).await?;
    Ok(Loaded {
        applied: applied.as_ref().map(places).transpose()?.unwrap_or_default(),
        snapshot: match &snapshot {
            Some(row) => {
                let bytes: Vec<u8> = row.try_get(2)?;
                Some(Snapshot { bytes: bytes.into(), places: places(row)? })
            }
            None => None,
        },
        rows: rows::read_all(&rows)?,
    })
}

/// Reads the places that a row begins with.
fn places(row: &AnyRow) -> Result<Places, LedgerError> {
    let place = |column| Ok::<_, LedgerError>(row.try_get::<Option<i64>, _>(column)?.map(place_of));
    Ok(Places { commands: place(0)?, outcomes: place(1)? })
}
