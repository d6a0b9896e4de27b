//! What is remembered of bearers, and how it is forgotten.

use std::sync::atomic::{AtomicI64, Ordering};

use common::testing::eventually;
use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use serde_json::json;

use super::*;
use crate::tests::cluster::{Cluster, Mood, command};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3_600);

fn identities(cluster: &Cluster, lifetime: Duration) -> Identities {
    Identities::new(cluster.clone(), lifetime, Clock::system())
}

/// Makes a token of a user who may command the device `d` of the namespace `n`.
fn token(cluster: &Cluster) -> Secret {
    let token = jwt::unsigned(&json!({}));
    cluster.know("u", &token);
    cluster.bind("u", command("n", "d"));
    Secret::new(token)
}

async fn allowed(identities: &Identities, token: &Secret) -> bool {
    match identities.bearer(token).await.unwrap() {
        Some(bearer) => identities.allows(&bearer, &command("n", "d")).await.unwrap(),
        None => false,
    }
}

#[tokio::test]
async fn what_was_reviewed_is_not_asked_for_again() {
    let cluster = Cluster::default();
    let identities = identities(&cluster, LONG);
    let token = token(&cluster);
    for _ in 0..3 {
        assert!(allowed(&identities, &token).await);
    }
    assert_eq!(cluster.state().asked, (1, 1));
    let bearer = identities.bearer(&token).await.unwrap().unwrap();
    for _ in 0..2 {
        assert!(!identities.allows(&bearer, &command("n", "other")).await.unwrap());
        assert!(!identities.allows(&bearer, &command("other", "d")).await.unwrap());
    }
    assert_eq!(cluster.state().asked, (1, 3), "each right is a decision of its own");
    let unknown = Secret::new(jwt::unsigned(&json!({"sub": "x"})));
    for _ in 0..2 {
        assert!(identities.bearer(&unknown).await.unwrap().is_none());
    }
    assert_eq!(cluster.state().asked, (2, 3), "and that of a token that is not good is one");
}

#[tokio::test]
async fn without_a_cache_every_request_is_reviewed() {
    let cluster = Cluster::default();
    let identities = identities(&cluster, Duration::ZERO);
    let token = token(&cluster);
    assert!(allowed(&identities, &token).await);
    cluster.state().rights.clear();
    assert!(!allowed(&identities, &token).await);
    assert_eq!(cluster.state().asked, (2, 2));
}

