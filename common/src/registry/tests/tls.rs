//! TLS to the server, if it has any: whom the registry trusts.

use url::Url;

use super::*;
use crate::testing::skip;

/// Returns the address of a database without parameters of TLS, and the file of the server's authority.
fn with_authority(database: &Database, test: &str) -> Option<(Url, String)> {
    let mut url = Url::parse(&database.url()).unwrap();
    let all: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let authority = all.iter().find(|(name, _)| name == "sslrootcert").map(|(_, file)| file.clone());
    let Some(authority) = authority else {
        skip(test, "postgres", "DATABASE_URL names no sslrootcert of a server with TLS");
        return None;
    };
    url.query_pairs_mut().clear().extend_pairs(all.iter().filter(|(name, _)| !name.starts_with("ssl")));
    Some((url, authority))
}

fn with(url: &Url, parameters: &[(&str, &str)]) -> String {
    let mut url = url.clone();
    url.query_pairs_mut().extend_pairs(parameters);
    url.to_string()
}

on_postgres!(a_server_is_verified_and_what_is_said_is_encrypted);
async fn a_server_is_verified_and_what_is_said_is_encrypted(database: Database) {
    let Some((url, authority)) = with_authority(&database, "a_server_is_verified") else { return };
    let url = with(&url, &[("sslmode", "verify-full"), ("sslrootcert", &authority)]);
    let registry = Registry::open(&url, settings()).await.unwrap();
    let encrypted =
        "SELECT CASE WHEN ssl THEN 1::bigint ELSE 0 END FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let row = sqlx::query(encrypted).fetch_one(registry.shared.store.pool()).await.unwrap();
    assert_eq!(sqlx::Row::get::<i64, _>(&row, 0), 1);
}

on_postgres!(a_server_of_another_authority_is_refused);
async fn a_server_of_another_authority_is_refused(database: Database) {
    let Some((url, _)) = with_authority(&database, "a_server_of_another_authority") else { return };
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("ca.pem");
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&other, key.cert.pem()).unwrap();
    for mode in ["verify-full", "verify-ca"] {
        let parameters = [("sslmode", mode), ("sslrootcert", other.to_str().unwrap())];
        let error = Registry::open(&with(&url, &parameters), settings()).await.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
    }
    // Nor is one that none is named for: the system does not know it.
    let error = Registry::open(&with(&url, &[("sslmode", "verify-full")]), settings()).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

on_postgres!(a_server_of_another_name_is_refused);
async fn a_server_of_another_name_is_refused(database: Database) {
    let Some((mut url, authority)) = with_authority(&database, "a_server_of_another_name") else { return };
    let other = match url.host_str() {
        Some("127.0.0.1") => "localhost",
        Some("localhost") => "127.0.0.1",
        Some(_) | None => {
            return skip("a_server_of_another_name", "postgres", "DATABASE_URL names no local host");
        }
    };
    url.set_host(Some(other)).unwrap();
    let url = with(&url, &[("sslmode", "verify-full"), ("sslrootcert", &authority)]);
    let error = Registry::open(&url, settings()).await.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named_by_its_parameter() {
    let url = "postgres://me:hunter2@127.0.0.1:1/x?sslmode=verify-full&sslrootcert=/nowhere/ca.pem";
    let error = Registry::open(url, settings()).await.unwrap_err().to_string();
    assert!(error.contains("the file of sslrootcert") && !error.contains("hunter2"), "{error}");
}
