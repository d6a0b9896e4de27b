//! Whose the file is, and what is in it.

use std::path::Path;

use super::*;

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
    let kept = fixture.count(Channel::Commands);
    assert_eq!(kept, 100);
}
