//! The database: which it is, how it is opened, and how long one waits for it.
//!
//! Everything speaks to sqlx's `Any` driver in the SQL that SQLite and PostgreSQL share; what is one's own is in
//! [`super::sqlite`] and [`super::postgres`], and this file chooses. Names are ordered by their bytes in both.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::{Arc, Once};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::install_drivers;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection, SqlSafeStr, SqlStr};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::address::{self, Address};
use super::error::RegistryError;
use super::work::{Kind, Work};
use super::write::{Origin, Write};
use super::{news, postgres, sqlite};

/// How long one waits for the store: longer than for a connection and a statement. A server that has vanished does not
/// say so.
const ANSWER: Duration = Duration::from_secs(20);
/// How often the migrations of a file are tried, where another process makes the same file at the same time.
const MIGRATION_ATTEMPTS: usize = 5;
/// The tables, in the order in which they came.
const MIGRATIONS: [(&str, &str); 2] = [
    ("registry", include_str!("../../migrations/0001_registry.sql")),
    ("commands", include_str!("../../migrations/0002_commands.sql")),
];

/// The database. Must be used on the home runtime only, where the pool has its timers and tasks.
#[derive(Debug)]
pub(crate) struct Store {
    pool: AnyPool,
    kind: Kind,
    /// Held by whoever writes: within a process, writers queue here in turn instead of asking SQLite again and again.
    turn: Arc<Semaphore>,
    /// Held by whoever works beside the registry: the same turn in SQLite, some of the connections to PostgreSQL.
    work: Arc<Semaphore>,
    /// Tells this process's changes from those of others.
    origin: Origin,
    /// What tells the other processes that there are changes, if they listen.
    notify: Option<&'static str>,
    /// Signals that another process may have written.
    news: Arc<Notify>,
    _listener: Option<AbortOnDropHandle<()>>,
}

impl Store {
    /// Opens the database, and makes or updates its tables.
    pub(super) async fn open(url: &str, origin: String) -> Result<Self, RegistryError> {
        install();
        let failed = |reason: String| RegistryError::Open { url: address::shown(url), reason };
        let address = address::parse(url)?;
        let (options, pool) = match &address {
            Address::Sqlite(path) => (sqlite::prepare(path).map_err(failed)?, sqlite::pool()),
            Address::Postgres(url) => (postgres::prepare(url.clone()).map_err(failed)?, postgres::pool()),
        };
        let database = options.database_url.clone();
        let pool = pool.connect_with(options).await.map_err(|error| failed(reason(&error)))?;
        migrate(&pool, &address).await.map_err(failed)?;
        let news = Arc::new(Notify::new());
        let listen = match &address {
            Address::Sqlite(_) => None,
            Address::Postgres(_) => {
                let options = PgConnectOptions::from_str(database.as_str());
                Some(news::listen(options.map_err(|error| failed(error.to_string()))?, news.clone()))
            }
        };
        let turn = Arc::new(Semaphore::new(1));
        let (kind, work) = match &address {
            Address::Sqlite(_) => (Kind::Sqlite, turn.clone()),
            Address::Postgres(_) => (Kind::Postgres, Arc::new(Semaphore::new(postgres::WORKERS))),
        };
        Ok(Self {
            pool,
            kind,
            turn,
            work,
            origin: Origin::new(origin),
            notify: listen.is_some().then_some(postgres::NOTIFY),
            news,
            _listener: listen.map(|listen| AbortOnDropHandle::new(tokio::spawn(listen))),
        })
    }

    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns what signals that another process may have written. SQLite never does.
    pub(super) fn news(&self) -> Arc<Notify> {
        self.news.clone()
    }

