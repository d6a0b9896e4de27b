//! The tracker of one partition at work: it is fed, and what it wants done is done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::BoxFuture;
use common::channel::{Place, PublishError};
use common::ledger::{Lease, Loaded};
use common::service::Shutdown;
use common::tracker::Effect;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout};

use super::clerk::{Answer, Ask, Clerk};
use super::feed::Item;
use super::publish::Publisher;
use super::seat::Seat;
use super::{Shared, restored};

/// So many records are read before what they caused is done.
const BATCH: usize = 512;
/// How often a replica that has no charge asks how far the one that has it has come.
const LOOK: Duration = Duration::from_secs(5);
/// How often at least time is looked at.
const TICK: Duration = Duration::from_millis(500);
/// How long the end may take: less than a lease lasts.
const END: Duration = Duration::from_secs(3);

/// The work of a seat.
pub(super) struct Work {
    shared: Arc<Shared>,
    at: usize,
    items: mpsc::Receiver<Item>,
    lease: watch::Receiver<Option<Lease>>,
    /// The lease under which the tracker acts. `None` also while what the ledger has is read for it.
    charge: Option<Lease>,
    clerk: Clerk,
    publisher: Publisher,
    /// What is said again and again until it is taken, whoever acts.
    told: FuturesUnordered<BoxFuture<'static, ()>>,
    /// What is written once, under the epoch of the charge.
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
            charge: None,
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

    /// Works until the shutdown, or until nothing will be read any more.
    pub(super) async fn run(mut self, shutdown: Shutdown) {
        let mut items = Vec::with_capacity(BATCH);
        loop {
            let due = self.due();
            // Whatever is not ready here keeps its state, and is waited for again.
            tokio::select! {
                () = shutdown.cancelled() => break,
                count = self.items.recv_many(&mut items, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    self.feed(&mut items).await;
                }
                Ok(()) = self.lease.changed() => self.heed_lease(),
                answer = self.clerk.answer() => self.take(answer),
                Some(()) = self.told.next() => {}
                Some(result) = self.recorded.next() => self.heed(result),
                () = sleep_until(due.into()) => self.pass_time(),
            }
            self.carry_out();
            self.call();
        }
        if timeout(END, self.end()).await.is_err() {
            tracing::warn!(
                partition = self.seat().partition.0,
                "what a tracker knows was not written in time"
            );
        }
    }

    fn seat(&self) -> &Seat {
        &self.shared.seats[self.at]
    }

    fn due(&self) -> Instant {
        let now = self.shared.clock.now();
        let timeout = self.seat().tracker().next_timeout(now).unwrap_or(TICK).min(TICK);
        let clerk = self.charge.and_then(|_| self.clerk.due());
        clerk.into_iter().fold(now.instant + timeout, Instant::min)
    }

    fn pass_time(&mut self) {
        let now = self.shared.clock.now();
        self.seat().tracker().handle_timeout(now);
        if now.instant >= self.next_look && !self.seat().is_acting() {
            self.next_look = now.instant + LOOK;
            self.clerk.look(self.seat().partition);
        }
    }

    /// Feeds what was read. A channel may hand records over again that lie before where the tracker was restored.
    async fn feed(&mut self, items: &mut Vec<Item>) {
        let is_news = |known: Option<Place>, place| known < Some(place);
        for item in items.drain(..) {
            let now = self.shared.clock.now();
            let seat = &self.shared.seats[self.at];
            let known = seat.tracker().places();
            match item {
                Item::Command(command, accepted, place) if is_news(known.commands, place) => {
                    seat.tracker().handle_command(*command, accepted, place, now);
                }
                Item::Record(recorded) if is_news(known.commands, recorded.place) => {
                    seat.tracker().handle_record(*recorded, now);
                }
                Item::Outcome(outcome, place) if is_news(known.outcomes, place) => {
                    let mut tracker = seat.tracker();
                    // Under the lock: who begins to wait behind this finds it in the tracker.
                    self.shared.watches.tell(&outcome);
                    tracker.handle_outcome(*outcome, place, now);
                }
                Item::Command(..) | Item::Record(_) | Item::Outcome(..) => {}
                Item::Mark(channel, mark) if mark == self.shared.mark => seat.has_read(channel),
                Item::Mark(..) => {}
                Item::Gap => self.rebuild().await,
            }
        }
    }

