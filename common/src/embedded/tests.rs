//! What is the embedded log's own. The rest is the contract suite's, which judges every channel adapter.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;

use super::*;
use crate::channel::{Cursor, Flow, Record};
use crate::event::example;
use crate::time::Timestamp;

const PATIENCE: Duration = Duration::from_secs(30);
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

/// Waits until the oldest kept command is not `subject`.
async fn wait_until_retired(log: &EmbeddedLog, subject: &str) {
    for _ in 0..3_000 {
        let stream = stream(log, Start::Earliest).await;
        if stream.told.recv_timeout(Duration::from_millis(10)).is_ok_and(|told| match told {
            Told::Record { subject: oldest, .. } => oldest != subject,
            Told::Interrupted(_) => false,
        }) {
            return;
        }
    }
    panic!("'{subject}' was not retired");
}

#[tokio::test]
async fn a_second_user_is_refused_until_the_first_has_closed() {
    let fixture = Fixture::new();
    let log = fixture.open();
    let error = fixture.try_open(LogSettings::default()).unwrap_err();
    assert!(matches!(error, LogError::InUse { .. }));
    assert!(error.to_string().contains("log.sqlite"), "{error}");
    drop(log);
    fixture.open();
}

#[tokio::test]
async fn what_is_no_log_of_ours_is_refused_and_left_alone() {
    let fixture = Fixture::new();
    drop(fixture.open());
    fixture.sql("PRAGMA user_version = 2");
    let error = fixture.try_open(LogSettings::default()).unwrap_err();
    assert!(matches!(error, LogError::TooNew { found: 2, known: 1, .. }), "{error}");

    let fixture = Fixture::new();
    fixture.sql("CREATE TABLE songs (name TEXT)");
    assert!(matches!(fixture.try_open(LogSettings::default()), Err(LogError::NotALog { .. })));

    let fixture = Fixture::new();
    std::fs::write(fixture.path(), [b'x'; 4096]).unwrap();
    assert!(matches!(fixture.try_open(LogSettings::default()), Err(LogError::NotALog { .. })));
    assert_eq!(std::fs::read(fixture.path()).unwrap(), [b'x'; 4096]);

    let nowhere = Path::new("/nonexistent/log.sqlite");
    let error = EmbeddedLog::open(nowhere, LogSettings::default(), Clock::system()).unwrap_err();
    assert!(matches!(error, LogError::Io { .. }), "{error}");
}

#[tokio::test]
async fn a_cursor_is_bound_to_its_log_and_survives_a_restart() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let log = fixture.open();
    publish(&log, "a").await.unwrap();
    let (_, cursor) = stream(&log, Start::Earliest).await.next_record();
    drop(log);
    let log = fixture.open();
    publish(&log, "b").await.unwrap();
    assert_eq!(stream(&log, Start::After(cursor.clone())).await.next_record().0, "b");

    let other = other.open();
    publish(&other, "a").await.unwrap();
    let result = try_stream(&other, Start::After(cursor), 1).await;
    assert_eq!(result.err(), Some(SourceError::InvalidCursor));
}

#[tokio::test]
async fn the_start_of_a_subscription_is_a_position() {
    let fixture = Fixture::new();
    let log = fixture.open();
    publish(&log, "before").await.unwrap();
    let start = stream(&log, Start::Latest).await.subscription.start().cloned().unwrap();
    publish(&log, "behind").await.unwrap();
    let resumed = stream(&log, Start::After(start.clone())).await;
    assert_eq!(resumed.subscription.start(), Some(&start));
    assert_eq!(resumed.next_record().0, "behind");
}

#[tokio::test]
async fn an_event_that_is_too_large_is_refused() {
    let fixture = Fixture::new();
    let log = fixture.try_open(LogSettings { max_event: 1_000, ..LogSettings::default() }).unwrap();
    let result = log.publish(Channel::Commands, event("a", 1_000)).await;
    assert_eq!(result, Err(PublishError::TooLarge));
    assert_eq!(log.publish(Channel::Commands, event("a", 100)).await, Ok(()));
}

#[tokio::test]
async fn records_older_than_the_age_are_deleted() {
    let fixture = Fixture::new();
    let age = Duration::from_millis(100);
    let log = fixture.try_open(LogSettings { retention_age: age, ..LogSettings::default() }).unwrap();
    publish(&log, "old").await.unwrap();
    let (_, cursor) = stream(&log, Start::Earliest).await.next_record();
    publish(&log, "missed").await.unwrap();
    *fixture.wall.lock().unwrap() = START.saturating_add(age * 2);
    publish(&log, "new").await.unwrap();
    wait_until_retired(&log, "old").await;
    wait_until_retired(&log, "missed").await;
    assert_eq!(stream(&log, Start::Earliest).await.next_record().0, "new");
    let result = try_stream(&log, Start::After(cursor), 1).await;
    assert_eq!(result.err(), Some(SourceError::Gone));
}

