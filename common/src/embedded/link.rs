//! A connection to the file that is made when it is needed, and anew after each failure.
//!
//! So whatever a failing disk did to a connection, the log works again as soon as the disk does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// How long a connection waits for another program that has the file locked, as an SQL shell may.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// What a connection may do, and how durable that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads.
    Read,
    /// Writes; a commit may be lost with the machine's power, but never out of order.
    Write,
    /// Writes; a commit is on the disk.
    WriteDurably,
}

/// A connection, or the intent to have one. It stays on one thread, so SQLite's own mutexes are off.
#[derive(Debug)]
pub(super) struct Link {
    path: PathBuf,
    access: Access,
    connection: Option<Connection>,
}

impl Link {
    /// Prepares a connection to a file that is there.
    pub(super) fn new(path: &Path, access: Access) -> Self {
        Self { path: path.into(), access, connection: None }
    }

    /// Does something with the connection, which is given up if that fails.
    pub(super) fn attempt<T>(
        &mut self,
        action: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(connect(&self.path, self.access)?),
        };
        let result = action(connection);
        if result.is_err() {
            self.connection = None;
        }
        result
    }
}

fn connect(path: &Path, access: Access) -> rusqlite::Result<Connection> {
    let (flags, synchronous) = match access {
        Access::Read => (OpenFlags::SQLITE_OPEN_READ_ONLY, "OFF"),
        Access::Write => (OpenFlags::SQLITE_OPEN_READ_WRITE, "NORMAL"),
        Access::WriteDurably => (OpenFlags::SQLITE_OPEN_READ_WRITE, "FULL"),
    };
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    // Checkpoints have a thread of their own.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}