#[tokio::test]
async fn a_revoked_right_is_gone_when_the_time_is_over() {
    let cluster = Cluster::default();
    let identities = identities(&cluster, Duration::from_millis(100));
    let token = token(&cluster);
    assert!(allowed(&identities, &token).await);
    cluster.state().rights.clear();
    while allowed(&identities, &token).await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.state().bearers.clear();
    while identities.bearer(&token).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_time_begins_with_the_review() {
    let cluster = Cluster::default();
    let identities = identities(&cluster, Duration::from_millis(100));
    let token = token(&cluster);
    // What it says was true when it was asked, as far as anybody knows.
    cluster.state().mood = Mood::After(Duration::from_millis(100));
    for count in 1..=2 {
        assert!(identities.bearer(&token).await.unwrap().is_some());
        assert_eq!(cluster.state().asked.0, count);
    }
}

#[tokio::test]
async fn nothing_is_remembered_beyond_the_end_of_the_token() {
    let cluster = Cluster::default();
    let now = Arc::new(AtomicI64::new(9_999));
    let wall = now.clone();
    let clock = Clock::with_wall(move || Timestamp::from_millis(wall.load(Ordering::Relaxed)));
    let identities = Identities::new(cluster.clone(), LONG, clock);
    let token = Secret::new(jwt::unsigned(&json!({"exp": 10})));
    cluster.know("u", token.expose());
    cluster.bind("u", command("n", "d"));
    assert!(allowed(&identities, &token).await);
    assert!(allowed(&identities, &token).await);
    assert_eq!(cluster.state().asked, (1, 1));
    now.store(10_000, Ordering::Relaxed);
    for _ in 0..2 {
        assert!(!allowed(&identities, &token).await);
    }
    assert_eq!(cluster.state().asked, (1, 1), "that it has expired, the token says itself");
}

#[tokio::test]
async fn who_asks_for_the_same_at_the_same_time_shares_a_review() {
    let cluster = Cluster::default();
    let identities = identities(&cluster, LONG);
    let good = token(&cluster);
    let bad = Secret::new(jwt::unsigned(&json!({"sub": "x"})));
    cluster.state().mood = Mood::After(Duration::from_millis(20));
    // More than there are reviews at once.
    let requests = (0..2 * MAX_REVIEWS).map(async |i| match i % 2 {
        0 => assert!(allowed(&identities, &good).await),
        _ => assert!(!allowed(&identities, &bad).await),
    });
    join_all(requests).await;
    assert_eq!(cluster.state().asked, (2, 1));
}

#[tokio::test]
async fn a_review_that_is_given_up_is_taken_over() {
    let cluster = Cluster::default();
    let identities = identities(&cluster, LONG);
    let token = token(&cluster);
    cluster.state().mood = Mood::Never;
    let mut first = Box::pin(identities.bearer(&token));
    assert!(first.as_mut().now_or_never().is_none());
    cluster.state().mood = Mood::Well;
    let mut second = Box::pin(identities.bearer(&token));
    assert!(second.as_mut().now_or_never().is_none(), "it waits for the first");
    drop(first);
    assert!(second.await.unwrap().is_some());
    assert_eq!(cluster.state().asked, (2, 0));
}

#[tokio::test]
async fn what_began_too_long_ago_is_not_shared() {
    let cluster = Cluster::default();
    let identities = identities(&cluster, Duration::from_millis(50));
    let token = token(&cluster);
    cluster.state().mood = Mood::After(Duration::from_millis(200));
    let first = identities.bearer(&token);
    let second = async {
        let began = identities.shared.clock.instant();
        while began.elapsed() < Duration::from_millis(60) {
            tokio::task::yield_now().await;
        }
        identities.bearer(&token).await
    };
    let (first, second) = join(first, second).await;
    assert!(first.unwrap().is_some() && second.unwrap().is_some());
    assert_eq!(cluster.state().asked, (2, 0));
}

#[tokio::test]
async fn a_failure_is_not_remembered() {
    let cluster = Cluster::default();
    let identities = identities(&cluster, LONG);
    let token = token(&cluster);
    for mood in [Mood::Not, Mood::Never] {
        cluster.state().mood = mood;
        let error = identities.bearer(&token).await.unwrap_err();
        assert!(!error.to_string().contains(token.expose()));
        cluster.state().mood = Mood::Well;
        let bearer = identities.bearer(&token).await.unwrap().unwrap();
        cluster.state().mood = mood;
        assert!(identities.allows(&bearer, &command("n", "d")).await.is_err());
        cluster.state().mood = Mood::Well;
        assert!(identities.allows(&bearer, &command("n", "d")).await.unwrap());
        identities.shared.bearers.invalidate_all();
        identities.shared.decisions.invalidate_all();
    }
}

#[tokio::test]
async fn of_a_token_a_digest_is_remembered() {
    let cluster = Cluster::default();
    let identities = identities(&cluster, LONG);
    let token = token(&cluster);
    let bearer = identities.bearer(&token).await.unwrap().unwrap();
    assert!(!format!("{bearer:?}{identities:?}").contains(token.expose()));
    identities.shared.bearers.run_pending_tasks();
    assert_eq!(identities.shared.bearers.entry_count(), 1);
    eventually("nothing is reviewed any more", || {
        identities.shared.reviews.available_permits() == MAX_REVIEWS
    })
    .await;
}
