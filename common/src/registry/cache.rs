//! What is remembered of the store, and how it is forgotten at once.
//!
//! Whatever is remembered carries the epoch in which its check began. A change moves its device's epoch on after it
//! was committed: what was remembered before, and what a check finds that began before, is then worthless, without
//! being looked for. Devices share epochs by a hash: a change makes a few others be looked up anew, no more.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::sync::Cache as Moka;
use ring::error::Unspecified;
use ring::hmac;
use ring::rand::SystemRandom;

use super::model::Grant;
use crate::auth::{Change, Login, Secret};
use crate::id::DeviceKey;

const SLOTS: usize = 1 << 16;
/// How long a grant is remembered: a token that was revoked by another process is refused after that.
const GRANT_LIFETIME: Duration = Duration::from_secs(1);
const MAX_GRANTS: u64 = 10_000;
/// The most refused logins that are remembered; apart from the verified ones, which they cannot push out.
const MAX_REFUSED: u64 = 10_000;

/// A keyed hash of a secret and whose it is. The key is this process's and never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tag([u8; 32]);

impl Tag {
    pub(super) fn into_bytes(self) -> [u8; 32] {
        self.0
    }
}

/// When, by the count of changes, something was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch {
    device: u64,
    application: u64,
}

/// What is remembered of the store.
pub(super) struct Cache {
    key: hmac::Key,
    hasher: RandomState,
    epochs: Box<[AtomicU64]>,
    token_epoch: AtomicU64,
    verified: Moka<Tag, Epoch>,
    refused: Moka<Tag, Epoch>,
    devices: Moka<DeviceKey, Epoch>,
    grants: Moka<Tag, (Grant, u64)>,
}

