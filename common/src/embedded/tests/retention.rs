//! What is deleted, and who is told.

use std::time::Duration;

use super::*;

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
    let kept = fixture.count(Channel::Telemetry);
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
