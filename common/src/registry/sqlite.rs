//! What is SQLite's own: the file, and what each connection is told.

use std::fs;
use std::io;
use std::path::{Path, absolute};
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sqlx::Executor;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};

use crate::private_file;

/// What may stand unencoded in a path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'_').remove(b'-').remove(b'~');

/// Write-ahead logging lets logins read while somebody writes; FULL makes accepted mean persisted also when the power
/// fails, in WAL as elsewhere.
const PRAGMAS: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                       PRAGMA foreign_keys = ON;";

const CONNECTIONS: u32 = 4;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the database file when it is missing, readable to its owner only, and returns how sqlx gets at it.
///
/// `path` is what follows `sqlite://`: percent-encoded, absolute or relative to the working directory.
pub(super) fn prepare(path: &str) -> Result<AnyConnectOptions, String> {
    AnyConnectOptions::from_str(&make(path)?).map_err(|error| error.to_string())
}

fn make(path: &str) -> Result<String, String> {
    if path.contains(['?', '#']) {
        return Err("a '?' or '#' in the path must be percent-encoded; there are no parameters".to_owned());
    }
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| "the path is not UTF-8".to_owned())?;
    if decoded.is_empty() || decoded.contains(":memory:") {
        return Err("a file is needed, as in 'sqlite:///var/lib/drogue/registry.sqlite'".to_owned());
    }
    let file = absolute(Path::new(&*decoded)).map_err(|error| error.to_string())?;
    let failed = |error: io::Error| format!("{}: {error}", file.display());
    file.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
    private_file::create(&file).map_err(failed)?;
    let text = file.to_str().ok_or("the path is not UTF-8")?;
    Ok(format!("sqlite://{}", utf8_percent_encode(text, ENCODED)))
}

/// Returns the address of the database in a file.
pub fn sqlite_url(file: &Path) -> String {
    format!("sqlite://{}", utf8_percent_encode(&file.to_string_lossy(), ENCODED))
}

/// Returns how connections are kept.
pub(super) fn pool() -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        // A file does not go away like a server does.
        .test_before_acquire(false)
        .after_connect(|connection, _| Box::pin(async move { connection.execute(PRAGMAS).await.map(drop) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_makes_an_address_that_leads_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a b?c#d%20é/registry.sqlite");
        let address = sqlite_url(&file);
        assert_eq!(make(address.strip_prefix("sqlite://").unwrap()), Ok(address));
        assert!(file.exists());
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for bad in ["", ":memory:", "a.sqlite?mode=ro", "a%ff", "/proc/nowhere/registry.sqlite"] {
            assert!(make(bad).is_err(), "{bad}");
        }
    }
}
