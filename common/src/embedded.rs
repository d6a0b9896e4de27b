//! The channel adapter for one machine: a durable log in one SQLite file.
//!
//! The way of an event: [`EventSink::publish`] encodes it and puts it into a bounded queue; one thread takes whatever
//! waits there, writes it in one transaction, and then resolves the publishers' futures. So many publishers share one
//! fsync, and a lone one waits for nobody. The commit wakes the subscriptions of the channels that it touched; each has
//! a thread and a read-only connection of its own.
//!
//! Invariants: acknowledged means committed with `synchronous=FULL`; a position is never given twice, also not after
//! retention or a restart; a subscription holds no snapshot while its handler runs, so that a slow handler neither
//! delays the writer nor makes the file grow.

mod batch;
mod checkpoint;
mod cursor;
mod link;
mod meters;
mod queue;
mod reader;
mod retention;
mod row;
mod schema;
mod shared;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::BoxFuture;
use crate::channel::{
    Channel, Cursor, EventSink, EventSource, Place, PublishError, RecordHandler, SourceError, Start,
    Subscription,
};
use crate::event::Event;
use crate::process::Clock;
use row::Row;
use shared::Shared;

/// Sets how much the log keeps and how much may wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Records older than this are deleted; 7 days by default.
    pub retention_age: Duration,
    /// The oldest records are deleted when all channels together take more bytes; 1 GiB by default.
    pub retention_size: u64,
    /// Events that may wait for the writer; 10,000 by default.
    pub queue_events: usize,
    /// Bytes that may wait for the writer; 64 MiB by default.
    pub queue_bytes: usize,
    /// Events that share one transaction at most; 1,000 by default.
    pub max_batch: usize,
    /// The largest event in bytes, attributes included; 16 MiB by default.
    pub max_event: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            retention_age: Duration::from_secs(7 * 86_400),
            retention_size: 1 << 30,
            queue_events: 10_000,
            queue_bytes: 64 << 20,
            max_batch: 1_000,
            max_event: 16 << 20,
        }
    }
}

/// Says why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another process, or another handle in this one, has the log open.
    #[error("the log {path} is in use by another process; stop that one, or choose another data directory")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A later version wrote the file.
    #[error(
        "the log {path} has format {found}, this version reads up to {known}; start the newer version again"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The format of the file.
        found: i32,
        /// The newest format that this version reads.
        known: i32,
    },
    /// The file is a database of something else.
    #[error("{path} is not a log; move it away, or choose another data directory")]
    NotALog {
        /// The file.
        path: PathBuf,
    },
    /// The file or its lock cannot be opened or made.
    #[error("cannot open the log {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// SQLite cannot read or write the file.
    #[error("cannot open the log {path}: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
}

/// A durable log of all channels in one SQLite file. Clones share it.
///
/// Dropping the last clone writes what was accepted, closes the file, and ends the log's subscriptions; it blocks for
/// as long as that takes.
#[derive(Clone)]
pub struct EmbeddedLog {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    max_event: usize,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedLog {
    /// Opens the log in the file `path`, or makes it. Beside it, SQLite keeps `-wal` and `-shm`, and `.lock` keeps
    /// others out. Blocks on the disk.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn open(path: &Path, settings: LogSettings, clock: Clock) -> Result<Self, LogError> {
        let file = schema::LogFile::open(path)?;
        let max_event = settings.max_event;
        let (shared, writer) = writer::start(file, settings, clock)?;
        Ok(Self { inner: Arc::new(Inner { shared, max_event, writer: Some(writer) }) })
    }

    fn enqueue(&self, channel: Channel, event: &Event) -> Result<queue::Receipt, PublishError> {
        let row = Row::encode(channel, event);
        if row.size() > self.inner.max_event {
            return Err(PublishError::TooLarge);
        }
        self.inner.shared.queue.push(row)
    }
}

impl EventSink for EmbeddedLog {
    fn publish(&self, channel: Channel, event: Event) -> BoxFuture<'static, Result<(), PublishError>> {
        let receipt = self.enqueue(channel, &event);
        Box::pin(async move { receipt?.await.unwrap_or_else(|_| Err(queue::closed())) })
    }
}

impl EventSource for EmbeddedLog {
    fn subscribe(
        &self,
        channels: &[Channel],
        start: Start,
        handler: Box<dyn RecordHandler>,
    ) -> BoxFuture<'_, Result<Subscription, SourceError>> {
        Box::pin(reader::subscribe(&self.inner.shared, channels.to_vec(), start, handler))
    }

    fn cursor_behind(&self, places: &[(Channel, Vec<Option<Place>>)]) -> Result<Cursor, SourceError> {
        // The channels share one order, so the subscription resumes behind the lowest place: it may meet records again.
        let position = |place: &Option<Place>| place.map_or(Ok(0), |Place(place)| place.try_into());
        let positions = places.iter().flat_map(|(_, places)| places).map(position);
        let lowest = positions.collect::<Result<Vec<_>, _>>().map_err(|_| SourceError::InvalidCursor)?;
        let lowest = lowest.into_iter().min().ok_or(SourceError::InvalidCursor)?;
        Ok(cursor::format(&self.inner.shared.id, lowest))
    }
}

impl fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedLog").field("path", &self.inner.shared.path).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.queue.close();
        let Some(writer) = self.writer.take() else { return };
        // A publisher's task may own the last clone and be freed where its future is resolved: on the writer itself.
        if writer.thread().id() != thread::current().id() && writer.join().is_err() {
            tracing::error!("the log's writer had panicked");
        }
    }
}
