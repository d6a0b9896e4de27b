//! Judges bearers whom a [`Reviewer`] knows, and remembers for a stated time how it judged.
//!
//! Invariants: what cannot be reviewed in time is refused; a judgement is forgotten when its time has passed since the
//! review began, and with the token at the latest; of a token only a digest is remembered.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::auth::Secret;
use common::process::Clock;
use common::time::Timestamp;
use metrics::counter;
use moka::sync::Cache;
use ring::digest::{SHA256, digest};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::identity::{Identity, Reviewer, Right, Unreviewed};
use super::jwt;

/// How long a review may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most reviews at once; further ones wait, no longer than a review may take.
const MAX_REVIEWS: usize = 64;
const MAX_TOKENS: u64 = 10_000;
const MAX_DECISIONS: u64 = 50_000;

/// A digest of a token.
type Tag = [u8; 32];

/// Bearers who are known to another system than the registry. Clones share what is remembered.
#[derive(Clone)]
pub struct Identities {
    shared: Arc<Shared>,
}

struct Shared {
    reviewer: Box<dyn Reviewer>,
    clock: Clock,
    lifetime: Duration,
    reviews: Semaphore,
    bearers: Cache<Tag, Remembered<Option<Arc<Identity>>>>,
    decisions: Cache<(Tag, Right), Remembered<bool>>,
    is_failing: AtomicBool,
}

/// Something that was found out, and until when it holds.
#[derive(Clone)]
struct Remembered<T> {
    found: T,
    until: Instant,
    expires: Option<Timestamp>,
}

/// The bearer of a token that was found good.
#[derive(Debug, Clone)]
pub(crate) struct Bearer {
    tag: Tag,
    identity: Arc<Identity>,
    expires: Option<Timestamp>,
}

impl Identities {
    /// Asks `reviewer`, and remembers what it said for `lifetime`; zero is not at all.
    pub fn new(reviewer: impl Reviewer + 'static, lifetime: Duration, clock: Clock) -> Self {
        // Entries are judged by their own times; moka's frees what nobody asks for any more.
        let shared = Shared {
            reviewer: Box::new(reviewer),
            clock,
            lifetime,
            reviews: Semaphore::new(MAX_REVIEWS),
            bearers: Cache::builder().max_capacity(MAX_TOKENS).time_to_live(lifetime).build(),
            decisions: Cache::builder().max_capacity(MAX_DECISIONS).time_to_live(lifetime).build(),
            is_failing: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Finds out who bears a token; `None` if it is not good. What has not the shape of a JWT is not asked for.
    pub(crate) async fn bearer(&self, token: &Secret) -> Result<Option<Bearer>, Unreviewed> {
        if !jwt::is_jwt(token) {
            return Ok(None);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(digest(&SHA256, token.expose().as_bytes()).as_ref());
        let expires = jwt::expiry(token);
        let shared = &self.shared;
        let review = async { Ok(shared.reviewer.identify(token).await?.map(Arc::new)) };
        let found = shared.find("token", &shared.bearers, tag, expires, review, Option::is_some).await?;
        Ok(found.map(|identity| Bearer { tag, identity, expires }))
    }

    /// Tells whether a bearer has a right.
    pub(crate) async fn allows(&self, bearer: &Bearer, right: &Right) -> Result<bool, Unreviewed> {
        let shared = &self.shared;
        let review = async { shared.reviewer.allows(&bearer.identity, right).await };
        let key = (bearer.tag, right.clone());
        shared.find("access", &shared.decisions, key, bearer.expires, review, |allowed| *allowed).await
    }
}

impl Shared {
    /// Looks among what is remembered, and else has it reviewed.
    async fn find<K, T>(
        &self,
        kind: &'static str,
        remembered: &Cache<K, Remembered<T>>,
        key: K,
        expires: Option<Timestamp>,
        review: impl Future<Output = Result<T, Unreviewed>>,
        is_good: impl Fn(&T) -> bool,
    ) -> Result<T, Unreviewed>
    where
        K: Hash + Eq + Send + Sync + 'static,
        T: Clone + Send + Sync + 'static,
    {
        let began = self.clock.instant();
        if let Some(entry) = remembered.get(&key).filter(|entry| self.holds(entry, began)) {
            counter!("drogue_access_review_cache_hits_total", "kind" => kind).increment(1);
            return Ok(entry.found);
        }
        let reviewed = timeout(PATIENCE, async {
            // It is never closed: a failure would be that of a review.
            let _permit = self.reviews.acquire().await.map_err(|error| Unreviewed(error.to_string()))?;
            review.await
        });
        let late = || Unreviewed(format!("no answer within {} s", PATIENCE.as_secs()));
        let reviewed = reviewed.await.unwrap_or_else(|_| Err(late()));
        let result = match &reviewed {
            Ok(found) if is_good(found) => "allowed",
            Ok(_) => "denied",
            Err(_) => "unavailable",
        };
        counter!("drogue_access_reviews_total", "kind" => kind, "result" => result).increment(1);
        self.tell(kind, reviewed.as_ref().err());
        let found = reviewed?;
        let entry = Remembered { found: found.clone(), until: began + self.lifetime, expires };
        if !self.lifetime.is_zero() && self.holds(&entry, began) {
            remembered.insert(key, entry);
        }
        Ok(found)
    }

    fn holds<T>(&self, entry: &Remembered<T>, now: Instant) -> bool {
        now < entry.until && entry.expires.is_none_or(|expires| self.clock.wall() < expires)
    }

    /// Logs when reviews begin to fail, and when they work again: not each, of which strangers can make many.
    fn tell(&self, kind: &'static str, failure: Option<&Unreviewed>) {
        let was_failing = self.is_failing.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(error) if !was_failing => {
                tracing::warn!(kind, %error, "bearers cannot be reviewed, who comes with their token gets 503");
            }
            None if was_failing => tracing::info!("bearers can be reviewed again"),
            Some(_) | None => {}
        }
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities").field("lifetime", &self.shared.lifetime).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