#[tokio::test]
async fn positions_are_not_given_again_after_all_records_were_deleted() {
    let fixture = Fixture::new();
    let age = Duration::from_millis(100);
    let settings = LogSettings { retention_age: age, ..LogSettings::default() };
    let log = fixture.try_open(settings.clone()).unwrap();
    let live = stream(&log, Start::Latest).await;
    publish(&log, "a").await.unwrap();
    let (_, cursor) = live.next_record();
    *fixture.wall.lock().unwrap() = START.saturating_add(age * 2);
    let empty = "SELECT count(*) FROM commands";
    let reader = Connection::open(fixture.path()).unwrap();
    let emptied = async {
        while reader.query_row(empty, (), |row| row.get::<_, i64>(0)).unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, emptied).await.unwrap();
    drop((log, reader));

    let log = fixture.try_open(settings).unwrap();
    let resumed = stream(&log, Start::After(cursor.clone())).await;
    publish(&log, "b").await.unwrap();
    let (subject, next) = resumed.next_record();
    assert_eq!(subject, "b");
    assert_ne!(next, cursor);
}

#[tokio::test]
async fn the_oldest_records_make_room_and_the_file_stops_growing() {
    let fixture = Fixture::new();
    let retention_size = 1 << 20;
    let log = fixture.try_open(LogSettings { retention_size, ..LogSettings::default() }).unwrap();
    for number in 0..200 {
        let published: Vec<_> =
            (0..10).map(|_| log.publish(Channel::Telemetry, event(&number.to_string(), 10_000))).collect();
        for result in published {
            result.await.unwrap();
        }
    }
    drop(log);
    // 20 MB went through; steps and pages that are partly full are allowed for.
    let size = std::fs::metadata(fixture.path()).unwrap().len();
    assert!(size < 8 * retention_size, "{size}");
    let kept: i64 = Connection::open(fixture.path())
        .unwrap()
        .query_row("SELECT count(*) FROM telemetry", (), |row| row.get(0))
        .unwrap();
    assert!((50..800).contains(&kept), "{kept}");
}

#[tokio::test]
async fn a_subscription_slower_than_retention_is_told() {
    let fixture = Fixture::new();
    let retention_size = 1 << 20;
    let log = fixture.try_open(LogSettings { retention_size, ..LogSettings::default() }).unwrap();
    publish(&log, "first").await.unwrap();
    let slow = try_stream(&log, Start::Earliest, 0).await.unwrap();
    let mut number = 0;
    let mut told = Vec::new();
    // It has read a batch ahead, so it is let on while more is written.
    while !told.contains(&Told::Interrupted(SourceError::Gone)) {
        for _ in 0..200 {
            number += 1;
            log.publish(Channel::Commands, event(&number.to_string(), 10_000)).await.unwrap();
        }
        assert!(number < 100_000);
        told.push(slow.next());
    }
    // Retention may have been ahead more than once.
    let resumed = loop {
        if let Told::Record { subject, .. } = slow.next() {
            break subject;
        }
    };
    assert!(resumed.parse::<i32>().unwrap() > 1);
}

#[tokio::test]
async fn retention_of_one_channel_is_no_gap_in_another() {
    let fixture = Fixture::new();
    let settings = LogSettings { retention_size: 1 << 20, ..LogSettings::default() };
    let log = fixture.try_open(settings).unwrap();
    let quiet = stream(&log, Start::Latest).await;
    publish(&log, "a").await.unwrap();
    let (_, cursor) = quiet.next_record();
    for number in 0..500 {
        log.publish(Channel::Telemetry, event(&number.to_string(), 10_000)).await.unwrap();
    }
    // The command itself may be gone by now, but nothing behind it.
    let resumed = stream(&log, Start::After(cursor)).await;
    publish(&log, "b").await.unwrap();
    assert_eq!(quiet.next_record().0, "b");
    assert_eq!(resumed.next_record().0, "b");
}

