//! What this replica has to say: outcomes, and the records by which all agree who delivers.
//!
//! It is said in order, and again and again until the channel has it. Whoever has something to say does not wait, and
//! need not be where waiting is allowed: within a record handler, or while it is dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::Gauge;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::shared::Shared;
use super::{Clock, meters, new_event_id};
use crate::BoxFuture;
use crate::channel::{Channel, EventSink, Partition, PublishError};
use crate::connections::Handle;
use crate::event::Event;
use crate::id::{DeviceKey, EventId};
use crate::outcome::Transition;
use crate::process::{Pauses, until_taken};
use crate::records::{Announced, Connected, Lapsed, OrderRecord};

/// How many reports may wait: more than a replica has connections, which may all end at once.
const CAPACITY: usize = 1 << 18;
/// How many may be on their way to the channel.
const WINDOW: usize = 1_024;
const PAUSES: Pauses = Pauses { first: Duration::from_millis(100), longest: Duration::from_secs(5) };

/// Something to say.
#[derive(Debug)]
pub(super) enum Report {
    /// What became of a command.
    Outcome(Box<Transition>),
    /// A record of a device.
    Record(DeviceKey, Box<OrderRecord>),
    /// A connection is to be announced anew.
    Announce(DeviceKey, Handle),
    /// The records of a partition's connections once more, and behind them that these were all.
    Repeat(Partition, Vec<(DeviceKey, Connected)>, Announced),
    /// The connections of a start of this replica have ended, in every partition.
    Lapse(EventId),
    /// The same in one partition, where nobody heard of this start for too long.
    Silent(Partition, EventId),
    /// Nothing: dropped when all before it are in the channel.
    Flush(oneshot::Sender<()>),
}

/// The way in for reports.
#[derive(Debug)]
pub(super) struct Reports {
    queue: mpsc::Sender<Report>,
    lost: Arc<AtomicBool>,
    waiting: Gauge,
}

impl Reports {
    /// Makes the queue, and what publishes from it once it is told for whom.
    pub(super) fn new() -> (Self, Queue) {
        let (queue, reports) = mpsc::channel(CAPACITY);
        let (lost, waiting) = (Arc::new(AtomicBool::new(false)), meters::reports_waiting());
        (Self { queue, lost: lost.clone(), waiting: waiting.clone() }, Queue { reports, lost, waiting })
    }

    /// Takes a report, and returns at once.
    pub(super) fn send(&self, report: Report) {
        match self.queue.try_send(report) {
            Ok(()) => self.waiting.increment(1),
            Err(mpsc::error::TrySendError::Full(_)) => {
                meters::report_lost();
                tracing::error!(
                    "a report was lost, as too many wait for the channel: this replica starts over"
                );
                // Nobody must wait for it.
                self.lost.store(true, Ordering::Release);
            }
            // The runtime has ended.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    /// Takes it that a report was lost, as if too many had waited.
    #[cfg(test)]
    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Waits until all that was reported is in the channel.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        self.waiting.increment(1);
        if self.queue.send(Report::Flush(done)).await.is_ok() {
            // Nothing is ever sent: it is dropped when all is said, or the runtime has ended.
            flushed.await.unwrap_or_default();
        }
    }
}

/// The reports that wait.
#[derive(Debug)]
pub(super) struct Queue {
    reports: mpsc::Receiver<Report>,
    lost: Arc<AtomicBool>,
    waiting: Gauge,
}

impl Queue {
    /// Publishes until the last of those who report is gone, and then what is left.
    pub(super) fn publish(self, shared: &Arc<Shared>) {
        let publisher = Publisher {
            sink: shared.sink.clone(),
            clock: shared.clock.clone(),
            timeout: shared.limits.publish_timeout,
            shared: Arc::downgrade(shared),
            waiting: self.waiting.clone(),
            in_flight: JoinSet::new(),
        };
        tokio::spawn(publisher.run(self));
    }
}

struct Publisher {
    sink: Arc<dyn EventSink>,
    clock: Clock,
    timeout: Duration,
    shared: Weak<Shared>,
    waiting: Gauge,
    in_flight: JoinSet<()>,
}

impl Publisher {
    async fn run(mut self, mut queue: Queue) {
        while let Some(report) = queue.reports.recv().await {
            self.publish(report).await;
            self.waiting.decrement(1);
            if queue.lost.swap(false, Ordering::AcqRel)
                && let Some(shared) = self.shared.upgrade()
            {
                // What this replica owned and could not tell of is the tracker's from here on.
                let lapsed = shared.start_over();
                self.lapse(lapsed).await;
            }
        }
        self.settle().await;
    }

