//! The tracker of one partition at work: it is fed, and what it wants done is done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::BoxFuture;
use common::channel::{Channel, Partition, PublishError};
use common::ledger::Lease;
use common::service::Shutdown;
use common::tracker::{Effect, PartitionTracker};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::Shared;
use super::asks::Ask;
use super::clerk::{Answer, Clerk};
use super::feed::Item;
use super::publish::Publisher;

/// So many records are read before what they caused is done.
const BATCH: usize = 512;
/// How often a replica that has no charge asks how far the one that has it has come.
const LOOK: Duration = Duration::from_secs(5);
/// How often at least time is looked at.
const TICK: Duration = Duration::from_millis(500);

/// What all know of the tracker of a partition.
pub(super) struct Seat {
    pub(super) partition: Partition,
    tracker: Mutex<PartitionTracker>,
    /// The lease, while this replica has charge of the partition.
    pub(super) lease: watch::Sender<Option<Lease>>,
    /// Whether what was in the channels at the start was read: commands and outcomes.
    read: [AtomicBool; 2],
}

impl Seat {
    pub(super) fn new(partition: Partition, tracker: PartitionTracker) -> Self {
        Self {
            partition,
            tracker: Mutex::new(tracker),
            lease: watch::Sender::new(None),
            read: Default::default(),
        }
    }

    /// Locks the tracker.
    pub(super) fn tracker(&self) -> MutexGuard<'_, PartitionTracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives or takes the charge of the partition.
    pub(super) fn set_lease(&self, lease: Option<Lease>) {
        self.lease.send_replace(lease);
    }

    /// Tells whether this replica has charge of the partition.
    pub(super) fn is_acting(&self) -> bool {
        self.lease.borrow().is_some()
    }

    /// Tells whether what was in the channels at the start was read.
    pub(super) fn is_caught_up(&self) -> bool {
        self.read.iter().all(|read| read.load(Ordering::Acquire))
    }

    fn has_read(&self, channel: Channel) {
        let place = match channel {
            Channel::Commands => 0,
            Channel::Outcomes => 1,
            Channel::Telemetry => return,
        };
        self.read[place].store(true, Ordering::Release);
    }
}

/// The work of a seat.
pub(super) struct Work {
    shared: Arc<Shared>,
    at: usize,
    items: mpsc::Receiver<Item>,
    lease: watch::Receiver<Option<Lease>>,
    clerk: Clerk,
    publisher: Publisher,
    told: FuturesUnordered<BoxFuture<'static, ()>>,
    recorded: FuturesUnordered<BoxFuture<'static, Result<(), PublishError>>>,
    next_look: Instant,
}

impl Work {
    pub(super) fn new(shared: &Arc<Shared>, at: usize, items: mpsc::Receiver<Item>) -> Self {
        let seat = &shared.seats[at];
        let publisher =
            Publisher { sink: shared.sink.clone(), clock: shared.clock.clone(), partition: seat.partition };
        Self {
            lease: seat.lease.subscribe(),
            clerk: Clerk::new(shared.ledger.clone(), shared.clock.clone(), shared.settings.unseen_after),
            shared: shared.clone(),
            at,
            items,
            publisher,
            next_look: shared.clock.instant() + LOOK,
            told: FuturesUnordered::new(),
            recorded: FuturesUnordered::new(),
        }
    }

