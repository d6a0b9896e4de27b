//! What the tracker writes of what it reads, and finds again when it starts.

use std::collections::BTreeMap;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::Ledger;
use super::error::LedgerError;
use super::leases;
use super::model::{Batch, Lease, Loaded, Saved};
use super::rows::{self, columns, number_of, parameters, pieces, place_of};
use super::waiting::take_back;
use crate::channel::Partition;
use crate::outcome::{Reason, Transition};
use crate::registry::store::Store;
use crate::tracker::{Change, Places, Row, Step};

/// The columns that are written: [`columns`], and these.
const COLUMNS: usize = 18;

/// What is done where the row is there. A state changes as [`State::admits`] says, or stays, with a longer history; one that
/// was ended here without that anybody was told gives way to what the log says.
/// Whether it is handed is for compare-and-set to say, until it is settled; the attempt never falls.
///
/// [`State::admits`]: crate::outcome::State::admits
const ON_CONFLICT: &str = "ON CONFLICT (id) DO UPDATE SET \
    partition_number = excluded.partition_number, \
    place = COALESCE(excluded.place, commands.place), \
    state = excluded.state, \
    reason = excluded.reason, \
    handed = CASE WHEN excluded.state IN ('accepted', 'pending') THEN commands.handed ELSE 0 END, \
    attempt = CASE WHEN excluded.attempt > commands.attempt THEN excluded.attempt ELSE commands.attempt END, \
    history = excluded.history, \
    told = CASE WHEN excluded.told > commands.told THEN excluded.told ELSE commands.told END, \
    updated = excluded.updated, \
    content_type = CASE WHEN commands.payload IS NULL AND excluded.payload IS NOT NULL \
        THEN excluded.content_type ELSE commands.content_type END, \
    payload = CASE WHEN excluded.state IN ('accepted', 'pending') \
        THEN COALESCE(commands.payload, excluded.payload) END \
    WHERE commands.state = excluded.state \
    OR (commands.state IN ('accepted', 'pending') AND excluded.state <> 'accepted') \
    OR (commands.state = 'delivered' AND excluded.state = 'replied') \
    OR (commands.told = 0 AND excluded.told = 1 AND commands.state NOT IN ('accepted', 'pending'))";

impl Ledger {
    /// Writes a batch: all of it, or nothing. A row that was settled otherwise meanwhile stays as it is.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] if the lease was lost; nothing is written then. Fails if the store does; all of it may be
    /// written then, and to write it again does no harm.
    pub async fn commit(&self, lease: Lease, batch: Batch) -> Result<(), LedgerError> {
        self.at_home(|store| async move { commit(&store, lease, batch).await }).await
    }

    /// Returns up to where what the tracker of a partition remembered had read.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn saved(&self, partition: Partition) -> Result<Places, LedgerError> {
        self.at_home(|store| async move {
            let select = "SELECT commands_place, outcomes_place FROM snapshots WHERE partition_number = $1";
            let query = sqlx::query(select).bind(i64::from(partition.0));
            let row = query.fetch_optional(store.pool()).await?;
            row.as_ref().map_or(Ok(Places::default()), places)
        })
        .await
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
    leases::fence(connection, lease).await?;
    // Each once, and in the order in which others take several of them.
    let (mut rows, mut returned, mut late) = (BTreeMap::new(), Vec::new(), Vec::new());
    for change in batch.changes {
        match change {
            Change::Write { row, returned: attempt } => {
                returned.extend(attempt.map(|attempt| (row.id.clone(), attempt)));
                rows.insert(row.id.clone(), *row);
            }
            Change::Late(outcome) => late.push(outcome),
        }
    }
    take_back(connection, &returned).await?;
    let rows: Vec<_> = rows.into_values().collect();
    for piece in pieces(&rows) {
        write(connection, lease.partition, piece, batch.now.as_millis()).await?;
    }
    for outcome in late {
        add(connection, &outcome, batch.now.as_millis()).await?;
    }
    if let Some(saved) = batch.saved {
        save(connection, lease.partition, saved).await?;
    }
    Ok(work.commit().await?)
}

