//! What the registry counts.

use metrics::{Counter, counter};

use crate::auth::AuthError;

/// Counters that each login touches, looked up once.
#[derive(Debug)]
pub(super) struct Meters {
    accepted: Counter,
    denied: Counter,
    busy: Counter,
    unavailable: Counter,
    cache_hits: Counter,
}

impl Meters {
    pub(super) fn new() -> Self {
        let logins = |result: &'static str| counter!("drogue_logins_total", "result" => result);
        Self {
            accepted: logins("accepted"),
            denied: logins("denied"),
            busy: logins("busy"),
            unavailable: logins("unavailable"),
            cache_hits: counter!("drogue_login_cache_hits_total"),
        }
    }

    /// Counts a login by its result.
    pub(super) fn login(&self, result: &Result<(), AuthError>) {
        let counter = match result {
            Ok(()) => &self.accepted,
            Err(AuthError::Denied) => &self.denied,
            Err(AuthError::Busy) => &self.busy,
            Err(AuthError::Unavailable) => &self.unavailable,
        };
        counter.increment(1);
    }

    /// Counts a login that was known to be right.
    pub(super) fn cache_hit(&self) {
        self.cache_hits.increment(1);
    }
}
