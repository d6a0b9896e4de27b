//! Who waits for what becomes of a command: requests, told as its outcomes are read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use common::id::EventId;
use common::outcome::{Reason, Reply, State, Transition};
use tokio::sync::watch;

/// What is known of a command by those who wait.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Progress {
    /// Its state.
    pub(crate) state: State,
    /// Why.
    pub(crate) reason: Option<Reason>,
    /// The device's reply, once it is there.
    pub(crate) reply: Option<Reply>,
}

type Teller = watch::Sender<Progress>;

/// All requests that wait, by command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watches(Arc<Mutex<HashMap<EventId, Weak<Teller>>>>);

impl Watches {
    /// Begins to watch a command: nothing that is read from now on is missed.
    pub(crate) fn begin(&self, command: EventId) -> Watch {
        let mut tellers = self.lock();
        let known = tellers.get(&command).and_then(Weak::upgrade);
        let teller = known.unwrap_or_else(|| {
            let accepted = Progress { state: State::Accepted, reason: None, reply: None };
            let teller = Arc::new(Teller::new(accepted));
            tellers.insert(command.clone(), Arc::downgrade(&teller));
            teller
        });
        drop(tellers);
        Watch { progress: teller.subscribe(), teller, command, watches: self.clone() }
    }

    /// Tells those who wait of an outcome that was read.
    pub(crate) fn tell(&self, outcome: &Transition) {
        if let Some(teller) = self.lock().get(&outcome.command).and_then(Weak::upgrade) {
            advance(&teller, outcome.state, outcome.reason, outcome.reply.as_ref());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EventId, Weak<Teller>>> {
        // Nothing panics between two changes, so a poisoned map is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn advance(teller: &Teller, state: State, reason: Option<Reason>, reply: Option<&Reply>) {
    teller.send_if_modified(|progress| {
        let admitted = progress.state.admits(state);
        if admitted {
            *progress = Progress { state, reason, reply: reply.cloned() };
        }
        admitted
    });
}

/// A request that waits. Dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Watch {
    progress: watch::Receiver<Progress>,
    teller: Arc<Teller>,
    command: EventId,
    watches: Watches,
}

impl Watch {
    /// Takes what is known from elsewhere.
    pub(crate) fn learn(&self, state: State, reason: Option<Reason>) {
        advance(&self.teller, state, reason, None);
    }

    /// Returns what is known once it satisfies a condition.
    pub(crate) async fn until(&mut self, mut known: impl FnMut(&Progress) -> bool) -> Progress {
        match self.progress.wait_for(|progress| known(progress)).await {
            Ok(progress) => progress.clone(),
            // The teller lives as long as this does.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut tellers = self.watches.lock();
        if Arc::strong_count(&self.teller) == 1
            && let Entry::Occupied(entry) = tellers.entry(self.command.clone())
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use common::event::COMMAND_TYPE;
    use common::id::DeviceKey;
    use common::time::Timestamp;

    use super::*;

    fn outcome(state: State) -> Transition {
        Transition {
            command: "c".parse().unwrap(),
            device: DeviceKey::from_bytes(b"a/d").unwrap(),
            name: "n".parse().unwrap(),
            attempt: 1,
            state,
            reason: None,
            confirmation: None,
            time: Timestamp::from_millis(0),
            cause: COMMAND_TYPE.parse().unwrap(),
            reply: None,
        }
    }

    #[tokio::test]
    async fn who_waits_hears_what_counts() {
        let watches = Watches::default();
        let (mut one, mut other) = (watches.begin("c".parse().unwrap()), watches.begin("c".parse().unwrap()));
        watches.tell(&outcome(State::Delivered));
        // Of two final states the first counts.
        watches.tell(&outcome(State::Undelivered));
        assert_eq!(one.until(|progress| progress.state.is_settled()).await.state, State::Delivered);
        watches.tell(&outcome(State::Replied));
        assert_eq!(other.until(|progress| progress.state != State::Delivered).await.state, State::Replied);
        drop((one, other));
        assert!(watches.lock().is_empty(), "nothing is left behind");
    }
}
