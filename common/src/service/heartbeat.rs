//! The heartbeat, by which others know that this replica lives, and by which it knows that they know.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::shared::Shared;
use super::{meters, new_event_id};
use crate::channel::{Channel, Partition, PublishError};
use crate::id::{DeviceKey, EventId};
use crate::records::{Alive, OrderRecord};

/// Part of the lapse time in which a heartbeat counts: the rest is for what lies between a look and a write.
const MARGIN: f64 = 0.8;

/// Which start of the replica this is, and when others last heard of it for certain.
///
/// Others judge in each partition by what they read there, so it is kept for each.
#[derive(Debug)]
pub(super) struct Pulse {
    lapse_after: Duration,
    life: Mutex<Life>,
    /// Rises whenever what was taken by connections here may no longer be theirs.
    lapses: AtomicU64,
    /// Somebody waits for the next heartbeat to be acknowledged.
    withheld: AtomicBool,
}

#[derive(Debug)]
struct Life {
    incarnation: EventId,
    partitions: Vec<Heard>,
}

/// How a partition knows of this replica.
#[derive(Debug, Clone, Copy)]
struct Heard {
    /// When the last heartbeat was sent that it has; before the first one, the start of the replica.
    sent: Instant,
    /// It has one.
    once: bool,
    /// The replica was silent there for so long that it calls itself dead, and has not read that yet.
    silent: bool,
}

impl Heard {
    fn nothing(start: Instant) -> Self {
        Self { sent: start, once: false, silent: false }
    }
}

/// What a look at the pulse shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nobody can have declared this replica dead: the last heartbeat is young.
    Young,
    /// Others may take it for dead, or will before long.
    Old,
    /// It just fell silent: a tracker that began meanwhile does not know of it, and it must call itself dead.
    FellSilent,
}

impl Pulse {
    pub(super) fn new(incarnation: EventId, lapse_after: Duration, partitions: u32, now: Instant) -> Self {
        let partitions = (0..partitions).map(|_| Heard::nothing(now)).collect();
        Self {
            lapse_after,
            life: Mutex::new(Life { incarnation, partitions }),
            lapses: AtomicU64::new(0),
            withheld: AtomicBool::new(false),
        }
    }

    /// Returns what tells this start of the replica from all others.
    pub(super) fn incarnation(&self) -> EventId {
        self.life().incarnation.clone()
    }

    /// Looks whether others know in a partition that this replica lives.
    pub(super) fn look(&self, partition: Partition, now: Instant) -> Beat {
        let mut life = self.life();
        let Some(heard) = life.in_partition(partition) else { return Beat::Old };
        let age = now.saturating_duration_since(heard.sent);
        if heard.silent {
            Beat::Old
        } else if age >= self.lapse_after {
            heard.silent = true;
            Beat::FellSilent
        } else if heard.once && age < self.lapse_after.mul_f64(MARGIN) {
            Beat::Young
        } else {
            Beat::Old
        }
    }

    /// Notes that somebody waits for the next heartbeat.
    pub(super) fn withhold(&self) {
        self.withheld.store(true, Ordering::Release);
    }

    /// Notes a heartbeat that a partition has acknowledged. Tells whether somebody may wait for it.
    fn acknowledged(&self, incarnation: &EventId, partition: Partition, sent: Instant) -> bool {
        let mut life = self.life();
        if life.incarnation != *incarnation {
            return false;
        }
        if let Some(heard) = life.in_partition(partition) {
            (heard.sent, heard.once) = (heard.sent.max(sent), true);
        }
        drop(life);
        self.withheld.swap(false, Ordering::AcqRel)
    }

    /// Notes that it was read in a partition that this replica calls itself dead. What it has there is announced behind
    /// that, so a silence counts from here on.
    pub(super) fn read_own_lapse(&self, partition: Partition, now: Instant) {
        if let Some(heard) = self.life().in_partition(partition) {
            *heard = Heard::nothing(now);
        }
    }

    #[cfg(test)]
    pub(super) fn is_silent(&self, partition: Partition) -> bool {
        self.life().in_partition(partition).is_some_and(|heard| heard.silent)
    }

