//! The calls of the ledger for one partition: one after another, in the order that the tracker asks for.

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::BoxFuture;
use common::id::EventId;
use common::ledger::{Batch, Lease, Ledger, LedgerError, Saved};
use common::service::Clock;
use common::tracker::{PartitionTracker, Row};

use super::asks::{Ask, Asks};

/// How often changes are written.
const FLUSH: Duration = Duration::from_millis(50);
/// How often the connections are written.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// How often commands are looked for that the log lacks.
const UNSEEN: Duration = Duration::from_secs(5);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What the ledger said.
#[derive(Debug)]
pub(super) enum Answer {
    /// Changes were written, or not.
    Written(bool),
    /// The rows of these commands.
    Rows(Vec<EventId>, Vec<Row>),
    /// Commands of any partition that no tracker has read in the log.
    Unseen(Vec<Row>),
    /// It cannot be asked now; the question is to be asked again.
    Failed(Ask),
    /// Another replica has charge of the partition.
    Fenced,
    /// It could not be asked for what is asked for from time to time.
    Nothing,
}

/// Calls the ledger while this replica has charge of the partition.
pub(super) struct Clerk {
    ledger: Ledger,
    clock: Clock,
    unseen_after: Duration,
    asks: Asks,
    under_way: Option<BoxFuture<'static, Answer>>,
    next_flush: Instant,
    next_checkpoint: Instant,
    next_unseen: Instant,
    not_before: Instant,
}

impl Clerk {
    pub(super) fn new(ledger: Ledger, clock: Clock, unseen_after: Duration) -> Self {
        let now = clock.instant();
        Self {
            ledger,
            clock,
            unseen_after,
            asks: Asks::default(),
            under_way: None,
            next_flush: now,
            next_checkpoint: now + CHECKPOINT,
            next_unseen: now,
            not_before: now,
        }
    }

    /// Takes a question.
    pub(super) fn ask(&mut self, ask: Ask) {
        self.asks.push(ask);
    }

    /// Forgets what was asked, and what is under way.
    pub(super) fn clear(&mut self) {
        self.asks.clear();
        self.under_way = None;
    }

    /// Returns when [`Clerk::begin`] may have something to do.
    pub(super) fn due(&self) -> Instant {
        self.next_flush.max(self.not_before)
    }

    /// Begins the next call, if it is time and none is under way.
    pub(super) fn begin(&mut self, tracker: &mut PartitionTracker, lease: Lease) {
        let now = self.clock.now();
        if self.under_way.is_some() || now.instant < self.not_before {
            return;
        }
        if let Some(ask) = self.asks.next() {
            return self.put(lease, ask);
        }
        if self.asks.is_empty() && now.instant < self.next_flush {
            return;
        }
        self.next_flush = now.instant + FLUSH;
        self.asks.release();
        if now.instant >= self.next_checkpoint {
            self.next_checkpoint = now.instant + CHECKPOINT;
            let (snapshot, changes) = tracker.checkpoint(now);
            let bytes = postcard::to_allocvec(&snapshot).map(Bytes::from);
            let saved = bytes.map(|bytes| Saved { bytes, places: snapshot.places() });
            let saved = saved.inspect_err(|error| tracing::error!(%error, "a tracker's state has no form"));
            return self.write(lease, Batch { changes, saved: saved.ok(), now: now.wall });
        }
        let changes = tracker.changes();
        if !changes.is_empty() {
            return self.write(lease, Batch { changes, saved: None, now: now.wall });
        }
        if let Some(ask) = self.asks.next() {
            self.put(lease, ask);
        } else if now.instant >= self.next_unseen {
            self.next_unseen = now.instant + UNSEEN;
            let ledger = self.ledger.clone();
            let before = now.wall.saturating_sub(self.unseen_after);
            self.under_way =
                Some(Box::pin(
                    async move { ledger.unseen(before).await.map_or(Answer::Nothing, Answer::Unseen) },
                ));
        }
    }

    fn put(&mut self, lease: Lease, ask: Ask) {
        self.under_way = Some(put(self.ledger.clone(), lease, ask, self.clock.clone()));
    }

    fn write(&mut self, lease: Lease, batch: Batch) {
        let ledger = self.ledger.clone();
        self.under_way = Some(Box::pin(async move {
            match ledger.commit(lease, batch).await {
                Ok(()) => Answer::Written(true),
                Err(LedgerError::Fenced) => Answer::Fenced,
                Err(LedgerError::Key(_) | LedgerError::Unavailable) => Answer::Written(false),
            }
        }));
    }

    /// Waits for the answer to the call that is under way.
    pub(super) async fn answer(&mut self) -> Answer {
        let Some(under_way) = &mut self.under_way else { return std::future::pending().await };
        let answer = under_way.as_mut().await;
        self.under_way = None;
        answer
    }

    /// Puts off the next call, as the last one failed.
    pub(super) fn pause(&mut self) {
        self.asks.hold();
        self.not_before = self.clock.instant() + RETRY;
    }

    /// Asks again what could not be answered, before all else.
    pub(super) fn again(&mut self, ask: Ask) {
        self.asks.put_back(ask);
        self.pause();
    }
}

/// Asks the ledger.
fn put(ledger: Ledger, lease: Lease, ask: Ask, clock: Clock) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let (ids, rows): (Vec<EventId>, _) = match &ask {
            Ask::HandOver(commands) => {
                let ids = commands.iter().map(|(id, _)| id.clone()).collect();
                (ids, ledger.hand_over(lease, commands.clone()).await)
            }
            Ask::Expire(ids) => (ids.clone(), ledger.expire(lease, ids.clone(), clock.wall()).await),
            Ask::Look(ids) => (ids.clone(), ledger.find(ids.clone()).await),
        };
        match rows {
            Ok(rows) => Answer::Rows(ids, rows),
            Err(LedgerError::Fenced) => Answer::Fenced,
            Err(LedgerError::Key(_) | LedgerError::Unavailable) => Answer::Failed(ask),
        }
    })
}
