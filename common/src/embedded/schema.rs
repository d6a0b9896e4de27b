//! The file: its lock, its format and its identity.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use super::LogError;
use super::cursor::Position;
use crate::channel::Channel;
use crate::private_file;

/// The format that this version writes, in `user_version`.
pub(super) const FORMAT: i32 = 1;
/// Marks the file as a log, in `application_id`: "DrLg".
const APPLICATION_ID: i32 = 0x4472_4c67;
/// Larger pages than SQLite's 4 KiB: fewer of them overflow, and a batch touches fewer.
const PAGE_SIZE: i64 = 8192;

/// The log's file, locked against a second user until this is dropped.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    _lock: File,
}

/// What the file says when it is opened.
#[derive(Debug)]
pub(super) struct Found {
    /// The log's identity, to which its cursors are bound.
    pub(super) id: String,
    /// The last position that was given.
    pub(super) last: Position,
    /// The newest position in each channel.
    pub(super) newest: [Position; Channel::ALL.len()],
}

impl LogFile {
    /// Locks the log at `path`, whether it is there or not.
    pub(super) fn open(path: &Path) -> Result<Self, LogError> {
        let io = |source| LogError::Io { path: path.into(), source };
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        private_file::create(Path::new(&name)).map_err(io)?;
        let lock = File::options().write(true).open(name).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {
                private_file::create(path).map_err(io)?;
                Ok(Self { path: path.into(), _lock: lock })
            }
            Err(TryLockError::WouldBlock) => Err(LogError::InUse { path: path.into() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Makes the tables of a new log, or checks those of an old one.
    pub(super) fn prepare(&self) -> Result<Found, LogError> {
        let database = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => LogError::NotALog { path: self.path.clone() },
            _ => LogError::Database { path: self.path.clone(), source },
        };
        let mut connection = Connection::open(&self.path).map_err(database)?;
        let header: (i32, i32, bool) = connection
            .query_row(
                "SELECT application_id, user_version, EXISTS (SELECT 1 FROM sqlite_schema)
                 FROM pragma_application_id, pragma_user_version",
                (),
                |row| row.try_into(),
            )
            .map_err(database)?;
        match header {
            (APPLICATION_ID, FORMAT, _) => {}
            (APPLICATION_ID, found, _) => {
                return Err(LogError::TooNew { path: self.path.clone(), found, known: FORMAT });
            }
            (0, 0, false) => create(&mut connection).map_err(database)?,
            _ => return Err(LogError::NotALog { path: self.path.clone() }),
        }
        find(&connection).map_err(database)
    }
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE_SIZE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE log (id TEXT NOT NULL, last_position INTEGER NOT NULL);
         INSERT INTO log VALUES (lower(hex(randomblob(8))), 0);
         CREATE TABLE retired (channel TEXT PRIMARY KEY, position INTEGER NOT NULL);",
    )?;
    for channel in Channel::ALL {
        transaction.execute("INSERT INTO retired VALUES (?1, 0)", [channel.as_str()])?;
        transaction.execute_batch(&format!(
            "CREATE TABLE {channel} (
                position INTEGER PRIMARY KEY,
                recorded INTEGER NOT NULL,
                key TEXT NOT NULL,
                attributes TEXT NOT NULL,
                data BLOB NOT NULL
            )"
        ))?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

/// Asks the file where the log ends.
pub(super) fn find(connection: &Connection) -> rusqlite::Result<Found> {
    let (id, reserved): (String, Position) =
        connection.query_row("SELECT id, last_position FROM log", (), |row| row.try_into())?;
    let mut newest = [0; Channel::ALL.len()];
    for channel in Channel::ALL {
        let sql = format!("SELECT coalesce(max(position), 0) FROM {channel}");
        newest[channel as usize] = connection.query_row(&sql, (), |row| row.get(0))?;
    }
    let last = newest.into_iter().fold(reserved, Position::max);
    Ok(Found { id, last, newest })
}

/// Returns the newest position that retention deleted from any of the channels.
pub(super) fn retired(connection: &Connection, channels: &[Channel]) -> rusqlite::Result<Position> {
    let mut query = connection.prepare_cached("SELECT position FROM retired WHERE channel = ?1")?;
    channels.iter().try_fold(0, |newest: Position, channel| {
        Ok(newest.max(query.query_row([channel.as_str()], |row| row.get(0))?))
    })
}