/// Writes rows that a tracker has read in the log. One that is settled it has read of in the log of outcomes, too.
async fn write(
    connection: &mut AnyConnection,
    partition: Partition,
    rows: &[Row],
    now: i64,
) -> Result<(), LedgerError> {
    let (columns, values) = (columns!(), parameters(rows.len(), COLUMNS, 1));
    let mut statement = sqlx::query(AssertSqlSafe(format!(
        "INSERT INTO commands ({columns}, partition_number, payload, updated) VALUES {values} {ON_CONFLICT}"
    )));
    for row in rows {
        let settled = row.state.is_settled();
        let payload = row.content.as_ref().filter(|_| !settled).map(|content| content.payload.to_vec());
        let row = Row { handed: false, told: settled, ..row.clone() };
        statement = rows::bind(statement, &row)?.bind(i64::from(partition.0)).bind(payload).bind(now);
    }
    statement.execute(connection).await?;
    Ok(())
}

/// Adds an outcome that came late to the history, and lets it count if the state admits it.
async fn add(connection: &mut AnyConnection, outcome: &Transition, now: i64) -> Result<(), LedgerError> {
    let Some(mut row) = rows::find(connection, &outcome.device, &outcome.command).await? else {
        return Ok(());
    };
    let (state, attempt) = (outcome.state, outcome.attempt);
    if row.history.iter().any(|step| step.state == state && step.attempt == attempt) {
        return Ok(());
    }
    row.history.push(Step { state, attempt, time: outcome.time, reason: outcome.reason });
    let untold = row.state.is_settled() && !row.told && state.is_settled();
    if row.state.admits(state) || untold {
        (row.state, row.reason) = (state, outcome.reason);
    }
    let settled = i64::from(row.state.is_settled());
    let update = "UPDATE commands SET state = $1, reason = $2, history = $3, told = $4, updated = $5, \
         payload = CASE WHEN $4 = 1 THEN NULL ELSE payload END, handed = CASE WHEN $4 = 1 THEN 0 ELSE handed END \
         WHERE id = $6";
    sqlx::query(update)
        .bind(row.state.as_str())
        .bind(row.reason.map(Reason::as_str))
        .bind(rows::history_text(&row.history)?)
        .bind(settled)
        .bind(now)
        .bind(row.id.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

async fn save(connection: &mut AnyConnection, partition: Partition, saved: Saved) -> Result<(), LedgerError> {
    let insert = "INSERT INTO snapshots (partition_number, commands_place, outcomes_place, snapshot) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (partition_number) DO UPDATE SET \
         commands_place = excluded.commands_place, outcomes_place = excluded.outcomes_place, \
         snapshot = excluded.snapshot";
    sqlx::query(insert)
        .bind(i64::from(partition.0))
        .bind(saved.places.commands.map(number_of))
        .bind(saved.places.outcomes.map(number_of))
        .bind(saved.bytes.to_vec())
        .execute(connection)
        .await?;
    Ok(())
}

async fn load(store: &Store, partition: i64) -> Result<Loaded, LedgerError> {
    let mut view = store.view().await?;
    let connection = view.connection();
    let select = "SELECT commands_place, outcomes_place, snapshot FROM snapshots WHERE partition_number = $1";
    let saved = sqlx::query(select).bind(partition).fetch_optional(&mut *connection).await?;
    let select = concat!(
        "SELECT ",
        columns!(),
        " FROM commands WHERE (state IN ('accepted', 'pending') \
         OR told = 0 AND state NOT IN ('accepted', 'pending')) AND partition_number = $1 ORDER BY place, id"
    );
    let rows = sqlx::query(select).bind(partition).fetch_all(connection).await?;
    Ok(Loaded {
        saved: match &saved {
            Some(row) => {
                let bytes: Vec<u8> = row.try_get(2)?;
                Some(Saved { bytes: bytes.into(), places: places(row)? })
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
