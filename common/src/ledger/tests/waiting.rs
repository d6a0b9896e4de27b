//! Commands that wait: what happens to them happens once.

use super::*;
use crate::BoxFuture;

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

/// Something that may happen to a command: tells whether it did.
type Attempt = BoxFuture<'static, bool>;

/// Makes all that may happen to a command that waits: in this process, or in another.
fn attempts(ledger: &Fixture, other: &Ledger, id: &EventId) -> [(State, Attempt); 4] {
    let lease = ledger.lease;
    let here = (ledger.ledger.clone(), id.clone());
    let hand_over = async move { here.0.hand_over(lease, vec![(here.1, 1)]).await.unwrap().len() == 1 };
    let here = (ledger.ledger.clone(), id.clone());
    let expire = async move { here.0.expire(lease, vec![here.1], NOW).await.unwrap().len() == 1 };
    let there = (other.clone(), id.clone());
    let cancel =
        async move { matches!(there.0.cancel(&key("a/d"), &there.1, NOW).await.unwrap(), Cancel::Done(_)) };
    let there = (other.clone(), Submission { supersede: Some("k".to_owned()), ..plain(&format!("s-{id}")) });
    let supersede = async move {
        matches!(there.0.submit(there.1).await.unwrap(), Submitted::New { superseded } if superseded.len() == 1)
    };
    [
        (State::Pending, Box::pin(hand_over)),
        (State::Expired, Box::pin(expire)),
        (State::Cancelled, Box::pin(cancel)),
        (State::Superseded, Box::pin(supersede)),
    ]
}

on_each_store!(of_all_that_may_happen_to_a_command_that_waits_one_does);
async fn of_all_that_may_happen_to_a_command_that_waits_one_does(database: Database) {
    let ledger = fixture(database).await;
    let other = open(&ledger.database).await;
    let mut winners = Vec::new();
    for round in 0..100 {
        let id = event(&format!("c{round}"));
        ledger.submit(Submission { supersede: Some("k".to_owned()), ..kept(id.as_str()) }).await.unwrap();
        let mut attempts = attempts(&ledger, &other, &id);
        // Who writes first may be who came first.
        attempts.rotate_left(round % 4);
        let running = attempts.map(|(state, attempt)| (state, tokio::spawn(attempt)));
        let mut won = Vec::new();
        for (state, attempt) in running {
            if attempt.await.unwrap() {
                won.push(state);
            }
        }
        let row = ledger.get(&key("a/d"), &id).await.unwrap().unwrap();
        assert_eq!(won, [row.state]);
        assert_eq!(row.handed, row.state == State::Pending);
        if row.handed {
            ledger.write(vec![step(&row, State::Delivered, None, 1)]).await.unwrap();
        }
        if !winners.contains(&row.state) {
            winners.push(row.state);
        }
    }
    assert!(winners.len() > 1, "this is a race: {winners:?}");
}
