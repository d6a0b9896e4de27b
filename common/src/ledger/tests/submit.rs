//! Submissions, and what is asked of them.

use super::*;
use crate::error::ErrorKind;

fn keyed(id: &str, key: &str, fingerprint: &str) -> Submission {
    let idempotency = Some(Idempotency { key: key.to_owned(), fingerprint: fingerprint.to_owned() });
    Submission { idempotency, ..plain(id) }
}

fn superseding(id: &str, key: &str) -> Submission {
    Submission { supersede: Some(key.to_owned()), ..kept(id) }
}

fn new() -> Submitted {
    Submitted::New { superseded: vec![] }
}

fn is_new(submitted: &Submitted) -> bool {
    matches!(submitted, Submitted::New { .. })
}

on_each_store!(a_submission_is_there_once_it_returns);
async fn a_submission_is_there_once_it_returns(database: Database) {
    let ledger = fixture(database).await;
    for submission in [plain("c1"), kept("c2")] {
        let (id, expected) = (submission.command.id.clone(), row(submission.clone()));
        assert_eq!(ledger.submit(submission.clone()).await, Ok(new()));
        assert_eq!(ledger.get(&key("a/d"), &id).await, Ok(Some(bare(&expected))));
        assert_eq!(ledger.get(&key("a/e"), &id).await, Ok(None));
        assert_eq!(ledger.find(vec![id.clone()]).await, Ok(vec![bare(&expected)]));
        assert_eq!(expected.command(), Some(submission.command));
        assert_eq!(ledger.device_of(&id).await, Ok(Some((key("a/d"), expected.state))));
    }
    assert_eq!((ledger.state("c1").await, ledger.state("c2").await), (State::Accepted, State::Pending));
    assert_eq!(ledger.device_of(&event("c3")).await, Ok(None));
    let again = open(&ledger.database).await;
    assert_eq!(again.find(vec![event("c2")]).await, Ok(vec![bare(&row(kept("c2")))]), "after a restart");
}

on_each_store!(the_same_key_and_request_is_the_same_command_for_a_day);
async fn the_same_key_and_request_is_the_same_command_for_a_day(database: Database) {
    let ledger = fixture(database).await;
    assert_eq!(ledger.submit(keyed("c1", "k", "f")).await, Ok(new()));
    let same = Submitted::Same(bare(&row(plain("c1"))));
    assert_eq!(ledger.submit(keyed("c2", "k", "f")).await, Ok(same.clone()));
    assert_eq!(ledger.submit(keyed("c2", "k", "g")).await, Ok(Submitted::Conflict));
    assert_eq!(ledger.device_of(&event("c2")).await, Ok(None));
    let mut elsewhere = keyed("c3", "k", "g");
    elsewhere.command.device = key("a/e");
    assert_eq!(ledger.submit(elsewhere).await, Ok(new()));
    assert_eq!(ledger.submit(keyed("c4", "l", "f")).await, Ok(new()));
    let day = KEY_LIFETIME.as_secs();
    let at = |seconds, id| Submission { accepted: later(seconds), ..keyed(id, "k", "f") };
    assert_eq!(ledger.submit(at(day - 1, "c5")).await, Ok(same));
    assert_eq!(ledger.submit(at(day, "c6")).await, Ok(new()));
    assert_eq!(ledger.submit(at(day, "c7")).await.map(|submitted| is_new(&submitted)), Ok(false));
    assert_eq!(ledger.state("c1").await, State::Accepted);
}

