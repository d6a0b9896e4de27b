//! The registry as a whole: what its parts do together, on a real file, and on a real server where there is one.

pub(crate) mod database;
mod devices;
mod logins;
mod postgres;
mod processes;
mod proxy;
mod secrets;
mod tls;
mod tokens;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use database::{Database, on_each_store, on_postgres};

use super::*;
use crate::auth::{Change, Secret};
use crate::device::{Credential, DeviceSpec};
use crate::id::{AppId, DeviceId, DeviceKey};
use crate::testing::{PATIENCE, eventually, eventually_async};

/// A registry of its own, with the application `a`, in a database that goes when the test ends.
struct Fixture {
    registry: Registry,
    database: Database,
}

impl std::ops::Deref for Fixture {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        &self.registry
    }
}

/// Passwords that cost next to nothing, and changes of other processes seen quickly.
pub(crate) fn settings() -> RegistrySettings {
    RegistrySettings {
        password_cost: PasswordCost { memory: 8, passes: 1, lanes: 1 },
        poll_interval: Duration::from_millis(20),
        ..RegistrySettings::default()
    }
}

async fn fixture_with(database: Database, settings: RegistrySettings) -> Fixture {
    let registry = database.open(settings).await;
    assert_eq!(registry.put_application(&app("a"), ApplicationSpec::default()).await, Ok(Put::Created));
    Fixture { registry, database }
}

async fn fixture(database: Database) -> Fixture {
    fixture_with(database, settings()).await
}

fn app(name: &str) -> AppId {
    name.parse().unwrap()
}

fn id(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn key(text: &str) -> DeviceKey {
    DeviceKey::from_bytes(text.as_bytes()).unwrap()
}

fn password(text: &str) -> DeviceSpec {
    DeviceSpec { credentials: Some(vec![Credential::Password(Secret::new(text))]), ..DeviceSpec::default() }
}

fn new_token() -> DeviceSpec {
    DeviceSpec { credentials: Some(vec![Credential::Token(None)]), ..DeviceSpec::default() }
}

fn login(device: &str, secret: &str) -> Login {
    Login { device: key(device), secret: Secret::new(secret) }
}

/// Collects the changes that are observed.
fn observed(registry: &Registry) -> Arc<Mutex<Vec<Change>>> {
    let changes: Arc<Mutex<Vec<Change>>> = Arc::default();
    let observer = changes.clone();
    registry.observe(Box::new(move |change| observer.lock().unwrap().push(change.clone())));
    changes
}

fn taken(changes: &Mutex<Vec<Change>>) -> Vec<Change> {
    std::mem::take(&mut changes.lock().unwrap())
}
