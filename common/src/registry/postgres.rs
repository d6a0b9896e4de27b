//! What is PostgreSQL's own: connections to a server that may restart, fail over or vanish, and the word that it
//! passes on when somebody has written.
//!
//! A server that closes its connections is noticed by the next statement; one that has vanished says nothing. So each
//! wait ends: for a connection, for the test of one that lay idle or comes back, for a statement (by the server, and
//! by [`super::store::in_time`] where there is none any more). A connection that does not pass its test is replaced.
//!
//! The encryption and the checks of certificates are those that the address asks for. `sslrootcert` adds to the
//! system's authorities, it does not replace them.

use std::fs;
use std::str::FromStr;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, Connection, Executor, Row};
use tokio::time::timeout;
use url::Url;

const CONNECTIONS: u32 = 4;
/// How many connections may be at work beside the registry's: logins always find another.
pub(super) const WORKERS: usize = 2;
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Connections are made anew now and then, so that they follow a name that leads to another server.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How long a connection may have been idle to be used without a test: it was tested when it came back.
const FRESH: Duration = Duration::from_secs(1);
const TEST_TIMEOUT: Duration = Duration::from_secs(2);
/// What the server calls our connections, unless the address says otherwise.
const APPLICATION_NAME: &str = "drogue";

/// A statement takes milliseconds, or waits for another write. A writer that vanishes holds others up until the server
/// notices. What is written is in the order of [`super::store`] only if each statement sees the last commit. A plan that
/// was made for an empty table would be kept while it grows.
const SETTINGS: &str = "SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'; \
                        SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; \
                        SET plan_cache_mode = force_custom_plan; \
                        SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;";

/// Migrations wait for the process that is at them, and take as long as they take.
const MIGRATION_SETTINGS: &str = "SET statement_timeout = 0; SET lock_timeout = '60s';";

/// Tells whoever listens that somebody has written. The server does so when, and if, the transaction commits.
pub(super) const NOTIFY: &str = "NOTIFY drogue_registry";
/// Where it tells them.
pub(super) const CHANNEL: &str = "drogue_registry";

/// Holds a name until the transaction ends. Two names of one hash wait for each other, and that is all.
pub(super) const HOLD: &str = "SELECT 1 FROM pg_advisory_xact_lock(hashtextextended($1, 0))";

/// Returns the address as sqlx is to have it.
///
/// # Errors
/// Fails if a file that it names cannot be read; the address itself is well formed ([`super::address::parse`]).
pub(super) fn prepare(mut url: Url) -> Result<AnyConnectOptions, String> {
    let is_named = |name: &str| url.query_pairs().any(|(key, _)| key == name);
    for (name, file) in url.query_pairs().filter(|(name, _)| name.starts_with("ssl") && name != "sslmode") {
        // sqlx would say that something was not found, but not what.
        fs::File::open(&*file).map_err(|error| format!("the file of {name} cannot be read: {error}"))?;
    }
    if !is_named("application_name") {
        url.query_pairs_mut().append_pair("application_name", APPLICATION_NAME);
    }
    AnyConnectOptions::from_str(url.as_str()).map_err(|error| error.to_string())
}

/// Returns how connections are kept.
pub(super) fn pool() -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .max_lifetime(MAX_LIFETIME)
        // As below, which has a limit of time.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move { Ok(meta.idle_for < FRESH || is_alive(connection).await) })
        })
        .after_release(|connection, _| Box::pin(async move { Ok(is_alive(connection).await) }))
        .after_connect(|connection, _| Box::pin(async move { connection.execute(SETTINGS).await.map(drop) }))
}

async fn is_alive(connection: &mut AnyConnection) -> bool {
    timeout(TEST_TIMEOUT, connection.ping()).await.is_ok_and(|answer| answer.is_ok())
}

/// Makes a connection ready for migrations.
///
/// # Errors
/// Fails if the database cannot hold every text.
pub(super) async fn prepare_migration(connection: &mut AnyConnection) -> Result<(), String> {
    let failed = |error: sqlx::Error| error.to_string();
    connection.execute(MIGRATION_SETTINGS).await.map_err(failed)?;
    let row = connection.fetch_one("SHOW server_encoding").await.map_err(failed)?;
    let encoding: String = row.try_get(0).map_err(failed)?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(format!("the database's encoding must be UTF8 and is {encoding} (CREATE DATABASE … ENCODING 'UTF8')"))
}

/// Returns the SQL of a migration for PostgreSQL: texts are ordered by their bytes, as in SQLite, whatever the
/// database's own collation is; bytes have another name.
pub(super) fn migration(sql: &str) -> String {
    sql.replace(" TEXT", " TEXT COLLATE \"C\"").replace(" BLOB", " BYTEA")
}