#[tokio::test]
async fn a_batch_that_fails_is_undone_wholly_and_the_log_recovers() {
    let fixture = Fixture::new();
    let log = fixture.open();
    let live = stream(&log, Start::Latest).await;
    fixture.sql(
        "CREATE TRIGGER full BEFORE INSERT ON commands WHEN NEW.attributes LIKE '%poison%'
         BEGIN SELECT RAISE(ABORT, 'disk full'); END",
    );
    // Published without a pause, they share batches; whichever shares the poison's batch fails with it.
    let subjects = ["a", "b", "poison", "c"];
    let published: Vec<_> = subjects.map(|subject| publish(&log, subject)).into();
    let mut written = Vec::new();
    for (subject, result) in subjects.into_iter().zip(published) {
        match result.await {
            Ok(()) => written.push(subject),
            Err(error) => assert_eq!(error, PublishError::Unavailable("disk full".into())),
        }
    }
    assert!(!written.contains(&"poison"));
    fixture.sql("DROP TRIGGER full");
    publish(&log, "poison").await.unwrap();
    written.push("poison");
    for subject in written {
        assert_eq!(live.next_record().0, subject);
    }
}

#[tokio::test]
async fn a_locked_file_is_unavailable_until_it_is_unlocked() {
    let fixture = Fixture::new();
    let log = fixture.open();
    let locker = Connection::open(fixture.path()).unwrap();
    locker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = publish(&log, "a").await.unwrap_err();
    assert_eq!(error, PublishError::Unavailable("database is locked".into()));
    locker.execute_batch("ROLLBACK").unwrap();
    publish(&log, "b").await.unwrap();
    assert_eq!(stream(&log, Start::Earliest).await.next_record().0, "b");
}

#[tokio::test]
async fn records_that_the_writer_does_not_know_of_are_read_and_their_positions_left_alone() {
    let fixture = Fixture::new();
    let log = fixture.open();
    let live = stream(&log, Start::Latest).await;
    publish(&log, "a").await.unwrap();
    fixture.sql("INSERT INTO commands SELECT position + 1, 0, 'nobody', 7, 7 FROM commands");
    assert!(matches!(publish(&log, "b").await, Err(PublishError::Unavailable(_))));
    publish(&log, "c").await.unwrap();
    for expected in ["a", &crate::event::Malformed::NoEvent.to_string(), "c"] {
        assert_eq!(live.next_record().0, expected);
    }
}

#[tokio::test]
async fn what_is_acknowledged_is_in_the_files_that_a_kill_leaves() {
    let (fixture, killed) = (Fixture::new(), Fixture::new());
    let log = fixture.open();
    for number in 0..100 {
        publish(&log, &number.to_string()).await.unwrap();
    }
    // A process that is killed cleans nothing up: what is left are these files as they are now.
    for suffix in ["", "-wal"] {
        let name = format!("log.sqlite{suffix}");
        std::fs::copy(fixture.dir.path().join(&name), killed.dir.path().join(&name)).unwrap();
    }
    let revived = killed.open();
    publish(&revived, "100").await.unwrap();
    let all = stream(&revived, Start::Earliest).await;
    for number in 0..=100 {
        assert_eq!(all.next_record().0, number.to_string());
    }
}

#[tokio::test]
async fn a_blocked_handler_does_not_keep_the_write_ahead_log_from_being_reused() {
    let fixture = Fixture::new();
    let log = fixture.open();
    let blocked = try_stream(&log, Start::Latest, 0).await.unwrap();
    for number in 0..10 {
        publish(&log, &number.to_string()).await.unwrap();
    }
    // The first record has come, so the handler blocks in the second.
    blocked.next_record();
    let checkpointer = Connection::open(fixture.path()).unwrap();
    let truncate = || {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        checkpointer.query_row(sql, (), |row| row.get::<_, bool>(0)).unwrap()
    };
    assert!(!truncate(), "a reader is in the way");
    assert_eq!(blocked.next_record().0, "1");
}

#[tokio::test]
async fn closing_writes_what_was_accepted_and_ends_subscriptions() {
    let fixture = Fixture::new();
    let log = fixture.open();
    let live = stream(&log, Start::Latest).await;
    let published: Vec<_> =
        (0..100).map(|number| log.publish(Channel::Commands, event(&number.to_string(), 10))).collect();
    drop(log);
    for result in published {
        result.await.unwrap();
    }
    while live.told.recv_timeout(PATIENCE).is_ok() {}
    assert!(!live.subscription.is_live());
    let kept: i64 = Connection::open(fixture.path())
        .unwrap()
        .query_row("SELECT count(*) FROM commands", (), |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 100);
}
