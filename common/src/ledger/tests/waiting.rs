//! Commands that wait: what happens to them happens once.

use super::*;

fn given(ids: &[&str], attempt: u32) -> Vec<(EventId, u32)> {
    ids.iter().map(|id| (event(id), attempt)).collect()
}

on_each_store!(what_waits_is_handed_over_and_all_are_told_in_the_given_order);
async fn what_waits_is_handed_over_and_all_are_told_in_the_given_order(database: Database) {
    let ledger = fixture(database).await;
    for (place, id) in ["c1", "c2", "c3"].into_iter().enumerate() {
        ledger.pending(id, place as u64).await;
    }
    ledger.cancel(&key("a/d"), &event("c2"), NOW).await.unwrap();
    let told = ledger.hand_over(ledger.lease, given(&["c3", "c2", "c0", "c1"], 1)).await.unwrap();
    assert_eq!(ids(&told), ["c3", "c2", "c1"]);
    assert_eq!(told[0], Row { handed: true, attempt: 1, place: Some(Place(2)), ..row(kept("c3")) });
    assert_eq!((told[1].state, told[1].handed), (State::Cancelled, false));
    // Asked again, as after a failure, it changes nothing.
    assert_eq!(ledger.hand_over(ledger.lease, given(&["c3", "c2", "c1"], 1)).await, Ok(told.clone()));
    let later = ledger.hand_over(ledger.lease, given(&["c3"], 2)).await.unwrap();
    assert_eq!(later, told[..1], "it is handed for the first attempt");
    assert_eq!(ledger.hand_over(ledger.lease, vec![]).await, Ok(vec![]));
}

on_each_store!(what_comes_back_waits_again);
async fn what_comes_back_waits_again(database: Database) {
    let ledger = fixture(database).await;
    let command = ledger.pending("c1", 1).await;
    ledger.hand_over(ledger.lease, given(&["c1"], 1)).await.unwrap();
    let lost = Row { attempt: 1, ..step(&command, State::Pending, Some(Reason::NoAck), 2) };
    let returned = async |attempt| {
        let changes = vec![write(lost.clone(), attempt)];
        ledger.commit(ledger.lease, Batch { changes, ..batch(vec![]) }).await.unwrap();
        ledger.find(vec![event("c1")]).await.unwrap().remove(0).handed
    };
    assert!(returned(None).await && returned(Some(2)).await, "it is handed for the first attempt");
    assert!(!returned(Some(1)).await);
    let told = ledger.hand_over(ledger.lease, given(&["c1"], 2)).await.unwrap();
    assert_eq!((told[0].handed, told[0].attempt, &told[0].content), (true, 2, &command.content));
    assert!(returned(Some(1)).await, "that was of the attempt before");
}

on_each_store!(what_waits_lapses_and_what_is_handed_does_not);
async fn what_waits_lapses_and_what_is_handed_does_not(database: Database) {
    let ledger = fixture(database).await;
    for id in ["c1", "c2"] {
        ledger.pending(id, 1).await;
    }
    ledger.hand_over(ledger.lease, given(&["c2"], 1)).await.unwrap();
    ledger.submit(kept("c3")).await.unwrap();
    let all = ["c3", "c2", "c1", "c0"].map(event).to_vec();
    let told = ledger.expire(ledger.lease, all.clone(), later(60)).await.unwrap();
    let states: Vec<_> = told.iter().map(|row| (row.id.as_str(), row.state)).collect();
    assert_eq!(states, [("c3", State::Expired), ("c2", State::Pending), ("c1", State::Expired)]);
    let step = Step { state: State::Expired, time: later(60), reason: None, attempt: 1 };
    assert_eq!((told[2].history.last(), told[2].told), (Some(&step), false));
    assert_eq!(ledger.find(vec![event("c1")]).await, Ok(vec![told[2].clone()]));
    assert_eq!(ledger.expire(ledger.lease, all, later(61)).await, Ok(told));
}

