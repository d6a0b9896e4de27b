//! Commands that wait: what happens to them happens once.

use super::*;

fn given(ids: &[&str], attempt: u32) -> Vec<(EventId, u32)> {
    ids.iter().map(|id| (event(id), attempt)).collect()
}

on_each_store!(what_still_waits_is_handed_over_in_the_given_order);
async fn what_still_waits_is_handed_over_in_the_given_order(database: Database) {
    let ledger = fixture(database).await;
    for (place, id) in ["c1", "c2", "c3"].into_iter().enumerate() {
        ledger.pending(id, place as u64).await;
    }
    ledger.cancel(&key("a/d"), &event("c2"), NOW).await.unwrap();
    let handed = ledger.hand_over(ledger.lease, given(&["c3", "c2", "c0", "c1"], 1)).await.unwrap();
    assert_eq!(ids(&handed), ["c3", "c1"]);
    let payload = Some("payload of c3".into());
    let expected = CommandRow { handed: true, attempt: 1, place: Some(Place(2)), payload, ..row(kept("c3")) };
    assert_eq!(handed[0], expected);
    assert_eq!(ledger.hand_over(ledger.lease, given(&["c1", "c3"], 2)).await, Ok(vec![]));
    assert_eq!(ledger.hand_over(ledger.lease, vec![]).await, Ok(vec![]));
}

on_each_store!(what_is_taken_back_waits_again_and_that_once);
async fn what_is_taken_back_waits_again_and_that_once(database: Database) {
    let ledger = fixture(database).await;
    ledger.pending("c1", 1).await;
    let take_back = async |attempt| {
        let taken = ledger.take_back(ledger.lease, given(&["c1"], attempt)).await.unwrap();
        taken.len()
    };
    assert_eq!(take_back(0).await, 0, "it was not handed over");
    ledger.hand_over(ledger.lease, given(&["c1"], 1)).await.unwrap();
    assert_eq!((take_back(2).await, take_back(1).await, take_back(1).await), (0, 1, 0));
    let handed = ledger.hand_over(ledger.lease, given(&["c1"], 2)).await.unwrap();
    assert_eq!((ids(&handed), handed[0].attempt), (vec!["c1"], 2));
    assert_eq!(take_back(1).await, 0, "of the attempt before");
    ledger.write(vec![step(&handed[0], State::Delivered, None, 2)]).await.unwrap();
    assert_eq!(take_back(2).await, 0, "it is settled");
}

on_each_store!(what_waits_lapses_and_what_nobody_read);
async fn what_waits_lapses_and_what_nobody_read(database: Database) {
    let ledger = fixture(database).await;
    for id in ["c1", "c2"] {
        ledger.pending(id, 1).await;
    }
    ledger.hand_over(ledger.lease, given(&["c2"], 1)).await.unwrap();
    for submission in [kept("c3"), plain("c4"), plain("c5")] {
        ledger.submit(submission).await.unwrap();
    }
    ledger.write(vec![CommandRow { place: Some(Place(5)), ..row(plain("c5")) }]).await.unwrap();
    let all = ["c5", "c4", "c3", "c2", "c1", "c0"].map(event).to_vec();
    let expired = ledger.expire(ledger.lease, all.clone(), later(60)).await.unwrap();
    assert_eq!(ids(&expired), ["c4", "c3", "c1"]);
    let c1 = expired.last().unwrap();
    let step = Step { state: State::Expired, time: later(60), reason: None, attempt: 1 };
    assert_eq!((c1.state, c1.history.last()), (State::Expired, Some(&step)));
    assert_eq!(ledger.find(vec![event("c1")]).await, Ok(vec![c1.clone()]), "without payload");
    assert_eq!(ledger.expire(ledger.lease, all, later(61)).await, Ok(vec![]));
}

on_each_store!(many_are_handed_over_at_once);
async fn many_are_handed_over_at_once(database: Database) {
    let ledger = fixture(database).await;
    let names: Vec<_> = (0..1_000).map(|i| format!("c{i:04}")).collect();
    ledger.write(names.iter().map(|id| row(kept(id))).collect()).await.unwrap();
    let wanted = names.iter().rev().enumerate().map(|(i, id)| (event(id), i as u32 + 1)).collect();
    let handed = ledger.hand_over(ledger.lease, wanted).await.unwrap();
    assert_eq!((handed.len(), handed[0].id.as_str(), handed[999].attempt), (1_000, "c0999", 1_000));
    assert_eq!(handed[500].payload, Some("payload of c0499".into()));
    let expired = ledger.expire(ledger.lease, names.iter().map(|id| event(id)).collect(), NOW).await;
    assert_eq!(expired, Ok(vec![]));
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
            async move { ledger.hand_over(lease, vec![(id, 1)]).await.unwrap().len() }
        });
        let cancelling = tokio::spawn({
            let (other, id) = (other.clone(), id.clone());
            async move { matches!(other.cancel(&key("a/d"), &id, NOW).await.unwrap(), Cancel::Done(_)) }
        });
        let expiring = tokio::spawn({
            let (ledger, id) = (ledger.ledger.clone(), id.clone());
            async move { ledger.expire(lease, vec![id], NOW).await.unwrap().len() }
        });
        let superseding = tokio::spawn({
            let (other, id) = (other.clone(), format!("s{round}"));
            let submission = Submission { command: plain(&id).command, ..submission(&id) };
            async move {
                match other.submit(submission).await.unwrap() {
                    Submitted::New { superseded } => superseded.len(),
                    other => panic!("{other:?}"),
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
