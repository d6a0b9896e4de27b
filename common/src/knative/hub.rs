//! What a channel pushes, on its way to this replica's subscriptions.
//!
//! A channel waits for our answer, and may make others wait for it: an event is put into the queue of each subscription, whose
//! thread hands it to its handler. Of what comes again (deliveries are repeated until they are answered) the first counts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use metrics::counter;
use moka::sync::Cache;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::channel::{
    Channel, Cursor, Flow, LiveGuard, Partition, Place, Record, RecordHandler, SourceError, Subscription,
};
use crate::event::{Event, Foreign, Malformed};
use crate::time::Timestamp;

/// Events that may wait for a handler, and their bytes. What is beyond is a gap for that handler.
const QUEUE: usize = 16 << 10;
const QUEUE_BYTES: usize = 16 << 20;
/// For how long, and how many, ids are remembered to tell repetitions.
const MEMORY: Duration = Duration::from_secs(600);
const REMEMBERED: u64 = 100_000;

/// An event that a channel pushed.
#[derive(Debug)]
pub(super) struct Pushed {
    channel: Channel,
    key: String,
    place: Place,
    received: Timestamp,
    event: Arc<Foreign>,
}

impl Record for Pushed {
    fn channel(&self) -> Channel {
        self.channel
    }

    fn key(&self) -> &[u8] {
        self.key.as_bytes()
    }

    fn partition(&self) -> Partition {
        Partition(0)
    }

    /// Counts what this replica received: it is no place that anybody else knows.
    fn place(&self) -> Place {
        self.place
    }

    fn event(&self) -> Result<Event, Malformed> {
        self.event.judge(self.key.as_bytes(), self.received)
    }

    /// There is no position to resume from.
    fn cursor(&self) -> Cursor {
        Cursor(String::new())
    }
}

enum Item {
    Event(Arc<Pushed>),
    /// Events may have been missed.
    Gap,
    /// Nothing but a reason to look.
    Wake,
}

/// A subscription, as the hub knows it.
struct Seat {
    channels: Vec<Channel>,
    items: mpsc::Sender<Item>,
    load: Arc<Load>,
    live: Arc<AtomicBool>,
}

/// What waits for a handler.
#[derive(Default)]
struct Load {
    bytes: AtomicUsize,
    /// Something did not fit in.
    overflowed: AtomicBool,
}

/// Hands what is pushed to all subscriptions of this replica.
pub(super) struct Hub {
    state: Mutex<State>,
}

struct State {
    seats: Vec<Seat>,
    received: u64,
    seen: Cache<(Channel, (String, String)), ()>,
    live: bool,
}

impl Hub {
    pub(super) fn new() -> Self {
        let seen = Cache::builder().max_capacity(REMEMBERED).time_to_live(MEMORY).build();
        Self { state: Mutex::new(State { seats: Vec::new(), received: 0, seen, live: false }) }
    }

    /// Takes an event in. All subscriptions get what is taken in in the same order.
    pub(super) fn push(&self, channel: Channel, event: Arc<Foreign>, received: Timestamp) {
        let key = event.key().unwrap_or_default();
        let identity = (channel, event.identity());
        let mut state = self.lock();
        if !state.seen.entry(identity).or_insert(()).is_fresh() {
            counter!("drogue_knative_repetitions_total", "channel" => channel.as_str()).increment(1);
            return;
        }
        state.received += 1;
        let place = Place(state.received);
        let pushed = Arc::new(Pushed { channel, key, place, received, event });
        state.seats.retain(|seat| !seat.items.is_closed());
        for seat in state.seats.iter().filter(|seat| seat.channels.contains(&channel)) {
            seat.offer(pushed.clone());
        }
    }

    /// Says whether events arrive. If they do so again, all subscriptions are told of a gap.
    pub(super) fn set_live(&self, live: bool) {
        let mut state = self.lock();
        state.seats.retain(|seat| !seat.items.is_closed());
        let again = live && !state.live;
        state.live = live;
        for seat in &state.seats {
            if again {
                seat.tell_of_a_gap();
            }
            seat.set_live(live);
        }
    }

    /// Tells whether events arrive.
    pub(super) fn is_live(&self) -> bool {
        self.lock().live
    }

    /// Hands what is pushed from now on to a handler, on a thread of its own.
    pub(super) fn subscribe(
        &self,
        channels: Vec<Channel>,
        mut handler: Box<dyn RecordHandler>,
    ) -> Result<Subscription, SourceError> {
        let (items, queue) = mpsc::channel(QUEUE);
        let load = Arc::new(Load::default());
        let mut state = self.lock();
        let live = Arc::new(AtomicBool::new(state.live));
        let guard = LiveGuard::new(live.clone());
        let (waiting, end) = (load.clone(), Arc::new(AtomicBool::new(false)));
        let ended = end.clone();
        let work = move || {
            // Whoever sees the handler go sees no live subscription, and whoever sees that, sees the queue closed.
            let _live = guard;
            let mut queue = queue;
            while let Some(item) = queue.blocking_recv() {
                if ended.load(Ordering::Acquire) || take(item, &waiting, &mut *handler) == Flow::Stop {
                    return;
                }
            }
        };
        let spawned = thread::Builder::new().name("knative-reader".into()).spawn(work);
        spawned.map_err(|error| SourceError::Unavailable(error.to_string()))?;
        let leave = Leave { items: items.clone(), end };
        state.seats.push(Seat { channels, items, load, live: live.clone() });
        Ok(Subscription::new(live, leave))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is done under it leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn offer(&self, pushed: Arc<Pushed>) {
        let size = pushed.event.size();
        if self.load.bytes.fetch_add(size, Ordering::AcqRel) + size <= QUEUE_BYTES
            && self.items.try_send(Item::Event(pushed)).is_ok()
        {
            return;
        }
        self.load.bytes.fetch_sub(size, Ordering::AcqRel);
        if !self.load.overflowed.swap(true, Ordering::AcqRel) {
            // The queue may have run empty meanwhile; if it is full, somebody looks anyway.
            self.items.try_send(Item::Wake).ok();
        }
    }

    fn set_live(&self, live: bool) {
        self.live.swap(live, Ordering::AcqRel);
        // Its thread closes the queue before it says that it is not live.
        if self.items.is_closed() {
            self.live.store(false, Ordering::Release);
        }
    }

    fn tell_of_a_gap(&self) {
        if let Err(TrySendError::Full(_)) = self.items.try_send(Item::Gap) {
            self.load.overflowed.store(true, Ordering::Release);
        }
    }
}

fn take(item: Item, load: &Load, handler: &mut dyn RecordHandler) -> Flow {
    let missed = load.overflowed.swap(false, Ordering::AcqRel) || matches!(item, Item::Gap);
    if missed && handler.interrupted(&SourceError::Gone) == Flow::Stop {
        return Flow::Stop;
    }
    match item {
        Item::Gap | Item::Wake => Flow::Continue,
        Item::Event(pushed) => {
            load.bytes.fetch_sub(pushed.event.size(), Ordering::AcqRel);
            handler.record(&*pushed)
        }
    }
}

/// Ends a subscription when it is dropped.
struct Leave {
    items: mpsc::Sender<Item>,
    end: Arc<AtomicBool>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        // If the queue is full, the thread is awake.
        self.items.try_send(Item::Wake).ok();
    }
}