impl Cache {
    /// # Errors
    /// Fails if the system has no random numbers.
    pub(super) fn new(capacity: u64) -> Result<Self, Unspecified> {
        Ok(Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?,
            hasher: RandomState::new(),
            epochs: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            token_epoch: AtomicU64::new(0),
            verified: Moka::new(capacity),
            refused: Moka::new(MAX_REFUSED),
            devices: Moka::new(capacity),
            grants: Moka::builder().max_capacity(MAX_GRANTS).time_to_live(GRANT_LIFETIME).build(),
        })
    }

    /// Returns the tag of a login.
    pub(super) fn tag(&self, login: &Login) -> Tag {
        self.sign(&[login.device.as_str(), "\0", login.secret.expose()])
    }

    /// Returns the tag of a token that stands for itself.
    pub(super) fn bearer_tag(&self, bearer: &Secret) -> Tag {
        self.sign(&["\0", bearer.expose()])
    }

    fn sign(&self, parts: &[&str]) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        parts.iter().for_each(|part| context.update(part.as_bytes()));
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        Tag(tag)
    }

    /// Returns the present epoch of a device. Read it before what is to be remembered is looked up.
    pub(super) fn epoch(&self, device: &DeviceKey) -> Epoch {
        let value = |name: &str| self.slot(name).load(Ordering::SeqCst);
        Epoch { device: value(device.as_str()), application: value(device.application()) }
    }

    /// Tells whether the login was found right, and nothing has changed since.
    pub(super) fn is_verified(&self, tag: &Tag, now: Epoch) -> bool {
        self.verified.get(tag) == Some(now)
    }

    pub(super) fn remember_verified(&self, tag: Tag, began: Epoch) {
        self.verified.insert(tag, began);
    }

    /// Tells whether the password was found wrong, and nothing has changed since.
    pub(super) fn is_refused(&self, tag: &Tag, now: Epoch) -> bool {
        self.refused.get(tag) == Some(now)
    }

    pub(super) fn remember_refused(&self, tag: Tag, began: Epoch) {
        self.refused.insert(tag, began);
    }

    /// Tells whether the device is known to exist. One that is not known may exist.
    pub(super) fn is_device(&self, device: &DeviceKey) -> bool {
        self.devices.get(device) == Some(self.epoch(device))
    }

    pub(super) fn remember_device(&self, device: DeviceKey, began: Epoch) {
        self.devices.insert(device, began);
    }

    /// Returns the present epoch of all tokens.
    pub(super) fn token_epoch(&self) -> u64 {
        self.token_epoch.load(Ordering::SeqCst)
    }

    pub(super) fn grant(&self, bearer: &Tag) -> Option<Grant> {
        let now = self.token_epoch();
        self.grants.get(bearer).filter(|(_, began)| *began == now).map(|(grant, _)| grant)
    }

    pub(super) fn remember_grant(&self, bearer: Tag, grant: Grant, began: u64) {
        self.grants.insert(bearer, (grant, began));
    }

    /// Forgets what a change has made doubtful. Called after the change was committed.
    pub(super) fn forget(&self, change: &Change) {
        let name = match change {
            Change::Device(device) => device.as_str(),
            Change::Application(application) => {
                self.forget_tokens();
                application.as_str()
            }
        };
        self.slot(name).fetch_add(1, Ordering::SeqCst);
    }

    /// Forgets what is known of tokens.
    pub(super) fn forget_tokens(&self) {
        self.token_epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Forgets everything.
    pub(super) fn forget_all(&self) {
        self.forget_tokens();
        for epoch in &self.epochs {
            epoch.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Returns the epoch's place: a device's key has a slash, an application's name has none.
    fn slot(&self, name: &str) -> &AtomicU64 {
        // The hash has a key of its own, so nobody can choose names that collide with those of others.
        &self.epochs[self.hasher.hash_one(name) as usize % SLOTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(device: &str, secret: &str) -> Login {
        Login { device: key(device), secret: Secret::new(secret) }
    }

    fn key(device: &str) -> DeviceKey {
        DeviceKey::from_bytes(device.as_bytes()).unwrap()
    }

    fn cache() -> Cache {
        Cache::new(100).unwrap()
    }

    #[test]
    fn a_tag_is_of_one_device_one_secret_and_one_process() {
        let cache = cache();
        let tag = cache.tag(&login("a/d", "x"));
        assert_eq!(tag, cache.tag(&login("a/d", "x")));
        assert_ne!(tag, cache.tag(&login("a/d", "y")));
        assert_ne!(tag, cache.tag(&login("a/e", "x")));
        assert_ne!(tag, super::Cache::new(1).unwrap().tag(&login("a/d", "x")));
        assert_ne!(cache.bearer_tag(&Secret::new("x")), tag);
    }

    #[test]
    fn a_change_outdates_what_was_found_before_it_and_what_began_before_it() {
        let cache = cache();
        let tag = cache.tag(&login("a/d", "x"));
        for change in [Change::Device(key("a/d")), Change::Application("a".parse().unwrap())] {
            let began = cache.epoch(&key("a/d"));
            cache.remember_verified(tag, began);
            cache.remember_refused(tag, began);
            cache.remember_device(key("a/d"), began);
            let now = cache.epoch(&key("a/d"));
            assert!(
                cache.is_verified(&tag, now) && cache.is_refused(&tag, now) && cache.is_device(&key("a/d"))
            );
            cache.forget(&change);
            // A check that began before the change ends after it.
            for _ in 0..2 {
                let now = cache.epoch(&key("a/d"));
                assert!(!cache.is_verified(&tag, now), "{change:?}");
                assert!(!cache.is_refused(&tag, now) && !cache.is_device(&key("a/d")));
                cache.remember_verified(tag, began);
                cache.remember_refused(tag, began);
                cache.remember_device(key("a/d"), began);
            }
        }
    }

    #[test]
    fn one_change_leaves_the_others_alone() {
        let cache = cache();
        let names: Vec<String> = (0..100).map(|i| format!("a/d{i}")).collect();
        let before: Vec<Epoch> = names.iter().map(|name| cache.epoch(&key(name))).collect();
        cache.forget(&Change::Device(key("a/d0")));
        let moved =
            names.iter().zip(before).filter(|(name, before)| cache.epoch(&key(name)) != *before).count();
        assert!((1..=3).contains(&moved), "{moved}");
    }

    #[test]
    fn grants_are_forgotten_with_any_token_and_any_application() {
        let cache = cache();
        let bearer = cache.bearer_tag(&Secret::new("x"));
        let forget: [&dyn Fn(); 3] = [&|| cache.forget_tokens(), &|| cache.forget_all(), &|| {
            cache.forget(&Change::Application("a".parse().unwrap()))
        }];
        for forget in forget {
            let began = cache.token_epoch();
            cache.remember_grant(bearer, Grant::Operator, began);
            assert_eq!(cache.grant(&bearer), Some(Grant::Operator));
            forget();
            assert_eq!(cache.grant(&bearer), None);
            cache.remember_grant(bearer, Grant::Operator, began);
            assert_eq!(cache.grant(&bearer), None);
        }
    }

    #[test]
    fn to_forget_all_is_to_forget_each() {
        let cache = cache();
        let tag = cache.tag(&login("a/d", "x"));
        cache.remember_verified(tag, cache.epoch(&key("a/d")));
        cache.forget_all();
        assert!(!cache.is_verified(&tag, cache.epoch(&key("a/d"))));
    }
}
