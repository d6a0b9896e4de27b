//! What this replica posted and waits to be pushed.
//!
//! A channel that keeps nothing may say that it has an event before anybody got it. Where this replica is subscribed to the
//! channel itself, an event counts as taken once it has come here: from then on it is read in its order.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::channel::Channel;
use crate::event::{Event, Foreign};

type Identity = (Channel, (String, String));

/// Events that are on their way through a channel back to this replica.
#[derive(Default)]
pub(super) struct Echoes {
    channels: Vec<Channel>,
    awaited: Mutex<HashMap<Identity, watch::Sender<bool>>>,
}

/// Waits for one event. Dropping it forgets the event.
pub(super) struct Echo<'a> {
    echoes: &'a Echoes,
    identity: Identity,
    came: watch::Receiver<bool>,
}

impl Echoes {
    /// Waits for events of the channels to which this replica is subscribed, and of no others.
    pub(super) fn of(channels: Vec<Channel>) -> Self {
        Self { channels, awaited: Mutex::default() }
    }

    /// Begins to wait for an event, if it is to come.
    pub(super) fn expect(&self, channel: Channel, event: &Event) -> Option<Echo<'_>> {
        if !self.channels.contains(&channel) {
            return None;
        }
        let identity = (channel, (event.source().into_owned(), event.id.to_string()));
        let (sender, came) = watch::channel(false);
        self.lock().insert(identity.clone(), sender);
        Some(Echo { echoes: self, identity, came })
    }

    /// Takes note of an event that has come.
    pub(super) fn came(&self, channel: Channel, event: &Foreign) {
        if let Some(sender) = self.lock().remove(&(channel, event.identity())) {
            sender.send_replace(true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, watch::Sender<bool>>> {
        // Held for one operation of the map.
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Echo<'_> {
    /// Waits until the event has come.
    pub(super) async fn wait(&mut self) {
        // The sender stays until the event has come, or this is dropped.
        self.came.wait_for(|came| *came).await.ok();
    }
}

impl Drop for Echo<'_> {
    fn drop(&mut self) {
        self.echoes.lock().remove(&self.identity);
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::future::FutureExt as _;

    use super::*;
    use crate::event::example;
    use crate::process::Shutdown;

    #[tokio::test]
    async fn an_event_is_waited_for_until_it_comes() {
        let event = example();
        let foreign = Foreign::from_json(&serde_json::to_vec(&event).unwrap()).unwrap();
        let echoes = Echoes::of(vec![Channel::Commands]);
        assert!(echoes.expect(Channel::Telemetry, &event).is_none());
        let mut echo = echoes.expect(Channel::Commands, &event).unwrap();
        echoes.came(Channel::Outcomes, &foreign);
        let gone = Shutdown::new();
        gone.cancel();
        assert!(echo.wait().with_cancellation_token(&gone).await.is_none());
        echoes.came(Channel::Commands, &foreign);
        echo.wait().await;
        drop(echo);
        drop(echoes.expect(Channel::Commands, &event));
        assert!(echoes.lock().is_empty());
    }
}
