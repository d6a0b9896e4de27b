//! The registry: applications, devices, credentials and tokens, in SQLite or PostgreSQL.
//!
//! A login is looked for among the verified ones first ([`Authenticator::authenticate`]), which costs neither SQL nor
//! argon2. Else its device's row is read: a token is compared with its digest, a password is checked on a blocking
//! thread, and the same login at the same time is checked once. A write counts up the number of writes, changes
//! rows, commits, makes what was remembered of the device worthless, and tells the observers; other processes read the
//! changes from the database twice a second, and where it is PostgreSQL, as soon as it tells them that there are some.
//!
//! All of this runs on the runtime that [`Registry::open`] was called on, wherever it is called from: the pool's
//! timers live there, and what was begun ends there although its caller has gone.
//!
//! Invariants: a secret goes in and never comes out, except for a token, once; what cannot be checked is refused, and
//! as unavailable, not as wrong; what was found before a change is not believed after it; nothing of the store's
//! address is shown but where the store is.
//!
//! An id is no secret. Yet a login that is refused without argon2, because there is no such device or it has no
//! password, is answered as late as one with it: by a timer, so that to ask for devices that do not exist costs the
//! registry a look-up and no core. Under load the two can be told apart.

mod address;
mod applications;
mod cache;
mod changes;
mod credential;
mod devices;
mod error;
mod logins;
mod meters;
mod model;
mod news;
mod passwords;
mod postgres;
mod settings;
mod spec;
mod sqlite;
pub(crate) mod store;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod tokens;
pub(crate) mod work;
mod write;

use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;

pub use address::check_address;
pub use error::RegistryError;
pub use model::{Application, Device, Grant, InvalidScope, Labels, Put, PutDevice, Scope, Token, TokenId};
pub use passwords::hash_password;
pub use settings::{MIN_ADMIN_TOKEN, PasswordCost, RegistrySettings};
pub use spec::{
    ApplicationSpec, InvalidCredential, InvalidSpec, MAX_CREDENTIALS, MAX_DESCRIPTION, MAX_HASH_LANES,
    MAX_HASH_MEMORY, MAX_HASH_WORK, MAX_LABEL_KEY, MAX_LABEL_VALUE, MAX_LABELS, MAX_PASSWORD,
};
pub use sqlite::sqlite_url;
pub use token::generate as generate_token;
pub use tokens::MAX_TOKENS;

use crate::BoxFuture;
use crate::auth::{AuthError, Authenticator, ChangeObserver, Login};
use crate::process::new_event_id;
use cache::Cache;
use changes::Observers;
use logins::Logins;
use passwords::Passwords;
use store::Store;
use tokens::Operator;

/// The registry. Clones share one state.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

/// What all clones share.
struct Shared {
    home: Handle,
    store: Arc<Store>,
    cache: Cache,
    logins: Logins,
    passwords: Passwords,
    operator: Option<Operator>,
    observers: Observers,
    settings: RegistrySettings,
}

impl Registry {
    /// Opens the registry at `url`, and makes its tables or brings them up to date.
    ///
    /// `sqlite://PATH` is percent-encoded; [`sqlite_url`] makes one of a path. A missing file is made.
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE` has the parameters of libpq that [`check_address`] knows; the
    /// database must be there, in UTF-8.
    ///
    /// Must be called on the runtime that is to do the work; it should have several threads.
    ///
    /// # Errors
    /// Fails if the address has another form, the database cannot be opened, or an option has no good value.
    pub async fn open(url: &str, settings: RegistrySettings) -> Result<Self, RegistryError> {
        let shared = Self::assemble(url, settings).await?;
        changes::follow(&shared).await?;
        Ok(Self { shared })
    }

    /// Opens the registry without following what other processes change.
    async fn assemble(url: &str, settings: RegistrySettings) -> Result<Arc<Shared>, RegistryError> {
        settings.check()?;
        let failed =
            |reason: &str| RegistryError::Open { url: address::shown(url), reason: reason.to_owned() };
        let home = Handle::try_current().map_err(|_| failed("there is no tokio runtime"))?;
        let passwords = Passwords::new(settings.password_cost, settings.clock.clone())
            .map_err(|error| RegistryError::PasswordCost(error.to_string()))?;
        let cache =
            Cache::new(settings.max_cached).map_err(|_| failed("the system has no random numbers"))?;
        let origin = new_event_id(settings.clock.wall()).to_string();
        Ok(Arc::new(Shared {
            home,
            store: Arc::new(Store::open(url, origin).await?),
            logins: Logins::new(settings.max_pending_logins),
            passwords,
            operator: settings.admin_token.as_ref().map(|token| Operator::new(&cache, token)),
            cache,
            observers: Observers::default(),
            settings,
        }))
    }

    /// Runs work on the home runtime: to its end, or as long as the store may take.
    async fn at_home<T, F>(&self, work: impl FnOnce(Arc<Shared>) -> F) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RegistryError>> + Send + 'static,
    {
        self.at_home_at_length(|shared| store::in_time(work(shared))).await
    }

    /// Runs work on the home runtime, to its end. It must not wait for the store without a limit.
    async fn at_home_at_length<T, F>(&self, work: impl FnOnce(Arc<Shared>) -> F) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RegistryError>> + Send + 'static,
    {
        store::run(&self.shared.home, work(self.shared.clone())).await
    }

    /// Returns the store, and the runtime that it must be used on, for others who keep something there.
    pub(crate) fn store(&self) -> (Handle, Arc<Store>) {
        (self.shared.home.clone(), self.shared.store.clone())
    }
}

impl Authenticator for Registry {
    fn authenticate<'a>(&'a self, login: &'a Login) -> BoxFuture<'a, Result<(), AuthError>> {
        Box::pin(self.shared.authenticate(login))
    }

    fn observe(&self, observer: ChangeObserver) {
        self.shared.observers.add(observer);
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("store", &self.shared.store).finish_non_exhaustive()
    }
}
