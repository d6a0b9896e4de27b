//! A double of the cluster: it knows tokens and rights, counts who asks, and fails when told to.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use common::BoxFuture;
use common::auth::Secret;

use crate::access::{Action, Identity, Reviewer, Right, Unreviewed};

/// A cluster. Clones share its state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Who bears which token.
    pub(crate) bearers: HashMap<String, Identity>,
    /// Which user has which rights.
    pub(crate) rights: HashSet<(String, Right)>,
    /// How it answers.
    pub(crate) mood: Mood,
    /// How often it was asked for a token, and for a right.
    pub(crate) asked: (usize, usize),
}

/// How a cluster answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mood {
    #[default]
    Well,
    After(Duration),
    Not,
    Never,
}

impl Cluster {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Lets a user have a token.
    pub(crate) fn know(&self, user: &str, token: &str) {
        let identity = Identity { user: user.to_owned(), ..Identity::default() };
        self.state().bearers.insert(token.to_owned(), identity);
    }

    /// Gives a user a right.
    pub(crate) fn bind(&self, user: &str, right: Right) {
        self.state().rights.insert((user.to_owned(), right));
    }

    fn mood(&self) -> Mood {
        self.state().mood
    }

    async fn answer<T>(&self, answer: T) -> Result<T, Unreviewed> {
        match self.mood() {
            Mood::Well => Ok(answer),
            Mood::After(time) => {
                tokio::time::sleep(time).await;
                Ok(answer)
            }
            Mood::Not => Err(Unreviewed("the cluster is down".to_owned())),
            Mood::Never => pending().await,
        }
    }
}

/// The right to command a device.
pub(crate) fn command(namespace: &str, device: &str) -> Right {
    Right { namespace: namespace.to_owned(), action: Action::Command(device.parse().unwrap()) }
}

/// The right to see an application's resource.
pub(crate) fn see(namespace: &str, application: &str) -> Right {
    Right { namespace: namespace.to_owned(), action: Action::SeeApplication(application.to_owned()) }
}

impl Reviewer for Cluster {
    fn identify<'a>(&'a self, token: &'a Secret) -> BoxFuture<'a, Result<Option<Identity>, Unreviewed>> {
        let mut state = self.state();
        state.asked.0 += 1;
        let found = state.bearers.get(token.expose()).cloned();
        drop(state);
        Box::pin(self.answer(found))
    }

    fn allows<'a>(
        &'a self,
        identity: &'a Identity,
        right: &'a Right,
    ) -> BoxFuture<'a, Result<bool, Unreviewed>> {
        let mut state = self.state();
        state.asked.1 += 1;
        let allowed = state.rights.contains(&(identity.user.clone(), right.clone()));
        drop(state);
        Box::pin(self.answer(allowed))
    }
}