    /// Begins a new start, of which nobody has heard yet, and returns the one before.
    pub(super) fn renew(&self, incarnation: EventId, now: Instant) -> EventId {
        let mut life = self.life();
        life.partitions.fill(Heard::nothing(now));
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

impl Life {
    fn in_partition(&mut self, partition: Partition) -> Option<&mut Heard> {
        self.partitions.get_mut(usize::try_from(partition.0).ok()?)
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

/// Sends a heartbeat to every partition, and resolves when each has taken it or not.
fn beat(shared: &Arc<Shared>) -> impl Future<Output = ()> + Send + use<> {
    let (sent, now) = (shared.clock.instant(), shared.clock.wall());
    let incarnation = shared.pulse.incarnation();
    let mut acknowledged = JoinSet::new();
    for partition in (0..shared.sink.partitions()).map(Partition) {
        // Each time, whether or not anything is to be written to a device there.
        shared.is_heard(partition);
        let record = OrderRecord::Alive(Alive { incarnation: incarnation.clone() });
        let event = record.into_event(new_event_id(now), DeviceKey::all(), now);
        let taken = shared.sink.publish_in(Channel::Commands, partition, event);
        let (shared, incarnation) = (Arc::downgrade(shared), incarnation.clone());
        acknowledged.spawn(async move { heed(taken.await, &shared, &incarnation, partition, sent) });
    }
    async move { while acknowledged.join_next().await.is_some() {} }
}

/// Takes a partition's answer to a heartbeat.
fn heed(
    taken: Result<(), PublishError>,
    shared: &Weak<Shared>,
    incarnation: &EventId,
    partition: Partition,
    sent: Instant,
) {
    if let Err(error) = taken {
        meters::missed_heartbeat();
        tracing::debug!(%error, partition = partition.0, "a heartbeat was not taken");
        return;
    }
    let Some(shared) = shared.upgrade() else { return };
    // Before this one hides how long there was none.
    shared.is_heard(partition);
    if shared.pulse.acknowledged(incarnation, partition, sent) {
        for mut table in shared.connections.each() {
            let wakers = table.wakers();
            drop(table);
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Clock;

    #[test]
    fn who_was_silent_for_too_long_is_not_believed_before_it_has_read_that_it_lapsed() {
        let (start, name) = (Clock::system().instant(), "r".parse::<EventId>().unwrap());
        let pulse = Pulse::new(name.clone(), Duration::from_secs(5), 2, start);
        let at = |millis| start + Duration::from_millis(millis);
        let [here, there] = [Partition(0), Partition(1)];
        assert_eq!(pulse.look(here, at(0)), Beat::Old, "nobody has heard of it yet");
        for partition in [here, there] {
            pulse.acknowledged(&name, partition, at(1_000));
        }
        assert_eq!(pulse.look(here, at(4_999)), Beat::Young);
        assert_eq!(pulse.look(here, at(5_000)), Beat::Old, "it may be taken for dead before a write is done");
        // Only one partition hears of it.
        pulse.acknowledged(&name, there, at(5_900));
        assert_eq!([here, there].map(|place| pulse.look(place, at(6_000))), [Beat::FellSilent, Beat::Young]);
        pulse.acknowledged(&name, here, at(6_100));
        assert_eq!(pulse.look(here, at(6_200)), Beat::Old, "and it says so once");
        pulse.read_own_lapse(here, at(6_300));
        assert_eq!(pulse.look(here, at(6_300)), Beat::Old, "nobody has heard of it since");
        pulse.acknowledged(&name, here, at(6_400));
        assert_eq!(pulse.look(here, at(6_400)), Beat::Young);
        // Another start was never heard of, and is not answered for by heartbeats of this one.
        pulse.renew("s".parse().unwrap(), at(7_000));
        pulse.acknowledged(&name, here, at(7_100));
        assert_eq!(pulse.look(here, at(11_999)), Beat::Old);
        assert_eq!(pulse.look(here, at(12_000)), Beat::FellSilent);
    }
}
