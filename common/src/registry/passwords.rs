//! Passwords that people chose: slow to check by design, so never on a thread that serves connections.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, Salt, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use metrics::{Gauge, Histogram, gauge, histogram};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::settings::PasswordCost;
use crate::auth::Secret;
use crate::process::Clock;

/// How long a check is taken to last before the first was measured.
const TYPICAL: Duration = Duration::from_millis(20);

/// An argon2id hash as a PHC string. It is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct PasswordHashText(String);

impl PasswordHashText {
    /// Wraps a hash whose form and cost were checked.
    pub(super) fn new(checked: &Secret) -> Self {
        Self(checked.expose().to_owned())
    }
}

impl fmt::Debug for PasswordHashText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Hashes a password as the registry does by default, but with the salt of a caller who has to get the same hash again.
///
/// It takes some 20 ms, so call it where blocking is allowed. `None` if the system fails.
pub fn hash_password(password: &Secret, salt: &[u8; Salt::RECOMMENDED_LENGTH]) -> Option<Secret> {
    let cost = PasswordCost::default();
    let params = Params::new(cost.memory, cost.passes, cost.lanes, None).ok()?;
    hash_with(&Argon2::new(Algorithm::Argon2id, Version::V0x13, params), password, salt).map(Secret::new)
}

fn hash_with(
    argon2: &Argon2<'_>,
    password: &Secret,
    salt: &[u8; Salt::RECOMMENDED_LENGTH],
) -> Option<String> {
    let salt = SaltString::encode_b64(salt).ok()?;
    Some(argon2.hash_password(password.expose().as_bytes(), &salt).ok()?.to_string())
}

/// Says that a password was neither found right nor wrong, or not hashed: the system failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed;

/// Hashes and checks passwords on blocking threads, so many at a time that a core is left for the rest.
#[derive(Debug)]
pub(super) struct Passwords {
    argon2: Argon2<'static>,
    permits: Arc<Semaphore>,
    parallel: usize,
    clock: Clock,
    /// How long the last check took, in nanoseconds.
    typical: AtomicU64,
    seconds: Histogram,
    waiting: Gauge,
    #[cfg(test)]
    counts: Counts,
}

/// What tests wait for.
#[cfg(test)]
#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicU64,
    checks: AtomicU64,
}

impl Passwords {
    /// # Errors
    /// Fails if argon2 cannot have that cost.
    pub(super) fn new(cost: PasswordCost, clock: Clock) -> Result<Self, argon2::Error> {
        let params = Params::new(cost.memory, cost.passes, cost.lanes, None)?;
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        let parallel = cores.saturating_sub(1).max(1);
        Ok(Self {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            permits: Arc::new(Semaphore::new(parallel)),
            parallel,
            clock,
            typical: AtomicU64::new(as_nanos(TYPICAL)),
            seconds: histogram!("drogue_password_check_seconds"),
            waiting: gauge!("drogue_passwords_waiting"),
            #[cfg(test)]
            counts: Counts::default(),
        })
    }

    /// Returns how many are hashed or checked at a time.
    pub(super) fn parallel(&self) -> usize {
        self.parallel
    }

    /// Hashes a password. Must be called on the home runtime.
    pub(super) async fn hash(&self, password: Secret) -> Result<PasswordHashText, Failed> {
        let argon2 = self.argon2.clone();
        let hash = move || {
            let mut salt = [0; Salt::RECOMMENDED_LENGTH];
            SystemRandom::new().fill(&mut salt).ok()?;
            hash_with(&argon2, &password, &salt)
        };
        self.run(hash).await?.map(PasswordHashText).ok_or(Failed)
    }

    /// Tells whether a password is that of one of the hashes. Must be called on the home runtime.
    pub(super) async fn verify(
        &self,
        hashes: Vec<PasswordHashText>,
        password: Secret,
    ) -> Result<bool, Failed> {
        let (argon2, clock) = (self.argon2.clone(), self.clock.clone());
        let verify = move || {
            let start = clock.instant();
            let is_of =
                |hash: PasswordHash<'_>| argon2.verify_password(password.expose().as_bytes(), &hash).is_ok();
            let right = hashes.iter().any(|hash| PasswordHash::new(&hash.0).is_ok_and(is_of));
            (right, clock.instant().duration_since(start))
        };
        let (right, took) = self.run(verify).await?;
        self.typical.store(as_nanos(took), Ordering::Relaxed);
        self.seconds.record(took);
        #[cfg(test)]
        self.counts.checks.fetch_add(1, Ordering::SeqCst);
        Ok(right)
    }

