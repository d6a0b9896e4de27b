//! What the tracker does to commands that wait: by compare-and-set, for many at once, under its lease.

use sqlx::AssertSqlSafe;

use super::Ledger;
use super::error::LedgerError;
use super::leases::fence;
use super::model::{CommandRow, Lease};
use super::rows::{self, columns, parameters, pieces, settle, step_before_attempt, waits};
use crate::id::EventId;
use crate::outcome::State;
use crate::registry::store::Store;
use crate::time::Timestamp;

impl Ledger {
    /// Hands commands over, each as the attempt of the number that stands with it. Returns those that still waited, with
    /// their payloads and in the given order: nobody else gets, cancels or supersedes them now.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] if the lease was lost; nothing is changed then. Fails if the store does.
    pub async fn hand_over(
        &self,
        lease: Lease,
        commands: Vec<(EventId, u32)>,
    ) -> Result<Vec<CommandRow>, LedgerError> {
        self.at_home(|store| async move {
            let set = "handed = 1, attempt = given.column2";
            let changed = change(&store, lease, set, waits!(), ", payload", &commands).await?;
            Ok(rows::in_order(changed, commands.iter().map(|(id, _)| id)))
        })
        .await
    }

    /// Takes commands back that were handed over as that attempt: they wait again. Returns those that are taken back,
    /// without payload and in the given order; again, it does nothing.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] if the lease was lost; nothing is changed then. Fails if the store does.
    pub async fn take_back(
        &self,
        lease: Lease,
        commands: Vec<(EventId, u32)>,
    ) -> Result<Vec<CommandRow>, LedgerError> {
        self.at_home(|store| async move {
            let condition = "state = 'pending' AND handed = 1 AND attempt = given.column2";
            let changed = change(&store, lease, "handed = 0", condition, "", &commands).await?;
            Ok(rows::in_order(changed, commands.iter().map(|(id, _)| id)))
        })
        .await
    }

    /// Lets commands lapse that wait, or that no tracker has read yet. Returns those, without payload and in the given
    /// order: their transitions are to be published.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] if the lease was lost; nothing is changed then. Fails if the store does.
    pub async fn expire(
        &self,
        lease: Lease,
        commands: Vec<EventId>,
        now: Timestamp,
    ) -> Result<Vec<CommandRow>, LedgerError> {
        self.at_home(|store| async move {
            let mut work = store.work().await?;
            fence(work.connection(), lease).await?;
            let mut changed = Vec::with_capacity(commands.len());
            for piece in pieces(&commands) {
                let mut statement = sqlx::query(AssertSqlSafe(expire(piece.len())))
                    .bind(State::Expired.as_str())
                    .bind(now.as_millis())
                    .bind(step_before_attempt(State::Expired, now));
                for id in piece {
                    statement = statement.bind(id.as_str());
                }
                changed.extend(rows::read_all(&statement.fetch_all(work.connection()).await?)?);
            }
            work.commit().await?;
            Ok(rows::in_order(changed, commands.iter()))
        })
        .await
    }
}

/// Writes the statement by which so many commands lapse.
fn expire(len: usize) -> String {
    let (set, waits, columns, ids) = (settle!(), waits!(), columns!(), parameters(1, len, 4));
    format!(
        "UPDATE commands SET {set} WHERE id IN {ids} \
         AND ({waits} OR state = 'accepted' AND partition_number IS NULL) RETURNING {columns}"
    )
}

/// Changes the commands that satisfy the condition, and returns them in any order. `given` are those and the attempts.
async fn change(
    store: &Store,
    lease: Lease,
    set: &str,
    condition: &str,
    more: &str,
    commands: &[(EventId, u32)],
) -> Result<Vec<CommandRow>, LedgerError> {
    let mut work = store.work().await?;
    fence(work.connection(), lease).await?;
    let mut changed = Vec::with_capacity(commands.len());
    for piece in pieces(commands) {
        let (columns, given) = (columns!(), parameters(piece.len(), 2, 1));
        let mut statement = sqlx::query(AssertSqlSafe(format!(
            "UPDATE commands SET {set} FROM (VALUES {given}) AS given \
             WHERE id = given.column1 AND {condition} RETURNING {columns}{more}"
        )));
        for (id, attempt) in piece {
            statement = statement.bind(id.as_str()).bind(i64::from(*attempt));
        }
        changed.extend(rows::read_all(&statement.fetch_all(work.connection()).await?)?);
    }
    work.commit().await?;
    Ok(changed)
}
