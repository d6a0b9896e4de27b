//! What the controller remembers of the resources, by their uids. It may forget all of it at any time: it then asks and
//! writes again what is there already, which changes nothing and ends no session.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::link::Seen;
use super::passwords::Hashes;

/// What is remembered of all resources.
#[derive(Debug, Default)]
pub(super) struct Memory {
    known: Mutex<HashMap<String, Known>>,
}

/// What is remembered of a resource.
#[derive(Debug, Default)]
struct Known {
    applied: Option<Applied>,
    /// How often it was to be written anew.
    outdated: u64,
    hashes: Hashes,
    seen: Option<Seen>,
    failures: u32,
}

/// What was written to the registry, and when.
#[derive(Debug, Clone, Copy)]
struct Applied {
    generation: Option<i64>,
    at: Instant,
}

/// A resource that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    applied: Applied,
    outdated: u64,
}

impl Memory {
    /// Returns for how long a resource need not be written: `None` if it is new, has changed, or the period is over.
    pub(super) fn fresh_for(
        &self,
        uid: &str,
        generation: Option<i64>,
        now: Instant,
        period: Duration,
    ) -> Option<Duration> {
        let known = self.known();
        let applied = known.get(uid)?.applied.filter(|applied| applied.generation == generation)?;
        let age = now.saturating_duration_since(applied.at);
        (age < period).then(|| period - age)
    }

    /// Begins to write a resource.
    pub(super) fn writing(&self, uid: &str, generation: Option<i64>, at: Instant) -> Writing {
        let outdated = self.known().entry(uid.to_owned()).or_default().outdated;
        Writing { applied: Applied { generation, at }, outdated }
    }

    /// Notes that a resource was written. If it got outdated meanwhile, it may have been written as it was before.
    pub(super) fn written(&self, uid: &str, writing: &Writing) {
        self.change(uid, |known| {
            if known.outdated == writing.outdated {
                known.applied = Some(writing.applied);
            }
        });
    }

    /// Notes that a resource is to be written anew.
    pub(super) fn outdated(&self, uid: &str) {
        if let Some(known) = self.known().get_mut(uid) {
            known.applied = None;
            known.outdated += 1;
        }
    }

    /// Returns the hashes that were made for a device, and forgets them.
    pub(super) fn take_hashes(&self, uid: &str) -> Hashes {
        self.known().get_mut(uid).map(|known| std::mem::take(&mut known.hashes)).unwrap_or_default()
    }

    /// Notes the hashes that were made for a device.
    pub(super) fn keep_hashes(&self, uid: &str, hashes: Hashes) {
        self.change(uid, |known| known.hashes = hashes);
    }

    /// Returns what was seen of a device's connections, if nothing can have been missed since.
    pub(super) fn seen(&self, uid: &str) -> Option<Seen> {
        self.known().get(uid)?.seen.clone()
    }

    /// Notes what was seen of a device's connections.
    pub(super) fn see(&self, uid: &str, seen: Seen) {
        self.change(uid, |known| known.seen = Some(seen));
    }

    /// Notes that changes of a device's connections may have been missed.
    pub(super) fn unsee(&self, uid: &str) {
        if let Some(known) = self.known().get_mut(uid) {
            known.seen = None;
        }
    }

    /// Counts a failure, and returns how many there were in a row before it.
    pub(super) fn failed(&self, uid: &str) -> u32 {
        let mut known = self.known();
        let failures = &mut known.entry(uid.to_owned()).or_default().failures;
        let before = *failures;
        *failures = before.saturating_add(1);
        before
    }

    /// Notes a success.
    pub(super) fn succeeded(&self, uid: &str) {
        if let Some(known) = self.known().get_mut(uid) {
            known.failures = 0;
        }
    }

    /// Forgets a resource that is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.known().remove(uid);
    }

    fn change(&self, uid: &str, change: impl FnOnce(&mut Known)) {
        change(self.known().entry(uid.to_owned()).or_default());
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // Each change is whole by itself.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use common::process::Clock;

    use super::*;

    #[test]
    fn a_resource_is_written_when_it_is_new_has_changed_or_the_period_is_over() {
        let (memory, now) = (Memory::default(), Clock::system().instant());
        let period = Duration::from_secs(300);
        let fresh = |generation, after| {
            memory.fresh_for("u", Some(generation), now + Duration::from_secs(after), period)
        };
        assert_eq!(fresh(1, 0), None);
        memory.written("u", &memory.writing("u", Some(1), now));
        assert_eq!(fresh(1, 100), Some(Duration::from_secs(200)));
        assert_eq!((fresh(2, 100), fresh(1, 300)), (None, None));
        memory.outdated("u");
        assert_eq!(fresh(1, 0), None);
    }

    #[test]
    fn what_got_outdated_while_it_was_written_is_written_again() {
        let (memory, now) = (Memory::default(), Clock::system().instant());
        let writing = memory.writing("u", Some(1), now);
        memory.outdated("u");
        memory.written("u", &writing);
        assert_eq!(memory.fresh_for("u", Some(1), now, Duration::from_secs(300)), None);
    }

    #[test]
    fn failures_are_counted_until_a_success() {
        let memory = Memory::default();
        assert_eq!([memory.failed("u"), memory.failed("u")], [0, 1]);
        memory.succeeded("u");
        assert_eq!(memory.failed("u"), 0);
        memory.forget("u");
        assert_eq!(memory.failed("u"), 0);
    }
}
