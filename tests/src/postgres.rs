//! A database of a test's own on the PostgreSQL server that the environment names.

use std::str::FromStr;

use common::testing;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use url::Url;

use crate::secrets;

/// A database that is dropped when this is.
#[derive(Debug)]
pub struct Database {
    server: Url,
    name: String,
}

impl Database {
    /// Makes a database. Says visibly that `test` is skipped if the environment names no server.
    ///
    /// # Panics
    /// Panics if the server does not make it, or if none is named and `DROGUE_TEST_REQUIRE` lists `postgres`.
    pub async fn create(test: &str) -> Option<Self> {
        let server = Url::parse(&testing::postgres(test)?).expect("DATABASE_URL is an address");
        let name = format!("drogue_{}", secrets::unique());
        ask(&server, format!("CREATE DATABASE {name}")).await;
        Some(Self { server, name })
    }

    /// Returns its address.
    pub fn url(&self) -> String {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url.into()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, statement) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime starts");
        // On a thread of its own: there may or may not be a runtime on this one.
        let dropped = std::thread::spawn(move || runtime.block_on(ask(&server, statement))).join();
        assert!(dropped.is_ok() || std::thread::panicking(), "the database cannot be dropped");
    }
}

async fn ask(server: &Url, statement: String) {
    let options = PgConnectOptions::from_str(server.as_str()).expect("DATABASE_URL is an address");
    let mut connection = options.connect().await.expect("the server of DATABASE_URL is there");
    connection.execute(AssertSqlSafe(statement)).await.expect("the role may make databases");
}