    /// Makes the tracker anew, as records were missed: of what the ledger has.
    async fn rebuild(&mut self) {
        let lease = self.charge.or(*self.lease.borrow());
        self.resign();
        let seat = &self.shared.seats[self.at];
        let loaded = self.shared.ledger.load(seat.partition).await.unwrap_or_else(|error| {
            tracing::error!(%error, partition = seat.partition.0, "what a tracker missed cannot be made up for");
            Loaded::default()
        });
        *seat.tracker() = restored(&self.shared.settings, loaded, true, &self.shared.clock);
        lease.into_iter().for_each(|lease| self.abdicate(lease));
    }

    /// Takes charge of the partition, or gives it up.
    fn heed_lease(&mut self) {
        let lease = *self.lease.borrow_and_update();
        if self.charge.is_some() && self.charge == lease {
            return;
        }
        self.resign();
        if let Some(lease) = lease {
            self.clerk.load(lease);
        }
    }

    /// Takes what the ledger said.
    fn take(&mut self, answer: Answer) {
        let now = self.shared.clock.now();
        match answer {
            Answer::Loaded(lease, loaded) => {
                tracing::debug!(partition = lease.partition.0, epoch = lease.epoch, "takes charge");
                self.seat().tracker().begin_acting(lease.epoch, loaded.rows, now);
                self.charge = Some(lease);
            }
            Answer::NotLoaded(lease) => self.abdicate(lease),
            Answer::Saved(places) => self.seat().tracker().handle_saved(places),
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
            Answer::Fenced => self.charge.into_iter().for_each(|lease| self.abdicate(lease)),
            Answer::Nothing => self.clerk.pause(),
        }
    }

    /// A record that is not known to be in the log makes this epoch useless: one under the next makes a late copy void.
    fn heed(&mut self, result: Result<(), PublishError>) {
        if let (Err(error), Some(lease)) = (result, self.charge) {
            tracing::warn!(%error, partition = lease.partition.0, "a record was not taken: begins anew");
            self.abdicate(lease);
        }
    }

    /// Acts no longer. What the ledger was asked is void; whether changes were written is not heard any more, so they are
    /// written again.
    fn resign(&mut self) {
        self.charge = None;
        self.clerk.clear();
        self.recorded.clear();
        let mut tracker = self.seat().tracker();
        tracker.stop_acting();
        tracker.handle_written(false);
    }

    /// Gives a charge up. Whoever takes it next has a new epoch.
    fn abdicate(&mut self, lease: Lease) {
        self.resign();
        self.seat().end_lease(lease);
        let ledger = self.shared.ledger.clone();
        self.told.push(Box::pin(async move {
            if let Err(error) = ledger.give_up(lease).await {
                tracing::debug!(%error, "a lease is left to its end");
            }
        }));
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
                    self.recorded.push(self.publisher.record(device, record));
                }
                Effect::Submit { command, accepted } => {
                    self.told.push(self.publisher.submit(*command, accepted));
                }
                Effect::HandOver(commands) => self.clerk.ask(Ask::HandOver(commands)),
                Effect::Expire(ids) => self.clerk.ask(Ask::Expire(ids)),
                Effect::Look(ids) => self.clerk.ask(Ask::Look(ids)),
            }
        }
    }

    /// Calls the ledger, if it is time and the charge still counts.
    fn call(&mut self) {
        let Some(lease) = self.charge else { return };
        let shared = self.shared.clone();
        let mut tracker = shared.seats[self.at].tracker();
        if tracker.epoch() == Some(lease.epoch) {
            return self.clerk.begin(&mut tracker, lease);
        }
        drop(tracker);
        // It has read of a higher epoch. The next lease has one that is higher still.
        tracing::debug!(
            partition = lease.partition.0,
            epoch = lease.epoch,
            "the log knows of a later tracker"
        );
        self.abdicate(lease);
    }

    /// Writes what the tracker knows, and says what it has to say.
    async fn end(&mut self) {
        if self.clerk.is_busy() {
            let answer = self.clerk.answer().await;
            self.take(answer);
            self.carry_out();
        }
        if let Some(lease) = self.charge {
            let shared = self.shared.clone();
            self.clerk.checkpoint(&mut shared.seats[self.at].tracker(), lease);
            let answer = self.clerk.answer().await;
            self.take(answer);
        }
        while self.recorded.next().await.is_some() {}
        while self.told.next().await.is_some() {}
    }
}
