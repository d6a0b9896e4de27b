//! What a tracker writes of what it reads.

use super::*;

fn at(row: Row, place: u64) -> Row {
    Row { place: Some(Place(place)), ..row }
}

on_each_store!(a_batch_is_there_after_a_restart);
async fn a_batch_is_there_after_a_restart(database: Database) {
    let Fixture { ledger, lease, database } = fixture(database).await;
    assert_eq!(ledger.load(P0).await, Ok(Loaded::default()));
    let rows = vec![at(row(kept("c2")), 1), at(row(plain("c1")), 2), at(row(kept("c3")), 0)];
    ledger.commit(lease, batch(rows)).await.unwrap();
    let places = Places { commands: Some(Place(3)), outcomes: Some(Place(4)) };
    let saved = Saved { bytes: vec![0, 255, 7].into(), places };
    let lost = step(&at(row(kept("c3")), 0), State::Pending, Some(Reason::ConnectionLost), 2);
    let lost = Row { attempt: 1, ..lost };
    let delivered = step(&row(plain("c1")), State::Delivered, None, 1);
    let second = Batch { saved: Some(saved.clone()), ..batch(vec![lost.clone(), delivered]) };
    ledger.commit(lease, second).await.unwrap();
    drop(ledger);

    let ledger = open(&database).await;
    let loaded = ledger.load(P0).await.unwrap();
    assert_eq!(loaded.saved, Some(saved));
    assert_eq!(loaded.rows, [bare(&lost), bare(&at(row(kept("c2")), 1))]);
    assert_eq!(ledger.saved(P0).await, Ok(places));
    assert_eq!(ledger.load(Partition(1)).await, Ok(Loaded::default()));
    assert_eq!(ledger.saved(Partition(1)).await, Ok(Places::default()));
    let told = ledger.hand_over(lease, vec![(event("c1"), 1), (event("c3"), 2)]).await.unwrap();
    assert_eq!((told[0].place, &told[0].content), (Some(Place(2)), &None), "settled");
    assert_eq!(told[1], Row { handed: true, attempt: 2, ..lost });
    let saved = Some(Saved { bytes: vec![1; 100_000].into(), places: Places::default() });
    ledger.commit(lease, Batch { saved: saved.clone(), ..batch(vec![]) }).await.unwrap();
    assert_eq!(ledger.load(P0).await.unwrap().saved, saved);
}

on_each_store!(what_was_ended_and_not_told_is_loaded_until_it_is_read);
async fn what_was_ended_and_not_told_is_loaded_until_it_is_read(database: Database) {
    let ledger = fixture(database).await;
    ledger.pending("c1", 1).await;
    let Cancel::Done(cancelled) = ledger.cancel(&key("a/d"), &event("c1"), NOW).await.unwrap() else {
        panic!("it waits")
    };
    assert_eq!(ledger.load(P0).await.unwrap().rows, std::slice::from_ref(&cancelled));
    ledger.write(vec![cancelled]).await.unwrap();
    assert_eq!(ledger.load(P0).await.unwrap().rows, []);
}

on_each_store!(what_comes_late_is_history_unless_it_counts);
async fn what_comes_late_is_history_unless_it_counts(database: Database) {
    let ledger = fixture(database).await;
    let late = async |row: &Row, state| {
        let outcome = step(row, state, None, 1).transition(event("x"));
        let changes = vec![Change::Late(Box::new(outcome))];
        ledger.commit(ledger.lease, Batch { changes, ..batch(vec![]) }).await.unwrap();
        let found = ledger.get(&row.device, &row.id).await.unwrap();
        found.map(|row| (row.state, row.history.len()))
    };
    let command = row(plain("c1"));
    assert_eq!(late(&command, State::Delivered).await, None, "nobody knows it");
    let lost = step(&command, State::Undelivered, Some(Reason::NoAck), 1);
    ledger.write(vec![lost.clone()]).await.unwrap();
    assert_eq!(late(&lost, State::Delivered).await, Some((State::Undelivered, 3)));
    assert_eq!(late(&lost, State::Delivered).await, Some((State::Undelivered, 3)), "once");
    let delivered = step(&row(plain("c2")), State::Delivered, None, 1);
    ledger.write(vec![delivered.clone()]).await.unwrap();
    assert_eq!(late(&delivered, State::Replied).await, Some((State::Replied, 3)));
}

on_each_store!(who_has_lost_the_lease_writes_nothing);
async fn who_has_lost_the_lease_writes_nothing(database: Database) {
    let ledger = fixture(database).await;
    ledger.pending("c1", 1).await;
    let before = ledger.load(P0).await.unwrap();
    let next = ledger.acquire(P0, 0, "other", later(6), TTL).await.unwrap().unwrap();
    let stale = Batch {
        saved: Some(Saved { bytes: vec![1].into(), places: Places::default() }),
        ..batch(vec![row(plain("c3")), step(&before.rows[0], State::Delivered, None, 1)])
    };
    let fenced = Err(LedgerError::Fenced);
    for lease in [ledger.lease, Lease { partition: Partition(7), ..next }, Lease { epoch: u64::MAX, ..next }]
    {
        assert_eq!(ledger.commit(lease, stale.clone()).await.map(|()| vec![]), fenced);
        assert_eq!(ledger.hand_over(lease, vec![(event("c1"), 1)]).await, fenced);
        assert_eq!(ledger.expire(lease, vec![event("c1")], NOW).await, fenced);
    }
    assert_eq!(ledger.load(P0).await, Ok(before));
    assert_eq!(ledger.device_of(&event("c3")).await, Ok(None));
    assert_eq!(ledger.commit(next, stale).await, Ok(()));
}

