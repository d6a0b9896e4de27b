//! The database: how it is opened, and how it is written to.
//!
//! Everything speaks to sqlx's `Any` driver in the SQL that SQLite and PostgreSQL share. What differs between the two
//! is in this file: the driver, the address, and what is said to a new connection. Names are ordered by their bytes,
//! which is SQLite's way; a PostgreSQL database must be made with the collation C for that.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::{Arc, Once};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_drivers};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Any, AnyConnection, AnyPool, Row, SqlSafeStr, Transaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::RegistryError;
use super::sqlite;
use crate::auth::Change;

const CONNECTIONS: u32 = 4;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the migrations are tried, where another process makes the same database at the same time.
const MIGRATION_ATTEMPTS: usize = 5;

/// The database. Must be used on the home runtime only, where the pool has its timers and tasks.
#[derive(Debug)]
pub(super) struct Store {
    pool: AnyPool,
    /// Held by whoever writes: within a process, writers queue here in turn instead of asking SQLite again and again.
    turn: Arc<Semaphore>,
    /// Tells this process's changes from those of others.
    origin: String,
}

impl Store {
    pub(super) async fn open(url: &str, origin: String) -> Result<Self, RegistryError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(|| {
            // Fails only where another library has installed drivers, and connecting then tells what is missing.
            if let Err(error) = install_drivers(&[sqlx::sqlite::any::DRIVER]) {
                tracing::debug!(%error, "the SQL drivers were installed before");
            }
        });
        let failed = |reason: String| RegistryError::Open { url: without_password(url), reason };
        let Some(path) = url.strip_prefix("sqlite://") else {
            let reason = "only 'sqlite://PATH' is".to_owned();
            return Err(RegistryError::Address { url: without_password(url), reason });
        };
        let address = sqlite::prepare(path).map_err(failed)?;
        let options = AnyConnectOptions::from_str(&address).map_err(|error| failed(error.to_string()))?;
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            // A file does not go away like a server does.
            .test_before_acquire(false)
            .after_connect(|connection, _| Box::pin(sqlite::configure(connection)))
            .connect_with(options)
            .await
            .map_err(|error| failed(error.to_string()))?;
        migrate(&pool).await.map_err(|error| failed(error.to_string()))?;
        Ok(Self { pool, turn: Arc::new(Semaphore::new(1)), origin })
    }

    pub(super) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Begins a write, once all before it have ended.
    pub(super) async fn write(&self) -> Result<Write<'_>, RegistryError> {
        let turn = self.turn.clone().acquire_owned().await.map_err(|_| RegistryError::Unavailable)?;
        let mut transaction = self.pool.begin().await?;
        // First of all: SQLite then takes its write lock before it takes a snapshot that others could outdate, and
        // PostgreSQL commits writes in the order of their numbers, which is what readers of `changes` rely on.
        let row = sqlx::query("UPDATE writes SET last = last + 1 RETURNING last")
            .fetch_one(&mut *transaction)
            .await?;
        Ok(Write {
            number: row.try_get(0)?,
            transaction,
            origin: &self.origin,
            changes: Vec::new(),
            _turn: turn,
        })
    }
}

/// One write: all of it, or nothing. It is undone when dropped.
#[derive(Debug)]
pub(super) struct Write<'a> {
    number: i64,
    transaction: Transaction<'static, Any>,
    origin: &'a str,
    changes: Vec<Change>,
    _turn: OwnedSemaphorePermit,
}

impl Write<'_> {
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
            .bind(self.origin)
            .execute(&mut *self.transaction)
            .await?;
        self.changes.push(change);
        Ok(())
    }

    /// Commits, and returns the changes that were noted: whoever commits makes them known.
    pub(super) async fn commit(mut self) -> Result<Vec<Change>, RegistryError> {
        if !self.changes.is_empty() {
            sqlx::query("UPDATE writes SET last = $1").bind(self.number).execute(self.connection()).await?;
        }
        self.transaction.commit().await?;
        Ok(self.changes)
    }
}

async fn migrate(pool: &AnyPool) -> Result<(), sqlx::migrate::MigrateError> {
    let registry = include_str!("../../migrations/0001_registry.sql").into_sql_str();
    let migrations = [Migration::new(1, Cow::Borrowed("registry"), MigrationType::Simple, registry, false)];
    let migrator = Migrator::with_migrations(migrations.into());
    let mut attempt = 1;
    loop {
        match migrator.run(pool).await {
            Err(error) if attempt < MIGRATION_ATTEMPTS => {
                tracing::debug!(%error, attempt, "the migrations are tried again");
                tokio::time::sleep(Duration::from_millis(100)).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// Writes what is kept as JSON.
pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, RegistryError> {
    serde_json::to_string(value).map_err(unreadable)
}

/// Reads what is kept as JSON.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, RegistryError> {
    serde_json::from_str(text).map_err(unreadable)
}

/// Reads a name.
pub(super) fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, RegistryError> {
    text.parse().map_err(unreadable)
}

fn unreadable(error: impl Display) -> RegistryError {
    tracing::error!(%error, "the registry's store holds what cannot be read");
    RegistryError::Unavailable
}

/// Returns an address without what may be a password in it.
pub(super) fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) if scheme != "sqlite" => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        assert_eq!(without_password("postgres://me:secret@db/x"), "postgres://…@db/x");
        assert_eq!(without_password("postgres://me:p@ss@db/x"), "postgres://…@db/x");
        assert_eq!(without_password("sqlite:///a@b/c"), "sqlite:///a@b/c");
    }
}
