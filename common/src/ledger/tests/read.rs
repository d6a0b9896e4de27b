//! What is asked of commands.

use super::*;

on_each_store!(commands_are_listed_by_state_in_pages);
async fn commands_are_listed_by_state_in_pages(database: Database) {
    let ledger = fixture(database).await;
    for id in ["c3", "c1", "c2"] {
        ledger.submit(kept(id)).await.unwrap();
    }
    for id in ["c4", "B"] {
        ledger.submit(plain(id)).await.unwrap();
    }
    let mut elsewhere = kept("c5");
    elsewhere.command.device = key("a/e");
    ledger.submit(elsewhere).await.unwrap();
    ledger.cancel(&key("a/d"), &event("c2"), NOW).await.unwrap();
    let list = async |state, after: Option<&str>, limit| {
        let after = after.map(event);
        let rows = ledger.list(&key("a/d"), state, after.as_ref(), limit).await.unwrap();
        ids(&rows).join(" ")
    };
    assert_eq!(list(None, None, 100).await, "B c1 c2 c3 c4");
    assert_eq!(list(None, Some("c1"), 2).await, "c2 c3");
    assert_eq!(list(Some(State::Pending), None, 100).await, "c1 c3");
    assert_eq!(list(Some(State::Pending), Some("c1"), 100).await, "c3");
    assert_eq!(list(Some(State::Accepted), None, 100).await, "B c4");
    assert_eq!(list(Some(State::Cancelled), None, 100).await, "c2");
    assert_eq!(list(Some(State::Delivered), None, 100).await, "");
}

on_each_store!(what_no_tracker_has_read_is_found);
async fn what_no_tracker_has_read_is_found(database: Database) {
    let ledger = fixture(database).await;
    for (seconds, submission) in [kept("c1"), plain("c2"), kept("c3"), kept("c4")].into_iter().enumerate() {
        ledger.submit(Submission { accepted: later(seconds as u64), ..submission }).await.unwrap();
    }
    ledger.cancel(&key("a/d"), &event("c3"), NOW).await.unwrap();
    let unseen = ledger.unseen(later(3)).await.unwrap();
    // One was cancelled, and nobody has read of it yet.
    assert_eq!(ids(&unseen), ["c1", "c2", "c3"]);
    assert_eq!(unseen[0], row(kept("c1")), "with all that its event has");
    ledger.write(vec![row(kept("c1"))]).await.unwrap();
    assert_eq!(ids(&ledger.unseen(later(4)).await.unwrap()), ["c2", "c4", "c3"]);
}

on_each_store!(what_was_settled_long_ago_is_forgotten);
async fn what_was_settled_long_ago_is_forgotten(database: Database) {
    let ledger = fixture(database).await;
    let settled = |id: &str| step(&row(plain(id)), State::Delivered, None, 1);
    let many = (0..2_500).map(|i| settled(&format!("c{i}"))).collect();
    ledger.commit(ledger.lease, Batch { now: later(9), ..batch(many) }).await.unwrap();
    ledger.commit(ledger.lease, Batch { now: later(10), ..batch(vec![settled("d1")]) }).await.unwrap();
    ledger.pending("d2", 1).await;
    assert_eq!(ledger.purge(later(9)).await, Ok(0));
    assert_eq!(ledger.purge(later(10)).await, Ok(2_500));
    assert_eq!(ids(&ledger.list(&key("a/d"), None, None, 10).await.unwrap()), ["d1", "d2"]);
    assert_eq!(ledger.purge(later(11)).await, Ok(1));
    assert_eq!(ledger.state("d2").await, State::Pending);
}
