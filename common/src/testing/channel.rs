//! Channels in memory.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::BoxFuture;
use crate::channel::{
    Channel, Cursor, EventSink, EventSource, Flow, Partition, Place, PublishError, Record, RecordHandler,
    SourceError, Start, Subscription,
};
use crate::command::Command;
use crate::event::{COMMAND_TYPE, Event, Malformed};
use crate::service::Clock;

type Hook = Arc<dyn Fn(&MemoryChannel, Channel, &Event) + Send + Sync>;

/// All channels, in memory. Clones share one state.
///
/// An event is handed to the subscribers before [`EventSink::publish`] returns, and acknowledged at once unless
/// acknowledgements are held. What replicas say among themselves and of commands (records and outcomes) is acknowledged at
/// once, and no hook is called for it.
#[derive(Clone, Default)]
pub struct MemoryChannel {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    records: Vec<Stored>,
    subscribers: Vec<Subscriber>,
    next_subscriber: u64,
    hook: Option<Hook>,
    fail_next: Option<PublishError>,
    fail_all: Option<PublishError>,
    muted: Option<&'static str>,
    fail_subscribe: Option<SourceError>,
    held: Option<Vec<oneshot::Sender<Result<(), PublishError>>>>,
}

struct Stored {
    channel: Channel,
    key: Vec<u8>,
    event: Result<Event, Malformed>,
    position: usize,
}

struct Subscriber {
    id: u64,
    channels: Vec<Channel>,
    live: Arc<AtomicBool>,
    handler: Box<dyn RecordHandler>,
}

impl MemoryChannel {
    /// Makes empty channels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the events that a channel holds.
    pub fn events(&self, channel: Channel) -> Vec<Event> {
        let state = self.lock();
        let records = state.records.iter().filter(|record| record.channel == channel);
        records.filter_map(|record| record.event.clone().ok()).collect()
    }

    /// Puts a command into the channel, as an application would that is accepted now.
    pub fn send(&self, command: Command) {
        self.store(Channel::Commands, command.into_event(Clock::system().wall(), None));
    }

    /// Puts a record into a channel that somebody else wrote: it may be malformed, or not fit its key.
    pub fn put(&self, channel: Channel, key: &[u8], event: Result<Event, Malformed>) {
        let mut state = self.lock();
        let position = state.records.len() + 1;
        let stored = Stored { channel, key: key.to_vec(), event, position };
        state.subscribers.retain_mut(|subscriber| subscriber.take(&stored) == Flow::Continue);
        state.records.push(stored);
    }

    /// Calls `hook` for each event that is published, before it is acknowledged: an application that reacts at once.
    pub fn on_publish(&self, hook: impl Fn(&Self, Channel, &Event) + Send + Sync + 'static) {
        self.lock().hook = Some(Arc::new(hook));
    }

    /// Refuses the next event that is no record or outcome.
    pub fn fail_next(&self, error: PublishError) {
        self.lock().fail_next = Some(error);
    }

    /// Refuses all events from now on, or none any more.
    pub fn fail_all(&self, error: Option<PublishError>) {
        self.lock().fail_all = error;
    }

    /// Refuses events whose type begins like this from now on, or none any more.
    pub fn mute(&self, kind: Option<&'static str>) {
        self.lock().muted = kind;
    }

    /// Refuses subscriptions from now on, or none any more.
    pub fn fail_subscribe(&self, error: Option<SourceError>) {
        self.lock().fail_subscribe = error;
    }

    /// Holds acknowledgements back from now on. The events are in the channel all the same.
    pub fn hold(&self) {
        self.lock().held.get_or_insert_default();
    }

    /// Returns how many events wait for their acknowledgement.
    pub fn held(&self) -> usize {
        self.lock().held.as_ref().map_or(0, Vec::len)
    }

    /// Answers the acknowledgements that are held back, and holds none any more.
    pub fn release(&self, answer: Result<(), PublishError>) {
        for waiting in self.lock().held.take().into_iter().flatten() {
            // Whoever published may have gone; that is no concern of the channel.
            drop(waiting.send(answer.clone()));
        }
    }

    /// Interrupts all subscriptions, as an outage would: they are not live until [`MemoryChannel::resume`].
    pub fn interrupt(&self, error: &SourceError) {
        self.lock().subscribers.retain_mut(|subscriber| {
            subscriber.live.store(false, Ordering::Release);
            subscriber.handler.interrupted(error) == Flow::Continue
        });
    }

    /// Makes all subscriptions live again.
    pub fn resume(&self) {
        for subscriber in &self.lock().subscribers {
            subscriber.live.store(true, Ordering::Release);
        }
    }

