//! The word that somebody has written, from PostgreSQL, so that changes are read at once.
//!
//! It is only a word: what has changed is read from the tables, and is read at the poll interval too. So nothing is
//! lost when the word is, and after a new beginning the tables are read once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::postgres::{ACQUIRE_TIMEOUT, CHANNEL};

/// How long after a connection was lost, or could not be had, the next one is tried.
const RETRY: Duration = Duration::from_millis(500);
/// How long nothing is heard until the connection is tested.
const QUIET: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(5);

/// Listens on a connection of its own, for ever, and signals that the tables are to be read.
pub(super) async fn listen(options: PgConnectOptions, news: Arc<Notify>) {
    loop {
        match begin(&options).await {
            Ok(listener) => {
                // What was written until now has not been heard of.
                news.notify_one();
                let error = hear(listener, &news).await;
                tracing::warn!(%error, "the registry's notifications broke off: the tables are read at intervals");
            }
            Err(error) => tracing::debug!(%error, "the registry's notifications cannot be had"),
        }
        sleep(RETRY).await;
    }
}

async fn begin(options: &PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    // The listener wants a pool. This one is of a single connection and ends with it.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options.clone())
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    // It would connect anew without a limit of time.
    listener.eager_reconnect(false);
    in_time(listener.listen(CHANNEL)).await?;
    Ok(listener)
}

/// Passes on what is heard, and returns why that ended.
async fn hear(mut listener: PgListener, news: &Notify) -> sqlx::Error {
    loop {
        let tested = match timeout(QUIET, listener.try_recv()).await {
            Ok(Ok(Some(_))) => {
                news.notify_one();
                continue;
            }
            Ok(Ok(None)) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(Err(error)) => Err(error),
            Err(_) => in_time(listener.execute("SELECT 1")).await,
        };
        if let Err(error) = tested {
            return error;
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(ANSWER, answer).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
