//! Who has charge of a partition.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use common::channel::Partition;
use common::time::Timestamp;
use common::tracker::PartitionTracker;

use super::super::mark::Mark;
use super::super::seat::Seat;
use super::super::{Shared, Watches, leases};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_one_acts_and_the_other_takes_over() {
    let cloud = Cloud::new().await;
    let first = cloud.acting().await;
    let second = cloud.tracker().await;
    let session = cloud.log_in().await;
    let connection = cloud.connect(&session).await;
    cloud.send("one").await;
    assert_eq!(deliver(&connection).await, "one");
    cloud.until_told("one delivered").await;
    assert!(first.is_acting() && !second.is_acting());
    // The other knows the same, and does nothing.
    assert_eq!((cloud.count("one pending"), cloud.handovers()), (1, vec![1]));
    drop(connection);
    let two = cloud.send("two").await;
    cloud.until_told("two pending").await;
    assert_eq!(second.tracker.command(&cloud.device, &two.id).map(|row| row.name), Some(two.name));
    first.stop().await;
    eventually("the other takes over", || second.is_acting()).await;
    let connection = cloud.connect(&session).await;
    assert_eq!(deliver(&connection).await, "two");
    assert_eq!(cloud.handovers(), [1, 2], "each acted under an epoch of its own");
    second.stop().await;
}

#[tokio::test]
async fn where_the_ledger_is_slow_what_is_held_is_renewed_before_more_is_taken() {
    let cloud = Cloud::new().await;
    let settings = Config::default().tracker(&Limits::default(), None).settings;
    let seat = |at| Seat::new(Partition(at), PartitionTracker::new(settings.clone(), true));
    let replica: EventId = "replica".parse().unwrap();
    let millis = AtomicI64::new(0);
    let shared = Shared {
        sink: Arc::new(cloud.channel.clone()),
        ledger: cloud.ledger(),
        // Whatever is asked of the ledger takes a while.
        clock: Clock::with_wall(move || Timestamp::from_millis(millis.fetch_add(600, Ordering::Relaxed))),
        seats: (0..12).map(seat).collect(),
        settings,
        history: HOUR,
        mark: Mark::of(&replica),
        replica: replica.to_string(),
        watches: Watches::default(),
        subscription: Mutex::new(None),
    };
    let acting = || shared.seats.iter().filter(|seat| seat.is_acting()).count();
    while acting() < shared.seats.len() {
        let (before, began) = (acting(), shared.clock.wall());
        leases::turn(&shared).await.unwrap();
        assert!(acting() > before);
        assert!(shared.clock.wall().saturating_since(began) < leases::LEASE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_was_taken_over_writes_nothing() {
    let cloud = Cloud::new().await;
    let replica = cloud.acting().await;
    cloud.send("before").await;
    cloud.until_told("before pending").await;
    // Somebody to whom the lease seems to have lapsed takes it.
    let (now, ledger) = (Clock::system().wall(), cloud.ledger());
    let thief =
        ledger.acquire(Partition(0), 0, "thief", now.saturating_add(HOUR), HOUR).await.unwrap().unwrap();
    let command = Command { kept: true, ..cloud.command("set") };
    cloud.channel.send(command.clone());
    eventually("it finds that it has lost it", || !replica.is_acting()).await;
    let session = cloud.log_in().await;
    let connection = cloud.connect(&session).await;
    // Whatever it was about to write: nothing of it is there.
    assert_eq!(ledger.get(&cloud.device, &command.id).await.unwrap(), None);
    assert!(cloud.handovers().is_empty());
    ledger.give_up(thief).await.unwrap();
    assert_eq!([deliver(&connection).await, deliver(&connection).await], ["before", "set"]);
    assert!(cloud.handovers().iter().all(|epoch| *epoch > thief.epoch));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_not_taken_begins_a_new_epoch() {
    let cloud = Cloud::new().await;
    let replica = cloud.acting().await;
    cloud.channel.mute(Some("io.drogue.connection.handover"));
    cloud.send("set").await;
    let session = cloud.log_in().await;
    let connection = cloud.connect(&session).await;
    eventually("it gives up", || !replica.is_acting()).await;
    cloud.channel.mute(None);
    assert_eq!(deliver(&connection).await, "set");
    assert!(cloud.handovers().iter().all(|epoch| *epoch > 1), "{:?}", cloud.handovers());
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_made_up_for_by_asking_the_replicas() {
    let cloud = Cloud::new().await;
    let replica = cloud.acting().await;
    cloud.send("set").await;
    cloud.until_told("set pending").await;
    cloud.channel.interrupt(&common::channel::SourceError::Gone);
    cloud.channel.resume();
    eventually("it begins anew", || !replica.is_acting()).await;
    let session = cloud.log_in().await;
    let connection = cloud.connect(&session).await;
    assert_eq!(deliver(&connection).await, "set");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trackers_that_cannot_go_on_say_so_and_leave() {
    let cloud = Cloud::new().await;
    let replica = cloud.acting().await;
    drop(replica.tracker.shared.subscription.lock().unwrap().take());
    let ended = tokio::time::timeout(PATIENCE, replica.running).await.expect("it ends").unwrap();
    assert!(matches!(ended, Err(TrackerError::Ended)), "{ended:?}");
    let next = cloud.acting().await;
    next.stop().await;
}