on_each_store!(a_key_of_another_form_is_refused);
async fn a_key_of_another_form_is_refused(database: Database) {
    let ledger = fixture(database).await;
    for bad in ["", "a\0", "ü", &"x".repeat(256)] {
        for submission in [keyed("c1", bad, "f"), superseding("c1", bad)] {
            assert_eq!(ledger.submit(submission).await.unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
    assert_eq!(ledger.submit(keyed("c1", &"~ ".repeat(127), "f")).await, Ok(new()));
}

on_each_store!(kept_commands_of_a_device_are_bounded);
async fn kept_commands_of_a_device_are_bounded(database: Database) {
    let ledger = fixture(database).await;
    let of_two = |submission| Submission { max_pending: 2, ..submission };
    ledger.submit(plain("c0")).await.unwrap();
    for id in ["c1", "c2"] {
        assert_eq!(ledger.submit(of_two(superseding(id, id))).await, Ok(new()));
    }
    assert_eq!(ledger.submit(of_two(kept("c3"))).await, Ok(Submitted::Full));
    assert_eq!(ledger.submit(of_two(plain("c4"))).await, Ok(new()), "it is not kept");
    let mut elsewhere = of_two(kept("c5"));
    elsewhere.command.device = key("a/e");
    assert_eq!(ledger.submit(elsewhere).await, Ok(new()));
    let replaced = ledger.submit(of_two(superseding("c6", "c1"))).await.unwrap();
    assert!(is_new(&replaced), "one goes for it");
    let none_of_it = Submission { max_pending: 1, ..superseding("c7", "c2") };
    assert_eq!(ledger.submit(none_of_it).await, Ok(Submitted::Full));
    assert_eq!(ledger.state("c2").await, State::Pending, "what was refused supersedes nothing");
    ledger.cancel(&key("a/d"), &event("c2"), NOW).await.unwrap();
    assert_eq!(ledger.submit(of_two(kept("c8"))).await, Ok(new()));
}

on_each_store!(a_command_supersedes_those_that_wait_with_its_key);
async fn a_command_supersedes_those_that_wait_with_its_key(database: Database) {
    let ledger = fixture(database).await;
    for id in ["c1", "c2"] {
        assert!(is_new(&ledger.submit(superseding(id, "k")).await.unwrap()));
    }
    assert_eq!(ledger.state("c1").await, State::Superseded);
    ledger.submit(superseding("c3", "l")).await.unwrap();
    let mut elsewhere = superseding("c4", "k");
    elsewhere.command.device = key("a/e");
    ledger.submit(elsewhere).await.unwrap();
    ledger.hand_over(ledger.lease, vec![(event("c2"), 1)]).await.unwrap();
    assert_eq!(ledger.submit(superseding("c5", "k")).await, Ok(new()), "it is under way to the device");
    ledger
        .commit(ledger.lease, Batch { changes: vec![write(row(kept("c2")), Some(1))], ..batch(vec![]) })
        .await
        .unwrap();
    let submission = Submission { accepted: later(9), supersede: Some("k".to_owned()), ..plain("c6") };
    let Submitted::New { superseded } = ledger.submit(submission).await.unwrap() else { panic!("it is new") };
    assert_eq!(ids(&superseded), ["c2", "c5"]);
    let step = Step { state: State::Superseded, time: later(9), reason: None, attempt: 2 };
    assert_eq!((superseded[0].state, superseded[0].history[2]), (State::Superseded, step));
    let transition = superseded[0].transition(event("c6"));
    assert_eq!((transition.id(), transition.time), (event("c2.superseded.2"), later(9)));
    assert_eq!(ledger.find(vec![event("c2")]).await, Ok(vec![superseded[0].clone()]), "without payload");
    assert_eq!((ledger.state("c3").await, ledger.state("c4").await), (State::Pending, State::Pending));
}

on_each_store!(a_command_is_cancelled_while_it_waits);
async fn a_command_is_cancelled_while_it_waits(database: Database) {
    let ledger = fixture(database).await;
    let cancel = async |device, id| ledger.cancel(&key(device), &event(id), later(3)).await.unwrap();
    assert_eq!(cancel("a/d", "c1").await, Cancel::Unknown);
    ledger.submit(kept("c1")).await.unwrap();
    assert_eq!(cancel("a/e", "c1").await, Cancel::Unknown, "it is another's");
    let Cancel::Done(row) = cancel("a/d", "c1").await else { panic!("it waits") };
    assert_eq!(row.transition(event("x")).id(), event("c1.cancelled.1"));
    assert_eq!(ledger.get(&key("a/d"), &event("c1")).await, Ok(Some(row.clone())));
    assert_eq!(cancel("a/d", "c1").await, Cancel::NotPending(row));
    ledger.submit(plain("c2")).await.unwrap();
    assert!(matches!(cancel("a/d", "c2").await, Cancel::NotPending(row) if row.state == State::Accepted));
    ledger.submit(kept("c3")).await.unwrap();
    ledger.hand_over(ledger.lease, vec![(event("c3"), 1)]).await.unwrap();
    assert!(matches!(cancel("a/d", "c3").await, Cancel::NotPending(row) if row.handed));
}

on_each_store!(of_submissions_at_once_with_one_key_one_is_new);
async fn of_submissions_at_once_with_one_key_one_is_new(database: Database) {
    let ledgers = [open(&database).await, open(&database).await];
    for round in 0..20 {
        let submissions: Vec<_> = (0..6)
            .map(|i| {
                let ledger = ledgers[i % 2].clone();
                let submission = keyed(&format!("c{round}-{i}"), &format!("k{round}"), "f");
                tokio::spawn(async move { ledger.submit(submission).await.unwrap() })
            })
            .collect();
        let mut submitted = Vec::new();
        for submission in submissions {
            submitted.push(submission.await.unwrap());
        }
        assert_eq!(submitted.iter().filter(|one| is_new(one)).count(), 1);
        let rest = submitted.iter().filter(|one| matches!(one, Submitted::Same(_)));
        assert_eq!(rest.count(), 5);
    }
}

on_each_store!(of_submissions_at_once_no_more_are_kept_than_may_be);
async fn of_submissions_at_once_no_more_are_kept_than_may_be(database: Database) {
    let ledgers = [open(&database).await, open(&database).await];
    let submissions: Vec<_> = (0..40)
        .map(|i| {
            let ledger = ledgers[i % 2].clone();
            let submission = Submission { max_pending: 10, ..kept(&format!("c{i}")) };
            tokio::spawn(async move { ledger.submit(submission).await.unwrap() })
        })
        .collect();
    let mut kept = 0;
    for submission in submissions {
        kept += usize::from(is_new(&submission.await.unwrap()));
    }
    assert_eq!(kept, 10);
    let pending = ledgers[0].list(&key("a/d"), Some(State::Pending), None, 100).await.unwrap();
    assert_eq!(pending.len(), 10);
}
