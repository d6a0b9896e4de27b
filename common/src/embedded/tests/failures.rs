//! What is refused or fails, and how the log goes on.

use super::*;

#[tokio::test]
async fn an_event_that_is_too_large_is_refused() {
    let fixture = Fixture::new();
    let log = fixture.try_open(LogSettings { max_event: 1_000, ..LogSettings::default() }).unwrap();
    let result = log.publish(Channel::Commands, event("a", 1_000)).await;
    assert_eq!(result, Err(PublishError::TooLarge));
    assert_eq!(log.publish(Channel::Commands, event("a", 100)).await, Ok(()));
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