    fn store(&self, channel: Channel, event: Event) {
        let key = event.device.as_str().as_bytes().to_vec();
        self.put(channel, &key, Ok(event));
    }

    /// Returns why the next event is refused.
    fn refusal(&self, event: &Event) -> Option<PublishError> {
        let mut state = self.lock();
        if state.muted.is_some_and(|kind| event.kind.starts_with(kind)) {
            return Some(PublishError::Unavailable("it is muted".into()));
        }
        let next = if is_internal(event) { None } else { state.fail_next.take() };
        next.or_else(|| state.fail_all.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whether an event is a record of replicas or trackers, or an outcome but for a reply, which a device sends.
fn is_internal(event: &Event) -> bool {
    let prefixes =
        ["io.drogue.connection.", "io.drogue.replica.", "io.drogue.tracker.", "io.drogue.command."];
    let is_sent = [COMMAND_TYPE, "io.drogue.command.replied.v1"].contains(&event.kind.as_ref());
    !is_sent && prefixes.iter().any(|prefix| event.kind.starts_with(prefix))
}

impl EventSink for MemoryChannel {
    fn publish(&self, channel: Channel, event: Event) -> BoxFuture<'static, Result<(), PublishError>> {
        if let Some(error) = self.refusal(&event) {
            return Box::pin(async { Err(error) });
        }
        let hook = self.lock().hook.clone();
        self.store(channel, event.clone());
        if is_internal(&event) {
            return Box::pin(async { Ok(()) });
        }
        if let Some(hook) = hook {
            hook(self, channel, &event);
        }
        let Some(held) = &mut self.lock().held else { return Box::pin(async { Ok(()) }) };
        let (acknowledge, acknowledged) = oneshot::channel();
        held.push(acknowledge);
        Box::pin(async {
            acknowledged.await.unwrap_or_else(|_| Err(PublishError::Unavailable("it is gone".into())))
        })
    }
}

impl EventSource for MemoryChannel {
    fn subscribe(
        &self,
        channels: &[Channel],
        start: Start,
        handler: Box<dyn RecordHandler>,
    ) -> BoxFuture<'_, Result<Subscription, SourceError>> {
        let channels = channels.to_vec();
        Box::pin(async move {
            let mut state = self.lock();
            if let Some(error) = &state.fail_subscribe {
                return Err(error.clone());
            }
            let end = state.records.len();
            let first = match start {
                Start::Latest => end,
                Start::Earliest => 0,
                Start::After(Cursor(text)) => text.parse().map_err(|_| SourceError::InvalidCursor)?,
            };
            let missed = state.records.get(first..).ok_or(SourceError::InvalidCursor)?;
            let live = Arc::new(AtomicBool::new(true));
            let mut subscriber = Subscriber { id: state.next_subscriber, channels, live, handler };
            let (id, live) = (subscriber.id, subscriber.live.clone());
            let goes_on = missed.iter().all(|record| subscriber.take(record) == Flow::Continue);
            state.next_subscriber += 1;
            if goes_on {
                state.subscribers.push(subscriber);
            }
            drop(state);
            let guard = Unsubscribe { channel: self.clone(), id };
            Ok(Subscription::new(live, guard).starting_at(Cursor(first.to_string())))
        })
    }

    fn cursor_behind(&self, places: &[(Channel, Vec<Option<Place>>)]) -> Result<Cursor, SourceError> {
        let lowest = places.iter().flat_map(|(_, places)| places).min().ok_or(SourceError::InvalidCursor)?;
        Ok(Cursor(lowest.unwrap_or_default().0.to_string()))
    }
}

impl Subscriber {
    fn take(&mut self, record: &Stored) -> Flow {
        if !self.channels.contains(&record.channel) {
            return Flow::Continue;
        }
        let flow = self.handler.record(record);
        if flow == Flow::Stop {
            self.live.store(false, Ordering::Release);
        }
        flow
    }
}

impl Record for Stored {
    fn channel(&self) -> Channel {
        self.channel
    }

    fn key(&self) -> &[u8] {
        &self.key
    }

    fn partition(&self) -> Partition {
        Partition(0)
    }

    fn place(&self) -> Place {
        Place(self.position as u64)
    }

    fn event(&self) -> Result<Event, Malformed> {
        self.event.clone()
    }

    fn cursor(&self) -> Cursor {
        Cursor(self.position.to_string())
    }
}

/// Ends a subscription when it is dropped.
struct Unsubscribe {
    channel: MemoryChannel,
    id: u64,
}

impl Drop for Unsubscribe {
    fn drop(&mut self) {
        self.channel.lock().subscribers.retain(|subscriber| subscriber.id != self.id);
    }
}

impl fmt::Debug for MemoryChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryChannel")
    }
}
