//! What is the embedded log's own. The rest is the contract suite's, which judges every channel adapter.

mod failures;
mod files;
mod positions;
mod retention;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rusqlite::Connection;

use super::*;
use crate::channel::{Cursor, Flow, Record};
use crate::event::example;
use crate::testing::PATIENCE;
use crate::time::Timestamp;

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// What a subscription told its handler.
#[derive(Debug, PartialEq)]
enum Told {
    Record { subject: String, cursor: Cursor },
    Interrupted(SourceError),
}

struct Teller(SyncSender<Told>);

impl Teller {
    fn tell(&self, told: Told) -> Flow {
        // Nobody listens any more once a test has seen enough.
        self.0.send(told).map_or(Flow::Stop, |()| Flow::Continue)
    }
}

impl RecordHandler for Teller {
    fn record(&mut self, record: &dyn Record) -> Flow {
        let subject = record.event().map_or_else(|error| error.to_string(), |event| event.subject);
        self.tell(Told::Record { subject, cursor: record.cursor() })
    }

    fn interrupted(&mut self, error: &SourceError) -> Flow {
        self.tell(Told::Interrupted(error.clone()))
    }
}

struct Stream {
    told: Receiver<Told>,
    subscription: Subscription,
}

impl Stream {
    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).unwrap()
    }

    fn next_record(&self) -> (String, Cursor) {
        match self.next() {
            Told::Record { subject, cursor } => (subject, cursor),
            Told::Interrupted(error) => panic!("{error}"),
        }
    }
}

/// A directory for a log, and a wall clock for it that the test moves.
struct Fixture {
    dir: tempfile::TempDir,
    wall: Arc<Mutex<Timestamp>>,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), wall: Arc::new(Mutex::new(START)) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("log.sqlite")
    }

    fn try_open(&self, settings: LogSettings) -> Result<EmbeddedLog, LogError> {
        let wall = self.wall.clone();
        EmbeddedLog::open(&self.path(), settings, Clock::with_wall(move || *wall.lock().unwrap()))
    }

    fn open(&self) -> EmbeddedLog {
        self.try_open(LogSettings::default()).unwrap()
    }

    fn sql(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }

    /// Counts the records that a channel's table has.
    fn count(&self, channel: Channel) -> i64 {
        let sql = format!("SELECT count(*) FROM {channel}");
        Connection::open(self.path()).unwrap().query_row(&sql, (), |row| row.get(0)).unwrap()
    }
}

fn event(subject: &str, size: usize) -> Event {
    Event { subject: subject.into(), data: Bytes::from(vec![0; size]), ..example() }
}

async fn publish(log: &EmbeddedLog, subject: &str) -> Result<(), PublishError> {
    log.publish(Channel::Commands, event(subject, 10)).await
}

async fn try_stream(log: &EmbeddedLog, start: Start, capacity: usize) -> Result<Stream, SourceError> {
    let (sender, told) = sync_channel(capacity);
    let subscription = log.subscribe(&[Channel::Commands], start, Box::new(Teller(sender))).await?;
    Ok(Stream { told, subscription })
}

async fn stream(log: &EmbeddedLog, start: Start) -> Stream {
    try_stream(log, start, 10_000).await.unwrap()
}
