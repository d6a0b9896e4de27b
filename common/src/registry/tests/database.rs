//! A database for each test: a file, or a database of the PostgreSQL server that `DATABASE_URL` names.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use tempfile::TempDir;
use url::Url;

use super::*;
use crate::process::{Clock, new_event_id};
use crate::testing;

/// Makes two tests of a function: one on SQLite, and one on PostgreSQL, which is skipped where there is none.
macro_rules! on_each_store {
    ($test:ident) => {
        mod $test {
            #[test]
            fn on_sqlite() {
                super::Database::sqlite().run(super::$test);
            }

            #[test]
            fn on_postgres() {
                if let Some(database) = super::Database::postgres(stringify!($test)) {
                    database.run(super::$test);
                }
            }
        }
    };
    (blocking $test:ident) => {
        mod $test {
            #[test]
            fn on_sqlite() {
                super::$test(super::Database::sqlite());
            }

            #[test]
            fn on_postgres() {
                if let Some(database) = super::Database::postgres(stringify!($test)) {
                    super::$test(database.clone());
                }
            }
        }
    };
}
pub(crate) use on_each_store;

/// Makes a test of a function on PostgreSQL, which is skipped where there is none.
macro_rules! on_postgres {
    ($test:ident) => {
        mod $test {
            #[test]
            fn on_postgres() {
                if let Some(database) = super::Database::postgres(stringify!($test)) {
                    database.run(super::$test);
                }
            }
        }
    };
}
pub(crate) use on_postgres;

/// Another order than that of bytes, in which upper and lower case are side by side.
const CREATE: &str = "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'";
const TERMINATE: &str = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity WHERE datname = '{}'";

/// A database that goes when the last of its clones does.
#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(Arc<TempDir>),
    Postgres(Arc<Postgres>),
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(Arc::new(tempfile::tempdir().unwrap()))
    }

    /// Makes a database on the server, or says that `test` is skipped.
    pub(crate) fn postgres(test: &str) -> Option<Self> {
        let server = Url::parse(&testing::postgres(test)?).expect("DATABASE_URL is an address");
        Some(Self::Postgres(Arc::new(Postgres::create(&server, CREATE))))
    }

    /// Runs a test on a runtime that ends before the database does: the server waits for clients that are logging in.
    pub(crate) fn run<F: Future<Output = ()>>(&self, test: impl FnOnce(Self) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(self.clone()));
    }

    /// Returns the database of the server.
    pub(super) fn server(&self) -> Arc<Postgres> {
        match self {
            Self::Sqlite(_) => panic!("this is a test of PostgreSQL"),
            Self::Postgres(server) => server.clone(),
        }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(directory) => sqlite_url(&directory.path().join("registry.sqlite")),
            Self::Postgres(database) => database.url.to_string(),
        }
    }

    pub(crate) async fn open(&self, settings: RegistrySettings) -> Registry {
        Registry::open(&self.url(), settings).await.unwrap()
    }

    /// Opens a registry that hears of changes only where a test reads them.
    pub(super) async fn open_unfollowed(&self) -> Registry {
        Registry { shared: Registry::assemble(&self.url(), settings()).await.unwrap() }
    }

    /// Returns all that is kept, as bytes.
    pub(crate) async fn contents(&self) -> Vec<u8> {
        match self {
            Self::Sqlite(directory) => {
                let files = std::fs::read_dir(directory.path()).unwrap();
                files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
            }
            Self::Postgres(database) => {
                let mut rows = Vec::new();
                for table in
                    ["applications", "devices", "tokens", "changes", "commands", "partitions", "snapshots"]
                {
                    rows.extend(database.query(&format!("SELECT t.*::text FROM {table} t")).await);
                }
                rows.concat().into_bytes()
            }
        }
    }
}

/// A database of a PostgreSQL server.
pub(crate) struct Postgres {
    /// Where the server is asked for things that are not the registry's.
    pub(super) server: Url,
    pub(super) url: Url,
}

impl Postgres {
    pub(super) fn create(server: &Url, how: &str) -> Self {
        let name =
            format!("drogue_test_{}", new_event_id(Clock::system().wall()).to_string().replace('-', "_"));
        ask_blocking(server, format!("CREATE DATABASE {name} {how}"));
        let mut url = server.clone();
        url.set_path(&name);
        Self { server: server.clone(), url }
    }

    /// Executes a statement in the database, beside the registry, and returns the first column of its rows.
    pub(super) async fn query(&self, statement: &str) -> Vec<String> {
        ask(&self.url, statement.to_owned()).await
    }

    /// Executes a statement from outside of the database. `{}` is its name.
    pub(super) async fn administer(&self, statement: &str) -> Vec<String> {
        ask(&self.server, self.named(statement)).await
    }

    /// Ends the connections to the database that a condition picks, and returns how many.
    pub(super) async fn terminate(&self, condition: &str) -> usize {
        self.administer(&format!("{TERMINATE} AND {condition}")).await.len()
    }

    /// Ends all connections to the database, so many times in a row.
    pub(super) fn keep_terminating(&self, times: usize) -> impl Future<Output = ()> + Send + use<> {
        let (server, statement) = (self.server.clone(), self.named(TERMINATE));
        async move {
            let mut connection = PgConnectOptions::from_url(&server).unwrap().connect().await.unwrap();
            for _ in 0..times {
                connection.execute(AssertSqlSafe(statement.clone())).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    fn named(&self, statement: &str) -> String {
        statement.replace("{}", self.url.path().trim_start_matches('/'))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        ask_blocking(&self.server, self.named("DROP DATABASE {} WITH (FORCE)"));
    }
}

async fn ask(url: &Url, statement: String) -> Vec<String> {
    let options = PgConnectOptions::from_url(url).unwrap();
    let mut connection = options.connect().await.expect("the server of DATABASE_URL is there");
    let rows = connection.fetch_all(AssertSqlSafe(statement.clone())).await;
    let rows = rows.unwrap_or_else(|error| panic!("{statement}: {error}"));
    connection.close().await.unwrap();
    rows.iter().filter(|row| !row.is_empty()).map(|row| row.get(0)).collect()
}

/// Asks on a thread of its own: there may or may not be a runtime on this one.
fn ask_blocking(url: &Url, statement: String) {
    let url = url.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || runtime.block_on(ask(&url, statement))).join().unwrap();
}
