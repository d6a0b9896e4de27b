//! Cursors, and positions that are never given twice.

use std::time::Duration;

use super::*;
use crate::testing::eventually;

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
async fn positions_are_not_given_again_after_all_records_were_deleted() {
    let fixture = Fixture::new();
    let age = Duration::from_millis(100);
    let settings = LogSettings { retention_age: age, ..LogSettings::default() };
    let log = fixture.try_open(settings.clone()).unwrap();
    let live = stream(&log, Start::Latest).await;
    publish(&log, "a").await.unwrap();
    let (_, cursor) = live.next_record();
    *fixture.wall.lock().unwrap() = START.saturating_add(age * 2);
    eventually("all is deleted", || fixture.count(Channel::Commands) == 0).await;
    drop(log);

    let log = fixture.try_open(settings).unwrap();
    let resumed = stream(&log, Start::After(cursor.clone())).await;
    publish(&log, "b").await.unwrap();
    let (subject, next) = resumed.next_record();
    assert_eq!(subject, "b");
    assert_ne!(next, cursor);
}
