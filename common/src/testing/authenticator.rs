//! A registry of devices in memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::BoxFuture;
use crate::auth::{AuthError, Authenticator, Change, ChangeObserver, Login};
use crate::id::DeviceKey;

/// Knows the devices that it was told of. Clones share one state.
#[derive(Clone, Default)]
pub struct StaticAuthenticator {
    state: Arc<Mutex<State>>,
}

type Observer = Arc<dyn Fn(&Change) + Send + Sync>;

#[derive(Default)]
struct State {
    passwords: HashMap<DeviceKey, String>,
    observers: Vec<Observer>,
    failure: Option<AuthError>,
}

impl StaticAuthenticator {
    /// Makes a registry without devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a device, or changes its password, and tells the observers.
    pub fn set(&self, device: &DeviceKey, password: &str) {
        self.lock().passwords.insert(device.clone(), password.to_owned());
        self.notify(&Change::Device(device.clone()));
    }

    /// Deletes a device and tells the observers.
    pub fn remove(&self, device: &DeviceKey) {
        self.lock().passwords.remove(device);
        self.notify(&Change::Device(device.clone()));
    }

    /// Fails all logins from now on, or no more.
    pub fn set_failure(&self, failure: Option<AuthError>) {
        self.lock().failure = failure;
    }

    fn notify(&self, change: &Change) {
        let observers = self.lock().observers.clone();
        observers.iter().for_each(|observer| observer(change));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authenticator for StaticAuthenticator {
    fn authenticate<'a>(&'a self, login: &'a Login) -> BoxFuture<'a, Result<(), AuthError>> {
        let state = self.lock();
        let known = state.passwords.get(&login.device).is_some_and(|it| it == login.secret.expose());
        let result = match &state.failure {
            Some(failure) => Err(failure.clone()),
            None if known => Ok(()),
            None => Err(AuthError::Denied),
        };
        drop(state);
        Box::pin(async { result })
    }

    fn observe(&self, observer: ChangeObserver) {
        self.lock().observers.push(observer.into());
    }
}

impl fmt::Debug for StaticAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticAuthenticator")
    }
}