    /// Lasts as long as a check, and costs nothing: so that a refusal without a check does not tell by its time that
    /// there was nothing to check.
    pub(super) async fn pretend(&self) {
        tokio::time::sleep(Duration::from_nanos(self.typical.load(Ordering::Relaxed))).await;
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failed> {
        self.wait(1.0);
        let permit = self.permits.clone().acquire_owned().await;
        self.wait(-1.0);
        // The permit goes with the work, which goes on if its caller does not: no more than that run at a time.
        let permit = permit.map_err(|_| Failed)?;
        let work = move || {
            let result = work();
            drop(permit);
            result
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, "a password could not be hashed or checked");
            Failed
        })
    }

    fn wait(&self, change: f64) {
        self.waiting.increment(change);
        #[cfg(test)]
        self.counts.waiting.fetch_add(change as i64 as u64, Ordering::SeqCst);
    }

    /// Returns how many passwords wait to be hashed or checked.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> u64 {
        self.counts.waiting.load(Ordering::SeqCst)
    }

    /// Returns how many passwords were checked.
    #[cfg(test)]
    pub(super) fn checks(&self) -> u64 {
        self.counts.checks.load(Ordering::SeqCst)
    }

    /// Lets checks seem to take that long.
    #[cfg(test)]
    pub(super) fn seem(&self, typical: Duration) {
        self.typical.store(as_nanos(typical), Ordering::Relaxed);
    }

    /// Keeps all passwords waiting until the guard is dropped.
    #[cfg(test)]
    pub(super) async fn hold(&self) -> tokio::sync::OwnedSemaphorePermit {
        let all = u32::try_from(self.parallel).unwrap();
        self.permits.clone().acquire_many_owned(all).await.unwrap()
    }
}

fn as_nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: PasswordCost = PasswordCost { memory: 8, passes: 1, lanes: 1 };

    fn passwords(cost: PasswordCost) -> Passwords {
        Passwords::new(cost, Clock::system()).unwrap()
    }

    #[tokio::test]
    async fn a_password_is_that_of_its_hash_and_of_no_other() {
        let passwords = passwords(CHEAP);
        let one = passwords.hash(Secret::new("one")).await.unwrap();
        let two = passwords.hash(Secret::new("two")).await.unwrap();
        let hashes = || vec![one.clone(), two.clone()];
        assert_eq!(passwords.verify(hashes(), Secret::new("one")).await, Ok(true));
        assert_eq!(passwords.verify(hashes(), Secret::new("two")).await, Ok(true));
        assert_eq!(passwords.verify(hashes(), Secret::new("three")).await, Ok(false));
        assert_eq!(passwords.verify(vec![one], Secret::new("two")).await, Ok(false));
        assert_eq!(passwords.verify(vec![], Secret::new("two")).await, Ok(false));
        let unreadable = vec![PasswordHashText("?".to_owned())];
        assert_eq!(passwords.verify(unreadable, Secret::new("?")).await, Ok(false));
    }

    #[tokio::test]
    async fn a_password_is_hashed_at_the_cost_that_was_chosen() {
        let text = |hash: &PasswordHashText| hash.0.clone();
        let default = passwords(PasswordCost::default()).hash(Secret::new("p")).await.unwrap();
        assert!(text(&default).starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let cheap = passwords(CHEAP);
        let one = cheap.hash(Secret::new("p")).await.unwrap();
        let other = cheap.hash(Secret::new("p")).await.unwrap();
        assert!(text(&one).starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
        assert!(text(&one) != text(&other), "each hash has a salt of its own");
        assert_eq!(format!("{one:?}"), "***");
        // A hash of one cost is checked by a pool of another.
        assert_eq!(cheap.verify(vec![default], Secret::new("p")).await, Ok(true));
    }

    #[test]
    fn an_impossible_cost_is_refused() {
        let cost = PasswordCost { memory: 0, passes: 1, lanes: 1 };
        assert!(Passwords::new(cost, Clock::system()).is_err());
    }
}
