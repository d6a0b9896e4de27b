//! The one thread that writes: group commit, and between the batches retention.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, TransactionBehavior, params};

use super::checkpoint::Checkpointer;
use super::cursor::Position;
use super::link::{Access, Link};
use super::meters::Meters;
use super::queue::{Pending, Queue, Work};
use super::retention::Retention;
use super::schema::{self, LogFile};
use super::shared::Shared;
use super::{LogError, LogSettings};
use crate::channel::{Channel, PublishError};
use crate::process::Clock;
use crate::time::Timestamp;

/// Opens the file and starts its writer.
pub(super) fn start(
    file: LogFile,
    settings: LogSettings,
    clock: Clock,
) -> Result<(Arc<Shared>, JoinHandle<()>), LogError> {
    let found = file.prepare()?;
    let path = file.path.clone();
    let io = |source| LogError::Io { path: path.clone(), source };
    let last = found.last;
    let queue = Queue::new(settings.queue_events, settings.queue_bytes, settings.max_batch);
    let shared = Arc::new(Shared::new(path.clone(), queue, found));
    let checkpointer = Checkpointer::start(path.clone()).map_err(io)?;
    let retention = Retention::new(&path, &settings, clock.instant());
    let closing = Closing { shared: shared.clone() };
    let writer = Writer {
        shared: shared.clone(),
        link: Link::new(&path, Access::WriteDurably),
        last,
        failing: false,
        retention,
        checkpointer,
        meters: Meters::new(),
        clock,
    };
    let task = move || {
        // Dropped last, when the file is closed.
        let _file = file;
        let _closing = closing;
        writer.run();
    };
    let thread = thread::Builder::new().name("log-writer".into()).spawn(task).map_err(io)?;
    Ok((shared, thread))
}

/// Ends everybody who depends on the writer, also if it panicked.
struct Closing {
    shared: Arc<Shared>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.shared.queue.abandon();
        self.shared.close();
    }
}

struct Writer {
    shared: Arc<Shared>,
    link: Link,
    /// The last position that was given.
    last: Position,
    /// The last transaction failed: the next failure is no news.
    failing: bool,
    retention: Retention,
    checkpointer: Checkpointer,
    meters: Meters,
    clock: Clock,
}

impl Writer {
    fn run(mut self) {
        loop {
            let patience = self.retention.patience(self.clock.instant());
            match self.shared.queue.take(patience) {
                Work::Batch(batch) => self.write(batch),
                Work::Idle => {}
                Work::Closed => return,
            }
            if self.retention.patience(self.clock.instant()).is_zero() {
                self.retire();
            }
        }
    }

    fn write(&mut self, batch: Vec<Pending>) {
        let started = self.clock.now();
        let rows = batch.len();
        let (last, recorded) = (self.last, started.wall);
        let result = self.link.attempt(|connection| insert(connection, &batch, last, recorded));
        self.note(result.as_ref().err());
        match result {
            Ok(bytes) => {
                self.last += Position::try_from(rows).unwrap_or(0);
                self.shared.committed(self.last, newest(&batch, self.last));
                resolve(batch, &Ok(()));
                self.meters.commit_rows.record(rows as f64);
                let elapsed = self.clock.instant().saturating_duration_since(started.instant);
                self.meters.commit_seconds.record(elapsed);
                self.retention.wrote(bytes);
                self.checkpointer.wrote(bytes, &mut self.link);
            }
            Err(error) => {
                self.find_end();
                resolve(batch, &Err(PublishError::Unavailable(error.to_string())));
            }
        }
    }

    /// Asks the file for the last position after a failure: a transaction whose fsync failed may come back when the
    /// file is opened anew, and its positions must not be given again.
    fn find_end(&mut self) {
        if let Ok(found) = self.link.attempt(|connection| schema::find(connection))
            && found.last > self.last
        {
            self.last = found.last;
            self.shared.committed(found.last, found.newest.map(Some));
        }
    }

    fn retire(&mut self) {
        let now = self.clock.now();
        let result = self.retention.step(now.instant, now.wall);
        self.note(result.as_ref().err());
        if let Ok(step) = result {
            self.meters.bytes.set(step.bytes as f64);
            self.meters.retired.increment(step.deleted as u64);
        }
    }

    /// Counts failures, and logs when they begin and end.
    fn note(&mut self, error: Option<&rusqlite::Error>) {
        let path = self.shared.path.display();
        if let Some(error) = error {
            self.meters.commit_errors.increment(1);
            if !self.failing {
                tracing::error!(%error, %path, "the log cannot be written, publishers get an error until it can");
            }
        } else if self.failing {
            tracing::info!(%path, "the log can be written again");
        }
        self.failing = error.is_some();
    }
}

/// Writes a batch behind the position `last`, wholly or not at all. Returns how many bytes it has.
fn insert(
    connection: &mut Connection,
    batch: &[Pending],
    last: Position,
    recorded: Timestamp,
) -> rusqlite::Result<u64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut bytes = 0;
    {
        let prepare = |channel| {
            transaction.prepare_cached(&format!("INSERT INTO {channel} VALUES (?1, ?2, ?3, ?4, ?5)"))
        };
        let [telemetry, commands, outcomes] = Channel::ALL.map(prepare);
        let mut inserts = [telemetry?, commands?, outcomes?];
        for (Pending { row, .. }, position) in batch.iter().zip(last + 1..) {
            inserts[row.channel as usize].execute(params![
                position,
                recorded.as_millis(),
                row.key.as_str(),
                row.attributes,
                &row.data[..],
            ])?;
            bytes += row.size() as u64;
        }
    }
    transaction.commit()?;
    Ok(bytes)
}

/// Returns the last position in each channel of a batch that ends at `last`.
fn newest(batch: &[Pending], last: Position) -> [Option<Position>; Channel::ALL.len()] {
    Channel::ALL.map(|channel| {
        let mut backwards = batch.iter().rev().zip((0..=last).rev());
        backwards.find(|(pending, _)| pending.row.channel == channel).map(|(_, position)| position)
    })
}

/// Tells every publisher of a batch what became of it.
fn resolve(batch: Vec<Pending>, result: &Result<(), PublishError>) {
    for Pending { publisher, .. } in batch {
        // A publisher that no longer listens withdrew nothing.
        drop(publisher.send(result.clone()));
    }
}
