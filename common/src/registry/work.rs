//! Work on the store that is not the registry's own: what others keep there.

use sqlx::{Any, AnyConnection, AnyPool, Transaction};
use tokio::sync::OwnedSemaphorePermit;

use super::error::RegistryError;
use super::postgres;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// A transaction: all of it, or nothing. It is undone when dropped.
#[derive(Debug)]
pub(crate) struct Work {
    transaction: Transaction<'static, Any>,
    kind: Kind,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Work {
    /// Begins to write, whose turn it is, or to read without one.
    pub(super) async fn begin(
        pool: &AnyPool,
        kind: Kind,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Self, RegistryError> {
        let statement = match (kind, turn.is_some()) {
            // SQLite takes its write lock before it takes a snapshot that others could outdate.
            (Kind::Sqlite, true) => "BEGIN IMMEDIATE",
            (Kind::Sqlite, false) => "BEGIN",
            (Kind::Postgres, true) => "BEGIN ISOLATION LEVEL READ COMMITTED",
            (Kind::Postgres, false) => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        };
        Ok(Self { transaction: pool.begin_with(statement).await?, kind, _turn: turn })
    }

    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Waits until no other work holds this name, and holds it to the end. In SQLite nobody else writes anyhow.
    pub(crate) async fn hold(&mut self, name: &str) -> Result<(), RegistryError> {
        match self.kind {
            Kind::Sqlite => {}
            Kind::Postgres => {
                sqlx::query(postgres::HOLD).bind(name).execute(&mut *self.transaction).await?;
            }
        }
        Ok(())
    }

    /// Commits.
    pub(crate) async fn commit(self) -> Result<(), RegistryError> {
        Ok(self.transaction.commit().await?)
    }
}