on_each_store!(where_there_is_a_doubt_nothing_says_that_the_device_never_saw_it);
async fn where_there_is_a_doubt_nothing_says_that_the_device_never_saw_it(database: Database) {
    let ledger = fixture(database).await;
    for id in ["expired", "cancelled"] {
        let lost = step(&ledger.pending(id, 1).await, State::Pending, Some(Reason::ConnectionLost), 2);
        ledger.write(vec![Row { attempt: 1, ..lost }]).await.unwrap();
    }
    let ended = ledger.expire(ledger.lease, vec![event("expired")], NOW).await.unwrap().remove(0);
    let Cancel::Done(cancelled) = ledger.cancel(&key("a/d"), &event("cancelled"), NOW).await.unwrap() else {
        panic!("it waits")
    };
    for row in [ended, cancelled] {
        assert_eq!((row.state, row.reason), (State::Undelivered, Some(Reason::ConnectionLost)));
        assert_eq!(row.transition(event("x")).id(), event(&format!("{}.undelivered.1", row.id)));
    }
}

on_each_store!(many_are_handed_over_at_once);
async fn many_are_handed_over_at_once(database: Database) {
    let ledger = fixture(database).await;
    let names: Vec<_> = (0..1_000).map(|i| format!("c{i:04}")).collect();
    ledger.write(names.iter().map(|id| row(kept(id))).collect()).await.unwrap();
    let wanted = names.iter().rev().enumerate().map(|(i, id)| (event(id), i as u32 + 1)).collect();
    let handed = ledger.hand_over(ledger.lease, wanted).await.unwrap();
    assert_eq!((handed.len(), handed[0].id.as_str(), handed[999].attempt), (1_000, "c0999", 1_000));
    let content = handed[500].content.as_ref().map(|content| content.payload.clone());
    assert_eq!(content, Some("payload of c0499".into()));
}

on_each_store!(of_all_that_may_happen_to_a_command_that_waits_one_does);
async fn of_all_that_may_happen_to_a_command_that_waits_one_does(database: Database) {
    let ledger = fixture(database).await;
    let other = open(&ledger.database).await;
    let lease = ledger.lease;
    let mut won = [0; 4];
    for round in 0..100 {
        let id = event(&format!("c{round}"));
        let submission = |id| Submission { supersede: Some("k".to_owned()), max_pending: 1_000, ..kept(id) };
        ledger.submit(submission(id.as_str())).await.unwrap();
        let handing = tokio::spawn({
            let (ledger, id) = (ledger.ledger.clone(), id.clone());
            async move { usize::from(ledger.hand_over(lease, vec![(id, 1)]).await.unwrap()[0].handed) }
        });
        let cancelling = tokio::spawn({
            let (other, id) = (other.clone(), id.clone());
            async move { matches!(other.cancel(&key("a/d"), &id, NOW).await.unwrap(), Cancel::Done(_)) }
        });
        let expiring = tokio::spawn({
            let (ledger, id) = (ledger.ledger.clone(), id.clone());
            async move {
                let told = ledger.expire(lease, vec![id], NOW).await.unwrap();
                usize::from(told[0].state == State::Expired)
            }
        });
        let superseding = tokio::spawn({
            let (other, id) = (other.clone(), format!("s{round}"));
            let submission = Submission { command: plain(&id).command, ..submission(&id) };
            async move {
                match other.submit(submission).await.unwrap() {
                    Submitted::New { superseded } => superseded.len(),
                    other @ (Submitted::Same(_) | Submitted::Conflict | Submitted::Full) => {
                        panic!("{other:?}")
                    }
                }
            }
        });
        let done = [
            handing.await.unwrap(),
            usize::from(cancelling.await.unwrap()),
            expiring.await.unwrap(),
            superseding.await.unwrap(),
        ];
        assert_eq!(done.iter().sum::<usize>(), 1, "{done:?}");
        let row = ledger.get(&key("a/d"), &id).await.unwrap().unwrap();
        let states = [State::Pending, State::Cancelled, State::Expired, State::Superseded];
        let winner = done.iter().position(|done| *done == 1).unwrap();
        assert_eq!((row.state, row.handed), (states[winner], winner == 0));
        won[winner] += 1;
        if winner == 0 {
            ledger.write(vec![step(&row, State::Delivered, None, 1)]).await.unwrap();
        }
    }
    assert!(won.iter().filter(|won| **won > 0).count() > 1, "this is a race: {won:?}");
}