    /// Works until the shutdown.
    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut items = Vec::with_capacity(BATCH);
        loop {
            let due = self.due();
            tokio::select! {
                () = shutdown.cancelled() => return,
                count = self.items.recv_many(&mut items, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.feed(&mut items).await;
                }
                Ok(()) = self.lease.changed() => self.heed_lease().await,
                answer = self.clerk.answer() => self.take(answer),
                Some(()) = self.told.next() => {}
                Some(result) = self.recorded.next() => self.heed(result),
                () = sleep_until(due.into()) => {
                    let now = self.shared.clock.now();
                    self.seat().tracker().handle_timeout(now);
                    self.look(now.instant).await;
                }
            }
            self.carry_out();
        }
    }

    fn seat(&self) -> &Seat {
        &self.shared.seats[self.at]
    }

    fn due(&self) -> Instant {
        let now = self.shared.clock.now();
        let timeout = self.seat().tracker().next_timeout(now).unwrap_or(TICK).min(TICK);
        let tracker = now.instant + timeout;
        if self.lease.borrow().is_some() { tracker.min(self.clerk.due()) } else { tracker }
    }

    /// Feeds what was read.
    async fn feed(&mut self, items: &mut Vec<Item>) {
        for item in items.drain(..) {
            let now = self.shared.clock.now();
            let seat = &self.shared.seats[self.at];
            match item {
                Item::Command(command, accepted, place) => {
                    seat.tracker().handle_command(*command, accepted, place, now);
                }
                Item::Record(recorded) => seat.tracker().handle_record(*recorded, now),
                Item::Outcome(outcome, place) => {
                    self.shared.watches.tell(&outcome);
                    seat.tracker().handle_outcome(*outcome, place, now);
                }
                Item::Mark(channel, mark) if mark == self.shared.mark => seat.has_read(channel),
                Item::Mark(..) => {}
                Item::Gap => self.shared.rebuild(seat).await,
            }
        }
    }

    /// Asks from time to time what was saved, where another replica has charge.
    async fn look(&mut self, now: Instant) {
        if now < self.next_look || self.seat().is_acting() {
            return;
        }
        self.next_look = now + LOOK;
        match self.shared.ledger.saved(self.seat().partition).await {
            Ok(places) => self.seat().tracker().handle_saved(places),
            Err(error) => tracing::debug!(%error, "the ledger cannot be asked how far it is"),
        }
    }

    /// Takes charge of the partition, or gives it up.
    async fn heed_lease(&mut self) {
        let lease = *self.lease.borrow_and_update();
        self.clerk.clear();
        let Some(lease) = lease else {
            self.seat().tracker().stop_acting();
            return;
        };
        match self.shared.ledger.load(lease.partition).await {
            Ok(loaded) => {
                let now = self.shared.clock.now();
                let mut tracker = self.seat().tracker();
                tracker.stop_acting();
                tracker.begin_acting(lease.epoch, loaded.rows, now);
                tracing::debug!(partition = lease.partition.0, epoch = lease.epoch, "takes charge");
            }
            Err(error) => {
                tracing::warn!(%error, partition = lease.partition.0, "cannot take charge");
                self.abdicate();
            }
        }
    }

    /// Takes what the ledger said.
    fn take(&mut self, answer: Answer) {
        let now = self.shared.clock.now();
        match answer {
            Answer::Written(written) => {
                if !written {
                    self.clerk.pause();
                }
                self.seat().tracker().handle_written(written);
            }
            Answer::Rows(ids, rows) => self.seat().tracker().handle_rows(&ids, rows, now),
            Answer::Unseen(mut rows) => {
                rows.retain(|row| self.shared.sink.partition_of(&row.device) == self.seat().partition);
                self.seat().tracker().handle_unseen(rows, now);
            }
            Answer::Failed(ask) => self.clerk.again(ask),
            Answer::Fenced => self.abdicate(),
            Answer::Nothing => self.clerk.pause(),
        }
    }

    /// A record that is not known to be in the log makes this epoch useless: one under the next makes a late copy void.
    fn heed(&mut self, result: Result<(), PublishError>) {
        if let Err(error) = result {
            tracing::warn!(%error, partition = self.seat().partition.0, "a record was not taken: begins anew");
            self.abdicate();
        }
    }

    /// Gives the charge up. Whoever takes it next has a new epoch.
    fn abdicate(&mut self) {
        self.clerk.clear();
        self.seat().tracker().stop_acting();
        let lease = *self.lease.borrow_and_update();
        self.seat().set_lease(None);
        if let Some(lease) = lease {
            let ledger = self.shared.ledger.clone();
            self.told.push(Box::pin(async move {
                if let Err(error) = ledger.give_up(lease).await {
                    tracing::debug!(%error, "a lease is left to its end");
                }
            }));
        }
    }

    /// Does what the tracker wants done.
    fn carry_out(&mut self) {
        let shared = self.shared.clone();
        let seat = &shared.seats[self.at];
        loop {
            // Not locked while it is carried out: a channel may hand a record over while it takes one.
            let Some(effect) = seat.tracker().poll_effect() else { break };
            match effect {
                Effect::Tell(outcome) => self.told.push(self.publisher.tell(*outcome)),
                Effect::Record { device, record } => {
                    self.recorded.push(self.publisher.record(device, record))
                }
                Effect::Submit { command, accepted } => {
                    self.recorded.push(self.publisher.submit(command.into_event(accepted, None)));
                }
                Effect::HandOver(commands) => self.clerk.ask(Ask::HandOver(commands)),
                Effect::Expire(ids) => self.clerk.ask(Ask::Expire(ids)),
                Effect::Look(ids) => self.clerk.ask(Ask::Look(ids)),
            }
        }
        let lease = *self.lease.borrow();
        if let Some(lease) = lease {
            self.clerk.begin(&mut seat.tracker(), lease);
        }
    }
}
