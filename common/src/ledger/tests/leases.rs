//! Leases: a partition has one tracker.

use super::*;

on_each_store!(a_partition_has_one_tracker_at_a_time);
async fn a_partition_has_one_tracker_at_a_time(database: Database) {
    let ledger = fixture(database).await;
    let acquire = async |holder, now| ledger.acquire(P0, 0, holder, now, TTL).await.unwrap();
    let first = ledger.lease;
    assert_eq!(first, Lease { partition: P0, epoch: 1 });
    assert_eq!(acquire("other", later(4)).await, None);
    let renewed = ledger.renew("me", &[first], later(4), TTL).await.unwrap();
    assert_eq!(renewed, Renewed { held: vec![first], trackers: 1 });
    assert_eq!(acquire("other", later(8)).await, None);
    let second = acquire("other", later(9)).await.unwrap();
    assert_eq!(second.epoch, 2);
    let renewed = ledger.renew("me", &[first], later(9), TTL).await.unwrap();
    assert_eq!(renewed, Renewed { held: vec![], trackers: 1 });
    assert_eq!(ledger.give_up(first).await, Ok(()));
    assert_eq!(acquire("me", later(9)).await, None, "it was not its to give up");
    ledger.give_up(second).await.unwrap();
    assert_eq!(acquire("me", later(9)).await.unwrap().epoch, 3);
    assert_eq!(acquire("me", later(9)).await.unwrap().epoch, 4, "it has it already");
    let elsewhere = ledger.acquire(Partition(1), 0, "other", NOW, TTL).await.unwrap().unwrap();
    assert_eq!(elsewhere, Lease { partition: Partition(1), epoch: 1 });
}

on_each_store!(a_lease_that_nobody_took_can_be_renewed_late);
async fn a_lease_that_nobody_took_can_be_renewed_late(database: Database) {
    let ledger = fixture(database).await;
    let renewed = ledger.renew("me", &[ledger.lease], later(100), TTL).await.unwrap();
    assert_eq!(renewed.held, [ledger.lease]);
    assert_eq!(ledger.acquire(P0, 0, "other", later(101), TTL).await, Ok(None));
}

on_each_store!(trackers_that_live_are_counted);
async fn trackers_that_live_are_counted(database: Database) {
    let ledger = fixture(database).await;
    let count = async |holder, now| ledger.renew(holder, &[], now, TTL).await.unwrap().trackers;
    assert_eq!(count("me", NOW).await, 1);
    assert_eq!(count("other", later(3)).await, 2);
    assert_eq!(count("other", later(7)).await, 1);
    assert_eq!(count("me", later(7)).await, 2);
    ledger.leave("me").await.unwrap();
    assert_eq!(count("other", later(7)).await, 1);
    assert_eq!(count("another", later(200_000)).await, 1);
}

on_each_store!(of_many_who_want_a_partition_one_gets_it);
async fn of_many_who_want_a_partition_one_gets_it(database: Database) {
    let ledgers = [open(&database).await, open(&database).await];
    for round in 0..10 {
        let now = later(10 * round);
        let wishes: Vec<_> = (0..6)
            .map(|i| {
                let ledger = ledgers[i % 2].clone();
                tokio::spawn(async move { ledger.acquire(P0, 0, &format!("t{i}"), now, TTL).await.unwrap() })
            })
            .collect();
        let mut leases = Vec::new();
        for wish in wishes {
            leases.extend(wish.await.unwrap());
        }
        assert_eq!(leases, [Lease { partition: P0, epoch: round + 1 }]);
    }
}