on_each_store!(what_was_settled_meanwhile_stays_as_it_is);
async fn what_was_settled_meanwhile_stays_as_it_is(database: Database) {
    let ledger = fixture(database).await;
    for (place, id) in ["cancelled", "superseded", "expired", "free"].into_iter().enumerate() {
        ledger.submit(Submission { supersede: Some(id.to_owned()), ..kept(id) }).await.unwrap();
        ledger.write(vec![at(row(kept(id)), place as u64)]).await.unwrap();
    }
    ledger.cancel(&key("a/d"), &event("cancelled"), NOW).await.unwrap();
    ledger.submit(Submission { supersede: Some("superseded".to_owned()), ..plain("c") }).await.unwrap();
    ledger.expire(ledger.lease, vec![event("expired")], NOW).await.unwrap();
    let settled = ["cancelled", "superseded", "expired"].map(event).to_vec();
    let before = ledger.find(settled.clone()).await.unwrap();
    let stale = |state| {
        let all = ["cancelled", "superseded", "expired", "free"];
        all.map(|id| step(&row(kept(id)), state, None, 1)).to_vec()
    };
    for state in [State::Pending, State::Undelivered, State::Delivered, State::Accepted] {
        ledger.write(stale(state)).await.unwrap();
        assert_eq!(ledger.find(settled.clone()).await, Ok(before.clone()), "{state}");
    }
    assert_eq!(ledger.state("free").await, State::Undelivered);
}

on_each_store!(a_state_follows_on_another_as_the_states_say);
async fn a_state_follows_on_another_as_the_states_say(database: Database) {
    let ledger = fixture(database).await;
    let states = [
        State::Accepted,
        State::Pending,
        State::Delivered,
        State::Replied,
        State::Undelivered,
        State::Expired,
        State::Cancelled,
        State::Superseded,
    ];
    for first in states {
        for second in states {
            let command = row(plain(&format!("{first}-{second}")));
            let old = step(&command, first, None, 1);
            ledger.write(vec![old.clone()]).await.unwrap();
            ledger.write(vec![step(&old, second, None, 1)]).await.unwrap();
            let found = ledger.get(&command.device, &command.id).await.unwrap().unwrap();
            // The same once more is a longer history.
            let follows = first.admits(second) || first == second;
            let expected = (if follows { second } else { first }, 2 + usize::from(follows));
            assert_eq!((found.state, found.history.len()), expected, "{first}, {second}");
            let told = ledger.hand_over(ledger.lease, vec![(command.id, 1)]).await.unwrap();
            assert_eq!(told[0].content.is_none(), found.state.is_settled());
        }
    }
}

on_each_store!(a_row_that_was_on_its_way_does_not_take_back_what_is_handed_over);
async fn a_row_that_was_on_its_way_does_not_take_back_what_is_handed_over(database: Database) {
    let ledger = fixture(database).await;
    let stale = ledger.pending("c1", 1).await;
    ledger.hand_over(ledger.lease, vec![(event("c1"), 1)]).await.unwrap();
    ledger.write(vec![bare(&stale)]).await.unwrap();
    let found = ledger.hand_over(ledger.lease, vec![(event("c1"), 1)]).await.unwrap().remove(0);
    assert_eq!((found.handed, found.attempt, &found.content), (true, 1, &stale.content));
    assert!(matches!(ledger.cancel(&key("a/d"), &event("c1"), NOW).await, Ok(Cancel::NotPending(_))));
    ledger.write(vec![step(&found, State::Delivered, None, 1)]).await.unwrap();
    let found = ledger.hand_over(ledger.lease, vec![(event("c1"), 2)]).await.unwrap().remove(0);
    assert_eq!((found.handed, found.state, found.content), (false, State::Delivered, None));
}

on_each_store!(of_several_rows_of_a_command_the_last_counts);
async fn of_several_rows_of_a_command_the_last_counts(database: Database) {
    let ledger = fixture(database).await;
    let accepted = row(plain("c1"));
    let lost = step(&accepted, State::Undelivered, Some(Reason::NotConnected), 1);
    ledger.write(vec![accepted, lost.clone()]).await.unwrap();
    assert_eq!(ledger.find(vec![event("c1")]).await, Ok(vec![bare(&lost)]));
}

on_each_store!(a_lease_that_is_taken_ends_what_its_holder_writes);
/// Whatever the order is: all that was written under the old epoch was there when the new one was given.
async fn a_lease_that_is_taken_ends_what_its_holder_writes(database: Database) {
    let ledger = fixture(database).await;
    let other = open(&ledger.database).await;
    let mut lease = ledger.lease;
    for round in 1..=20u64 {
        let writing = tokio::spawn({
            let ledger = ledger.ledger.clone();
            async move {
                let mut written = 0;
                loop {
                    let places =
                        Places { commands: Some(Place(round * 1_000 + written + 1)), outcomes: None };
                    let saved = Some(Saved { bytes: Default::default(), places });
                    match ledger.commit(lease, Batch { saved, ..batch(vec![]) }).await {
                        Ok(()) => written += 1,
                        Err(LedgerError::Fenced) => return written,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
        tokio::task::yield_now().await;
        lease = other.acquire(P0, 0, "other", later(6 * round), TTL).await.unwrap().unwrap();
        let seen = other.saved(P0).await.unwrap().commands;
        let written = writing.await.unwrap();
        let last = (written > 0).then_some(Place(round * 1_000 + written));
        assert_eq!(last.or(seen), seen);
    }
}
