//! The heartbeat, by which others know that this replica lives, and by which it knows that they know.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::shared::Shared;
use super::{meters, new_event_id};
use crate::channel::{Channel, Partition};
use crate::id::{DeviceKey, EventId};
use crate::records::{Alive, OrderRecord};

/// Part of the lapse time in which a heartbeat counts: the rest is for what lies between a look and a write.
const MARGIN: f64 = 0.8;

/// Which start of the replica this is, and when others last heard of it for certain.
#[derive(Debug)]
pub(super) struct Pulse {
    young: Duration,
    life: Mutex<Life>,
    /// Rises whenever what was taken by connections here may no longer be theirs.
    lapses: AtomicU64,
    /// Somebody waits for the next heartbeat to be acknowledged.
    withheld: AtomicBool,
}

#[derive(Debug)]
struct Life {
    incarnation: EventId,
    /// When the last heartbeat was sent that all partitions have.
    sent: Option<Instant>,
}

impl Pulse {
    pub(super) fn new(incarnation: EventId, lapse_after: Duration) -> Self {
        Self {
            young: lapse_after.mul_f64(MARGIN),
            life: Mutex::new(Life { incarnation, sent: None }),
            lapses: AtomicU64::new(0),
            withheld: AtomicBool::new(false),
        }
    }

    /// Returns what tells this start of the replica from all others.
    pub(super) fn incarnation(&self) -> EventId {
        self.life().incarnation.clone()
    }

    /// Tells whether nobody can have declared this replica dead: the last heartbeat is young.
    pub(super) fn is_young(&self, now: Instant) -> bool {
        self.life().sent.is_some_and(|sent| now.saturating_duration_since(sent) < self.young)
    }

    /// Notes that somebody waits for the next heartbeat.
    pub(super) fn withhold(&self) {
        self.withheld.store(true, Ordering::Release);
    }

    /// Notes an acknowledged heartbeat. Tells whether somebody may wait for it.
    fn acknowledged(&self, incarnation: &EventId, sent: Instant) -> bool {
        let mut life = self.life();
        if life.incarnation != *incarnation {
            return false;
        }
        life.sent = life.sent.max(Some(sent));
        drop(life);
        self.withheld.swap(false, Ordering::AcqRel)
    }

    /// Begins a new start, of which nobody has heard yet, and returns the one before.
    pub(super) fn renew(&self, incarnation: EventId) -> EventId {
        let mut life = self.life();
        life.sent = None;
        std::mem::replace(&mut life.incarnation, incarnation)
    }

    /// Returns how often this replica lapsed.
    pub(super) fn lapses(&self) -> u64 {
        self.lapses.load(Ordering::Acquire)
    }

    /// Notes a lapse: called before the tables are changed, for what was taken until then, and again behind that, for
    /// what is taken meanwhile.
    pub(super) fn lapse(&self) {
        self.lapses.fetch_add(1, Ordering::AcqRel);
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that sends heartbeats. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Beating(AbortHandle);

impl Beating {
    /// Starts the task, after a first heartbeat for whose acknowledgement it waits no longer than until the second.
    pub(super) async fn start(shared: &Arc<Shared>) -> Self {
        let interval = shared.limits.heartbeat_interval;
        let first = tokio::time::timeout(interval, beat(shared)).await;
        if first.is_err() {
            tracing::warn!("the first heartbeat is not acknowledged yet, commands wait for that");
        }
        Self(tokio::spawn(run(Arc::downgrade(shared), interval)).abort_handle())
    }

    /// Ends the heartbeats.
    pub(super) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn run(shared: Weak<Shared>, interval: Duration) {
    // An interval of nothing would be no pause at all.
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut rounds = JoinSet::new();
    loop {
        ticks.tick().await;
        while rounds.try_join_next().is_some() {}
        let Some(shared) = shared.upgrade() else { return };
        // One that is acknowledged later says nothing any more.
        let limit = shared.limits.lapse_after;
        rounds.spawn(tokio::time::timeout(limit, beat(&shared)));
    }
}

/// Sends a heartbeat to every partition, and resolves when all have it, or one does not take it.
fn beat(shared: &Arc<Shared>) -> impl Future<Output = ()> + Send + use<> {
    let (sent, now) = (shared.clock.instant(), shared.clock.wall());
    let incarnation = shared.pulse.incarnation();
    let send = |partition| {
        let record = OrderRecord::Alive(Alive { incarnation: incarnation.clone() });
        let event = record.into_event(new_event_id(now), DeviceKey::all(), now);
        shared.sink.publish_in(Channel::Commands, Partition(partition), event)
    };
    let acknowledged: Vec<_> = (0..shared.sink.partitions()).map(send).collect();
    let shared = Arc::downgrade(shared);
    async move {
        for partition in acknowledged {
            if let Err(error) = partition.await {
                meters::missed_heartbeat();
                tracing::debug!(%error, "a heartbeat was not taken");
                return;
            }
        }
        let Some(shared) = shared.upgrade() else { return };
        if shared.pulse.acknowledged(&incarnation, sent) {
            for mut table in shared.connections.each() {
                let wakers = table.wakers();
                drop(table);
                wakers.into_iter().for_each(Waker::wake);
            }
        }
    }
}