    async fn publish(&mut self, report: Report) {
        match report {
            Report::Outcome(transition) => self.say(Channel::Outcomes, None, transition.into_event()).await,
            Report::Record(device, record) => self.record(device, *record).await,
            Report::Announce(device, handle) => {
                let announced = self.shared.upgrade().and_then(|shared| shared.announce(&device, handle));
                if let Some((event, first)) = announced {
                    self.keep_on(Channel::Commands, None, event, first).await;
                }
            }
            Report::Repeat(partition, records, announced) => {
                for (device, connected) in records {
                    self.record(device, OrderRecord::Connected(connected)).await;
                }
                self.settle().await;
                self.say_in(partition, OrderRecord::Announced(announced)).await;
            }
            Report::Lapse(incarnation) => self.lapse(incarnation).await,
            Report::Silent(partition, incarnation) => self.lapse_in(partition, incarnation).await,
            Report::Flush(done) => {
                self.settle().await;
                drop(done);
            }
        }
    }

    async fn record(&mut self, device: DeviceKey, record: OrderRecord) {
        let now = self.clock.wall();
        let event = record.into_event(new_event_id(now), device.clone(), now);
        let first = {
            let shared = self.shared.upgrade();
            // Behind an announcement that is just being made.
            let _turn = shared.as_ref().map(|shared| shared.turns.of(device.as_str().as_bytes()));
            self.sink.publish(Channel::Commands, event.clone())
        };
        self.keep_on(Channel::Commands, None, event, first).await;
    }

    async fn lapse(&mut self, incarnation: EventId) {
        for partition in 0..self.sink.partitions() {
            self.lapse_in(Partition(partition), incarnation.clone()).await;
        }
    }

    async fn lapse_in(&mut self, partition: Partition, incarnation: EventId) {
        self.say_in(partition, OrderRecord::Lapsed(Lapsed { incarnation, epoch: None })).await;
    }

    async fn say_in(&mut self, partition: Partition, record: OrderRecord) {
        let now = self.clock.wall();
        let event = record.into_event(new_event_id(now), DeviceKey::all(), now);
        self.say(Channel::Commands, Some(partition), event).await;
    }

    async fn say(&mut self, channel: Channel, partition: Option<Partition>, event: Event) {
        let first = attempt(&*self.sink, channel, partition, event.clone());
        self.keep_on(channel, partition, event, first).await;
    }

    /// Sees to it that an event which was published once gets into the channel; waits only while too many are under way.
    async fn keep_on(
        &mut self,
        channel: Channel,
        partition: Option<Partition>,
        event: Event,
        first: Attempt,
    ) {
        let (sink, waiting, timeout) = (self.sink.clone(), self.waiting.clone(), self.timeout);
        waiting.increment(1);
        self.in_flight.spawn(async move {
            let in_time = |attempt: Attempt| async move {
                let result = tokio::time::timeout(timeout, attempt).await;
                result.unwrap_or(Err(PublishError::TimedOut(timeout)))
            };
            let again = || in_time(attempt(&*sink, channel, partition, event.clone()));
            let is_worth_another = |error: &PublishError| *error != PublishError::TooLarge;
            if let Err(error) = until_taken(in_time(first), again, PAUSES, is_worth_another).await {
                meters::report_lost();
                tracing::error!(kind = &*event.kind, %error, "a report was lost");
            }
            waiting.decrement(1);
        });
        while self.in_flight.try_join_next().is_some() {}
        while self.in_flight.len() >= WINDOW {
            self.in_flight.join_next().await;
        }
    }

    /// Waits until all that is on its way is in the channel.
    async fn settle(&mut self) {
        while self.in_flight.join_next().await.is_some() {}
    }
}

/// The channel's answer to an event.
pub(super) type Attempt = BoxFuture<'static, Result<(), PublishError>>;

fn attempt(sink: &dyn EventSink, channel: Channel, partition: Option<Partition>, event: Event) -> Attempt {
    match partition {
        Some(partition) => sink.publish_in(channel, partition, event),
        None => sink.publish(channel, event),
    }
}
