//! Logins of devices.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::Row;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Shared;
use super::cache::{Epoch, Tag};
use super::credential::Kept;
use super::error::RegistryError;
use super::meters::Meters;
use super::spec::MAX_PASSWORD;
use super::store;
use super::token::{self, Digest};
use crate::auth::{AuthError, Login};
use crate::id::DeviceKey;

/// How many different logins of one device are checked at a time: whoever guesses at one device occupies that much.
const MAX_CHECKS_OF_DEVICE: usize = 16;

type Verdict = Result<(), AuthError>;

/// The logins that are being checked.
pub(super) struct Logins {
    pending: Arc<Semaphore>,
    checks: Mutex<HashMap<DeviceKey, Vec<Check>>>,
    meters: Meters,
}

/// A check that is under way. Whoever presents the same login meanwhile waits for its verdict.
#[derive(Debug)]
struct Check {
    tag: Tag,
    epoch: Epoch,
    verdict: watch::Receiver<Option<Verdict>>,
}

impl Logins {
    pub(super) fn new(max_pending: usize) -> Self {
        Self {
            pending: Arc::new(Semaphore::new(max_pending.min(Semaphore::MAX_PERMITS))),
            checks: Mutex::default(),
            meters: Meters::new(),
        }
    }

    /// Admits one more that waits for the store or for a password to be checked, if there are not too many.
    pub(super) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        self.pending.clone().try_acquire_owned().ok()
    }

    fn checks(&self) -> MutexGuard<'_, HashMap<DeviceKey, Vec<Check>>> {
        // Each change under this lock is one call that leaves the map whole, so poisoning tells nothing.
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, device: &DeviceKey, tag: Tag, epoch: Epoch) {
        let mut checks = self.checks();
        if let Some(of_device) = checks.get_mut(device) {
            of_device.retain(|check| check.tag != tag || check.epoch != epoch);
            if of_device.is_empty() {
                checks.remove(device);
            }
        }
    }
}

/// Takes a check off the list, however it ends.
struct UnderWay {
    shared: Arc<Shared>,
    device: DeviceKey,
    tag: Tag,
    epoch: Epoch,
    _permit: OwnedSemaphorePermit,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.shared.logins.end(&self.device, self.tag, self.epoch);
    }
}

impl Shared {
    pub(super) async fn authenticate(self: &Arc<Self>, login: &Login) -> Verdict {
        let verdict = self.judge(login).await;
        self.logins.meters.login(&verdict);
        verdict
    }

    async fn judge(self: &Arc<Self>, login: &Login) -> Verdict {
        if login.secret.expose().len() > MAX_PASSWORD {
            return Err(AuthError::Denied);
        }
        let (tag, epoch) = (self.cache.tag(login), self.cache.epoch(&login.device));
        if self.cache.is_verified(&tag, epoch) {
            self.logins.meters.cache_hit();
            return Ok(());
        }
        let mut verdict = self.check(login, tag, epoch)?;
        match verdict.wait_for(Option::is_some).await {
            Ok(verdict) => verdict.clone().unwrap_or(Err(AuthError::Unavailable)),
            // The check ended without a verdict.
            Err(_) => Err(AuthError::Unavailable),
        }
    }

    /// Joins the check of the same login in the same epoch, or begins one.
    fn check(
        self: &Arc<Self>,
        login: &Login,
        tag: Tag,
        epoch: Epoch,
    ) -> Result<watch::Receiver<Option<Verdict>>, AuthError> {
        let mut checks = self.logins.checks();
        let of_device = checks.get(&login.device).map_or(&[][..], Vec::as_slice);
        if let Some(check) = of_device.iter().find(|check| check.tag == tag && check.epoch == epoch) {
            return Ok(check.verdict.clone());
        }
        if of_device.len() >= MAX_CHECKS_OF_DEVICE {
            return Err(AuthError::Busy);
        }
        let permit = self.logins.admit().ok_or(AuthError::Busy)?;
        let (sender, verdict) = watch::channel(None);
        checks.entry(login.device.clone()).or_default().push(Check { tag, epoch, verdict: verdict.clone() });
        drop(checks);
        let under_way =
            UnderWay { shared: self.clone(), device: login.device.clone(), tag, epoch, _permit: permit };
        let login = login.clone();
        self.home.spawn(async move {
            let result = under_way.shared.verify(&login, tag, epoch).await;
            drop(under_way);
            sender.send_replace(Some(result));
        });
        Ok(verdict)
    }

    /// Checks a login against the store.
    async fn verify(&self, login: &Login, tag: Tag, epoch: Epoch) -> Verdict {
        let kept = store::in_time(self.credentials(&login.device)).await;
        let kept = kept.map_err(|_| AuthError::Unavailable)?;
        if token::is_token(&login.secret) && has_token(&kept, &Digest::of(&login.secret)) {
            self.cache.remember_verified(tag, epoch);
            return Ok(());
        }
        let hashes: Vec<_> = kept
            .into_iter()
            .filter_map(|kept| match kept {
                Kept::Password(hash) => Some(hash),
                Kept::Token(_) => None,
            })
            .collect();
        if hashes.is_empty() || self.cache.is_refused(&tag, epoch) {
            self.passwords.pretend().await;
            return Err(AuthError::Denied);
        }
        match self.passwords.verify(hashes, login.secret.clone()).await {
            Ok(true) => {
                self.cache.remember_verified(tag, epoch);
                Ok(())
            }
            Ok(false) => {
                self.cache.remember_refused(tag, epoch);
                Err(AuthError::Denied)
            }
            Err(_) => Err(AuthError::Unavailable),
        }
    }

    /// Returns what a device may log in with: nothing, if it does not exist or is disabled.
    async fn credentials(&self, device: &DeviceKey) -> Result<Vec<Kept>, RegistryError> {
        let row =
            sqlx::query("SELECT enabled, credentials FROM devices WHERE application = $1 AND name = $2")
                .bind(device.application())
                .bind(device.device())
                .fetch_optional(self.store.pool())
                .await?;
        match row {
            Some(row) if row.try_get::<i64, _>(0)? != 0 => store::from_json(row.try_get(1)?),
            Some(_) | None => Ok(Vec::new()),
        }
    }
}

fn has_token(kept: &[Kept], digest: &Digest) -> bool {
    kept.iter().any(|kept| match kept {
        Kept::Token(known) => known.matches(digest),
        Kept::Password(_) => false,
    })
}
