//! Commands that have their row before they are published, and those that are cancelled.

use sqlx::{AnyConnection, Row as _};

use super::Ledger;
use super::error::LedgerError;
use super::model::{Cancel, Idempotency, KEY_LIFETIME, MAX_KEY_LEN, Submission, Submitted};
use super::rows::{self, columns};
use crate::id::{DeviceKey, EventId};
use crate::outcome::State;
use crate::registry::store::Store;
use crate::time::Timestamp;
use crate::tracker::Row;

impl Ledger {
    /// Writes a command's row, unless it was submitted before or is one too many. Once this returns, the row is there.
    ///
    /// # Errors
    /// Fails if a key has another form, or the store does; the row may be there then all the same, and is reconciled
    /// as one whose publication is unknown.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, LedgerError> {
        check_key("an idempotency key", submission.idempotency.as_ref().map(|given| given.key.as_str()))?;
        check_key("the key of supersede", submission.supersede.as_deref())?;
        self.at_home(|store| async move { submit(&store, submission).await }).await
    }

    /// Cancels a command that waits.
    ///
    /// # Errors
    /// Fails if the store does; the command may be cancelled then all the same.
    pub async fn cancel(
        &self,
        device: &DeviceKey,
        id: &EventId,
        now: Timestamp,
    ) -> Result<Cancel, LedgerError> {
        let (device, id) = (device.clone(), id.clone());
        self.at_home(|store| async move {
            let mut work = store.work().await?;
            loop {
                let row = rows::find(work.connection(), &device, &id).await?;
                let Some(row) = row else { return Ok(Cancel::Unknown) };
                if row.state != State::Pending || row.handed {
                    return Ok(Cancel::NotPending(row));
                }
                // Nothing is ended if it was changed since it was read.
                if let Some(row) = rows::end(work.connection(), row, State::Cancelled, now).await? {
                    work.commit().await?;
                    return Ok(Cancel::Done(row));
                }
            }
        })
        .await
    }
}

fn check_key(what: &'static str, key: Option<&str>) -> Result<(), LedgerError> {
    let is_good = |key: &str| {
        (1..=MAX_KEY_LEN).contains(&key.len()) && key.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    };
    if key.is_none_or(is_good) { Ok(()) } else { Err(LedgerError::Key(what)) }
}

async fn submit(store: &Store, submission: Submission) -> Result<Submitted, LedgerError> {
    let Submission { command, accepted, idempotency, supersede, max_pending } = submission;
    let row = Row::accepted(&command, accepted);
    let mut work = store.work().await?;
    // One submission of a device at a time: what is counted and looked for here must not change before the end.
    work.hold(&format!("drogue/commands/{}", row.device)).await?;
    let connection = work.connection();
    if let Some(idempotency) = &idempotency
        && let Some(known) = known(connection, &row.device, idempotency, accepted).await?
    {
        return Ok(known);
    }
    let mut superseded = Vec::new();
    if let Some(key) = &supersede {
        for old in waiting(connection, &row.device, key).await? {
            superseded.extend(rows::end(connection, old, State::Superseded, accepted).await?);
        }
    }
    if row.kept && under_way(connection, &row.device).await? >= i64::from(max_pending) {
        return Ok(Submitted::Full);
    }
    insert(connection, &row, idempotency, supersede).await?;
    work.commit().await?;
    Ok(Submitted::New { superseded })
}

/// Returns what is to be answered if the key was used before; one that is too old is forgotten.
async fn known(
    connection: &mut AnyConnection,
    device: &DeviceKey,
    idempotency: &Idempotency,
    now: Timestamp,
) -> Result<Option<Submitted>, LedgerError> {
    let select = concat!(
        "SELECT ",
        columns!(),
        ", NULL, fingerprint FROM commands WHERE application = $1 AND device = $2 AND idempotency_key = $3"
    );
    let found = sqlx::query(select)
        .bind(device.application())
        .bind(device.device())
        .bind(&*idempotency.key)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(found) = found else { return Ok(None) };
    let row = rows::read(&found)?;
    if now.saturating_since(row.accepted) >= KEY_LIFETIME {
        let forget = "UPDATE commands SET idempotency_key = NULL WHERE id = $1";
        sqlx::query(forget).bind(row.id.as_str()).execute(connection).await?;
        return Ok(None);
    }
    let is_same = found.try_get::<&str, _>("fingerprint")? == idempotency.fingerprint;
    Ok(Some(if is_same { Submitted::Same(row) } else { Submitted::Conflict }))
}

/// Returns the waiting commands of a device that have a key, in the order in which they are written elsewhere also.
async fn waiting(
    connection: &mut AnyConnection,
    device: &DeviceKey,
    key: &str,
) -> Result<Vec<Row>, LedgerError> {
    let select = concat!(
        "SELECT ",
        columns!(),
        " FROM commands WHERE state IN ('accepted', 'pending') AND application = $1 AND device = $2 \
         AND supersede_key = $3 AND state = 'pending' AND handed = 0 ORDER BY id"
    );
    let rows = sqlx::query(select)
        .bind(device.application())
        .bind(device.device())
        .bind(key)
        .fetch_all(connection)
        .await?;
    rows::read_all(&rows)
}

/// Counts the kept commands of a device that are not settled.
async fn under_way(connection: &mut AnyConnection, device: &DeviceKey) -> Result<i64, LedgerError> {
    let count = "SELECT COUNT(*) FROM commands WHERE state IN ('accepted', 'pending') \
         AND application = $1 AND device = $2 AND kept = 1";
    let row =
        sqlx::query(count).bind(device.application()).bind(device.device()).fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}

async fn insert(
    connection: &mut AnyConnection,
    row: &Row,
    idempotency: Option<Idempotency>,
    supersede: Option<String>,
) -> Result<(), LedgerError> {
    let insert = concat!(
        "INSERT INTO commands (",
        columns!(),
        ", payload, idempotency_key, fingerprint, supersede_key, updated) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)"
    );
    let (key, fingerprint) = idempotency.map(|given| (given.key, given.fingerprint)).unzip();
    rows::bind(sqlx::query(insert), row)?
        .bind(row.content.as_ref().map(|content| content.payload.to_vec()))
        .bind(key)
        .bind(fingerprint)
        .bind(supersede)
        .bind(row.accepted.as_millis())
        .execute(connection)
        .await?;
    Ok(())
}
