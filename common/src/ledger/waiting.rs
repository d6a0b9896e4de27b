//! What the tracker does to commands that wait: by compare-and-set, for many at once, under its lease.

use sqlx::{AnyConnection, AssertSqlSafe};

use super::Ledger;
use super::error::LedgerError;
use super::leases::fence;
use super::model::Lease;
use super::rows::{self, Contents, parameters, pieces, waits};
use crate::id::EventId;
use crate::outcome::State;
use crate::time::Timestamp;
use crate::tracker::Row;

impl Ledger {
    /// Hands commands over that wait, each for the attempt of the number that stands with it: nobody else ends them now.
    /// Returns the rows of all of them as they then are, with their contents, in the given order. Again, it does nothing.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] if the lease was lost; nothing is changed then. Fails if the store does.
    pub async fn hand_over(
        &self,
        lease: Lease,
        commands: Vec<(EventId, u32)>,
    ) -> Result<Vec<Row>, LedgerError> {
        self.at_home(|store| async move {
            let mut work = store.work().await?;
            fence(work.connection(), lease).await?;
            change(work.connection(), "handed = 1, attempt = given.column2", waits!(), &commands).await?;
            let ids: Vec<_> = commands.into_iter().map(|(id, _)| id).collect();
            let rows = rows::select(work.connection(), &ids, Contents::Wanted).await?;
            work.commit().await?;
            Ok(rows)
        })
        .await
    }

    /// Lets commands lapse that wait. Returns the rows of all of them as they then are, without content, in the given
    /// order.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] if the lease was lost; nothing is changed then. Fails if the store does.
    pub async fn expire(
        &self,
        lease: Lease,
        commands: Vec<EventId>,
        now: Timestamp,
    ) -> Result<Vec<Row>, LedgerError> {
        self.at_home(|store| async move {
            let mut work = store.work().await?;
            fence(work.connection(), lease).await?;
            let mut rows = rows::select(work.connection(), &commands, Contents::Left).await?;
            for row in &mut rows {
                if row.state.is_settled() || row.handed {
                    continue;
                }
                // Who changed it since it was read has ended it.
                *row = match rows::end(work.connection(), row.clone(), State::Expired, now).await? {
                    Some(ended) => ended,
                    None => rows::find(work.connection(), &row.device, &row.id).await?.unwrap_or(row.clone()),
                };
            }
            work.commit().await?;
            Ok(rows)
        })
        .await
    }
}

/// Takes commands back that were handed over for an attempt that has ended: they wait again.
pub(super) async fn take_back(
    connection: &mut AnyConnection,
    commands: &[(EventId, u32)],
) -> Result<(), LedgerError> {
    change(connection, "handed = 0", "handed = 1 AND attempt = given.column2", commands).await
}

/// Changes the commands that satisfy the condition. `given` are those and the attempts.
async fn change(
    connection: &mut AnyConnection,
    set: &str,
    condition: &str,
    commands: &[(EventId, u32)],
) -> Result<(), LedgerError> {
    for piece in pieces(commands) {
        let given = parameters(piece.len(), 2, 1);
        let mut statement = sqlx::query(AssertSqlSafe(format!(
            "UPDATE commands SET {set} FROM (VALUES {given}) AS given WHERE id = given.column1 AND {condition}"
        )));
        for (id, attempt) in piece {
            statement = statement.bind(id.as_str()).bind(i64::from(*attempt));
        }
        statement.execute(&mut *connection).await?;
    }
    Ok(())
}
