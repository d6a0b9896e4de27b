//! Judges bearers whom a [`Reviewer`] knows, and remembers for a stated time how it judged.
//!
//! Invariants: what cannot be reviewed in time is refused; a judgement is forgotten when its time has passed since the
//! review began, and with the token at the latest; a token that says itself that it has expired is not asked for; those
//! who ask for the same at the same time share a review; of a token only a digest is remembered.

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
use tokio::sync::{OnceCell, Semaphore};
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
    bearers: Memory<Tag, Option<Arc<Identity>>>,
    decisions: Memory<(Tag, Right), bool>,
    is_failing: AtomicBool,
}

/// What was found out, and what is being found out: who comes to an empty cell waits for the one who fills it.
type Memory<K, T> = Cache<K, Arc<OnceCell<Remembered<T>>>>;

/// Something that was found out, and until when it holds.
#[derive(Debug)]
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

    /// Finds out who bears a token; `None` if it is not good.
    ///
    /// What has not the shape of a JWT, or has expired as it says itself, is not asked for.
    pub(crate) async fn bearer(&self, token: &Secret) -> Result<Option<Bearer>, Unreviewed> {
        let shared = &self.shared;
        let expires = jwt::expiry(token);
        if !jwt::is_jwt(token) || expires.is_some_and(|expires| expires <= shared.clock.wall()) {
            return Ok(None);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(digest(&SHA256, token.expose().as_bytes()).as_ref());
        let asked = Asked { kind: "token", key: tag, expires, is_good: Option::is_some };
        let review = async || Ok(shared.reviewer.identify(token).await?.map(Arc::new));
        let found = shared.find(&shared.bearers, asked, review).await?;
        Ok(found.map(|identity| Bearer { tag, identity, expires }))
    }

    /// Tells whether a bearer has a right.
    pub(crate) async fn allows(&self, bearer: &Bearer, right: &Right) -> Result<bool, Unreviewed> {
        let shared = &self.shared;
        let (key, expires) = ((bearer.tag, right.clone()), bearer.expires);
        let asked = Asked { kind: "access", key, expires, is_good: |allowed: &bool| *allowed };
        let review = async || shared.reviewer.allows(&bearer.identity, right).await;
        shared.find(&shared.decisions, asked, review).await
    }
}

/// What is to be found out.
struct Asked<K, T> {
    kind: &'static str,
    key: K,
    /// When the token expires.
    expires: Option<Timestamp>,
    is_good: fn(&T) -> bool,
}

impl Shared {
    /// Looks among what is remembered, and else has it reviewed.
    async fn find<K, T>(
        &self,
        memory: &Memory<K, T>,
        asked: Asked<K, T>,
        review: impl AsyncFn() -> Result<T, Unreviewed>,
    ) -> Result<T, Unreviewed>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        T: Clone + Send + Sync + 'static,
    {
        let came = self.clock.instant();
        let mut is_ours = false;
        let found = timeout(PATIENCE, async {
            loop {
                let cell = self.cell(memory, &asked.key, came);
                let reviewed = cell.get_or_try_init(async || {
                    is_ours = true;
                    self.review(&asked, &review).await
                });
                let entry = reviewed.await?;
                // Others may have begun to ask too long ago.
                if is_ours || self.holds(entry, came) {
                    return Ok(entry.found.clone());
                }
            }
        });
        let late = || Unreviewed(format!("no answer within {} s", PATIENCE.as_secs()));
        let found = found.await.unwrap_or_else(|_| Err(late()));
        if found.is_ok() && !is_ours {
            counter!("drogue_access_review_cache_hits_total", "kind" => asked.kind).increment(1);
            return found;
        }
        let result = match &found {
            Ok(found) if (asked.is_good)(found) => "allowed",
            Ok(_) => "denied",
            Err(_) => "unavailable",
        };
        counter!("drogue_access_reviews_total", "kind" => asked.kind, "result" => result).increment(1);
        self.tell(asked.kind, found.as_ref().err());
        found
    }

    /// Returns where something is remembered, or will be.
    fn cell<K, T>(&self, memory: &Memory<K, T>, key: &K, now: Instant) -> Arc<OnceCell<Remembered<T>>>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        if self.lifetime.is_zero() {
            return Arc::default();
        }
        let is_of_use =
            |cell: &Arc<OnceCell<Remembered<T>>>| cell.get().is_none_or(|entry| self.holds(entry, now));
        memory.get(key).filter(is_of_use).unwrap_or_else(|| {
            let entry = memory.entry_by_ref(key).and_upsert_with(|old| {
                // Somebody may have been faster.
                old.map(|old| old.into_value()).filter(is_of_use).unwrap_or_default()
            });
            entry.into_value()
        })
    }

    async fn review<K, T>(
        &self,
        asked: &Asked<K, T>,
        review: impl AsyncFn() -> Result<T, Unreviewed>,
    ) -> Result<Remembered<T>, Unreviewed> {
        // It is never closed: a failure would be that of a review.
        let _permit = self.reviews.acquire().await.map_err(|error| Unreviewed(error.to_string()))?;
        let until = self.clock.instant() + self.lifetime;
        Ok(Remembered { found: review().await?, until, expires: asked.expires })
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
