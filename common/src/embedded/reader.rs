//! A subscription: a thread that reads what its channels hold, and sleeps while they are quiet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::sync::oneshot;

use super::batch::Batch;
use super::cursor::{self, Position};
use super::link::{Access, Link};
use super::schema;
use super::shared::Shared;
use crate::channel::{Channel, Cursor, Flow, LiveGuard, RecordHandler, SourceError, Start, Subscription};

/// How long a subscription waits after the file could not be read.
const RETRY: Duration = Duration::from_secs(1);

/// Starts a subscription on a thread of its own.
pub(super) async fn subscribe(
    shared: &Arc<Shared>,
    mut channels: Vec<Channel>,
    start: Start,
    handler: Box<dyn RecordHandler>,
) -> Result<Subscription, SourceError> {
    channels.sort_unstable();
    channels.dedup();
    let signals = Signals::default();
    let (started, fixed) = oneshot::channel();
    let shared = shared.clone();
    let task = {
        let signals = signals.clone();
        move || serve(&shared, channels, start, handler, signals, started)
    };
    let thread =
        thread::Builder::new().name("log-reader".into()).spawn(task).map_err(unavailable)?.thread().clone();
    let guard = EndGuard { end: signals.end, thread };
    let start = fixed.await.unwrap_or_else(|_| Err(unavailable("the subscription failed to start")))?;
    Ok(Subscription::new(signals.live, guard).starting_at(start))
}

fn unavailable(reason: impl ToString) -> SourceError {
    SourceError::Unavailable(reason.to_string())
}

/// What a subscription and its thread tell each other.
#[derive(Debug, Clone, Default)]
struct Signals {
    live: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
}

/// Ends the thread when the subscription, or the future that makes it, is dropped.
struct EndGuard {
    end: Arc<AtomicBool>,
    thread: Thread,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

fn serve(
    shared: &Shared,
    channels: Vec<Channel>,
    start: Start,
    handler: Box<dyn RecordHandler>,
    signals: Signals,
    started: oneshot::Sender<Result<Cursor, SourceError>>,
) {
    // From here on a commit wakes this thread, so none is missed between the start and the first sleep.
    let _woken = shared.wake_me(&channels);
    let reader = Reader::open(shared, channels, start, handler, signals);
    let (reader, result) = match reader {
        Ok(reader) => {
            let start = cursor::format(&shared.id, reader.position);
            (Some(reader), Ok(start))
        }
        Err(error) => (None, Err(error)),
    };
    if started.send(result).is_ok()
        && let Some(mut reader) = reader
    {
        reader.run();
    }
}

struct Reader<'a> {
    /// Dropped before the handler is, so that whoever sees the handler go sees no live subscription.
    live: LiveGuard,
    shared: &'a Shared,
    link: Link,
    query: String,
    channels: Vec<Channel>,
    /// Everything in the channels up to here was handed over, or is known to be gone.
    position: Position,
    handler: Box<dyn RecordHandler>,
    end: Arc<AtomicBool>,
}

impl<'a> Reader<'a> {
    fn open(
        shared: &'a Shared,
        channels: Vec<Channel>,
        start: Start,
        handler: Box<dyn RecordHandler>,
        signals: Signals,
    ) -> Result<Self, SourceError> {
        let mut link = Link::new(&shared.path, Access::Read);
        let retired =
            link.attempt(|connection| schema::retired(connection, &channels)).map_err(unavailable)?;
        let position = match start {
            Start::Latest => shared.last(),
            Start::Earliest => retired,
            Start::After(cursor) => {
                let position = cursor::parse(&cursor, &shared.id, shared.last())?;
                if position < retired {
                    return Err(SourceError::Gone);
                }
                position
            }
        };
        let (live, query) = (LiveGuard::new(signals.live), Batch::query(&channels));
        live.set(true);
        Ok(Self { live, shared, link, query, channels, position, handler, end: signals.end })
    }

    fn run(&mut self) {
        let mut batch = Batch::default();
        while !self.has_ended() {
            let newest = self.shared.newest(&self.channels);
            if newest <= self.position {
                thread::park();
                continue;
            }
            let flow = match self.read(&mut batch) {
                Ok(Snapshot { retired, .. }) if retired > self.position => self.pass_gap(retired),
                Ok(Snapshot { more, .. }) => {
                    self.live.set(true);
                    let flow = self.deliver(&batch);
                    // The snapshot was taken after `newest` was committed: up to there nothing is left, whoever may
                    // have deleted what.
                    if !more {
                        self.position = self.position.max(newest);
                    }
                    flow
                }
                Err(error) => self.wait_for_disk(&error),
            };
            if flow == Flow::Stop {
                return;
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.end.load(Ordering::Acquire) || self.shared.is_closed()
    }

    fn read(&mut self, batch: &mut Batch) -> rusqlite::Result<Snapshot> {
        let Self { link, channels, query, position, .. } = self;
        link.attempt(|connection| {
            let snapshot = connection.transaction()?;
            let retired = schema::retired(&snapshot, channels)?;
            let more = batch.fill(&mut snapshot.prepare_cached(query)?, *position)?;
            Ok(Snapshot { retired, more })
        })
    }

    fn deliver(&mut self, batch: &Batch) -> Flow {
        for record in batch.records(&self.shared.id) {
            if self.has_ended() || self.handler.record(&record) == Flow::Stop {
                return Flow::Stop;
            }
            self.position = record.position();
        }
        Flow::Continue
    }

    /// Retention deletes in the order of all channels, so behind `retired` nothing is left to be skipped.
    fn pass_gap(&mut self, retired: Position) -> Flow {
        tracing::warn!(position = self.position, retired, "a subscription was slower than retention");
        self.position = retired;
        self.handler.interrupted(&SourceError::Gone)
    }

    fn wait_for_disk(&self, error: &rusqlite::Error) -> Flow {
        if self.live.set(false) {
            tracing::error!(%error, path = %self.shared.path.display(), "the log cannot be read, trying again");
        }
        thread::park_timeout(RETRY);
        Flow::Continue
    }
}

/// What a read found.
struct Snapshot {
    /// The newest position that retention deleted from the channels.
    retired: Position,
    /// More records may follow.
    more: bool,
}