    /// Begins a write, once all before it have ended.
    pub(super) async fn write(&self) -> Result<Write<'_>, RegistryError> {
        let turn = self.turn.clone().acquire_owned().await.map_err(|_| RegistryError::Unavailable)?;
        Write::begin(self.pool.begin().await?, &self.origin, self.notify, turn).await
    }

    /// Begins a piece of work on tables that are not the registry's: what it writes is no change that others read of.
    pub(crate) async fn work(&self) -> Result<Work, RegistryError> {
        let turn = self.work.clone().acquire_owned().await.map_err(|_| RegistryError::Unavailable)?;
        Work::begin(&self.pool, self.kind, Some(turn)).await
    }

    /// Begins to read: all that is read is of the same moment.
    pub(crate) async fn view(&self) -> Result<Work, RegistryError> {
        Work::begin(&self.pool, self.kind, None).await
    }
}

/// Runs something on the runtime that the store was opened on, to its end.
pub(crate) async fn run<T, E, F>(home: &Handle, work: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<RegistryError> + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    home.spawn(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "the work of the registry's store was cut short");
        Err(RegistryError::Unavailable.into())
    })
}

/// Waits for the store as long as it may take, and no longer.
///
/// # Errors
/// Fails if the store does, or does not answer.
pub(crate) async fn in_time<T, E: From<RegistryError>>(
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout(ANSWER, answer).await.unwrap_or_else(|_| {
        tracing::error!("the registry's store does not answer");
        Err(RegistryError::Unavailable.into())
    })
}

/// Says why there is no connection.
fn reason(error: &sqlx::Error) -> String {
    // What the pool says is about itself: it has tried again and again.
    if matches!(error, sqlx::Error::PoolTimedOut) { "nobody answers".to_owned() } else { error.to_string() }
}

fn install() {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(|| {
        // Fails only where another library has installed drivers, and connecting then tells what is missing.
        if let Err(error) = install_drivers(&[sqlx::sqlite::any::DRIVER, sqlx::postgres::any::DRIVER]) {
            tracing::debug!(%error, "the SQL drivers were installed before");
        }
    });
}

/// Makes or updates the tables.
async fn migrate(pool: &AnyPool, address: &Address<'_>) -> Result<(), String> {
    // Closed afterwards: the lock that PostgreSQL keeps for it must not outlive a failure.
    let mut connection = pool.acquire().await.map_err(|error| error.to_string())?.detach();
    let result = match address {
        Address::Sqlite(_) => {
            let migrations = MIGRATIONS.map(|(name, sql)| (name, sql.into_sql_str()));
            run_migrations(&mut connection, migrations, MIGRATION_ATTEMPTS).await
        }
        Address::Postgres(_) => {
            postgres::prepare_migration(&mut connection).await?;
            let migrations =
                MIGRATIONS.map(|(name, sql)| (name, AssertSqlSafe(postgres::migration(sql)).into_sql_str()));
            run_migrations(&mut connection, migrations, 1).await
        }
    };
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "the connection of the migrations did not close");
    }
    result
}

async fn run_migrations(
    connection: &mut AnyConnection,
    migrations: [(&'static str, SqlStr); MIGRATIONS.len()],
    attempts: usize,
) -> Result<(), String> {
    let migrations = (1..).zip(migrations).map(|(version, (name, sql))| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
    });
    let migrator = Migrator::with_migrations(migrations.collect());
    let mut attempt = 1;
    loop {
        match migrator.run_direct(None, connection, false).await {
            Err(error) if attempt < attempts => {
                tracing::debug!(%error, attempt, "the migrations are tried again");
                sleep(Duration::from_millis(100)).await;
                attempt += 1;
            }
            result => return result.map_err(|error| error.to_string()),
        }
    }
}

/// Writes what is kept as JSON.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<String, RegistryError> {
    serde_json::to_string(value).map_err(unreadable)
}

/// Reads what is kept as JSON.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, RegistryError> {
    serde_json::from_str(text).map_err(unreadable)
}

/// Reads a name.
pub(crate) fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, RegistryError> {
    text.parse().map_err(unreadable)
}

/// Says to the log that the store holds what is none of ours.
pub(crate) fn unreadable(error: impl Display) -> RegistryError {
    tracing::error!(%error, "the registry's store holds what cannot be read");
    RegistryError::Unavailable
}
