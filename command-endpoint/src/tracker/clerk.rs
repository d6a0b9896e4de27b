//! The calls of the ledger for one partition: one after another, in the order that the tracker asks for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::BoxFuture;
use common::channel::Partition;
use common::connections::Now;
use common::id::EventId;
use common::ledger::{Batch, Lease, Ledger, LedgerError, Loaded, Saved};
use common::service::Clock;
use common::tracker::{PartitionTracker, Places, Row};

/// How often changes are written.
const FLUSH: Duration = Duration::from_millis(50);
/// How often the connections are written.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// How often commands are looked for that the log lacks.
const UNSEEN: Duration = Duration::from_secs(5);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// So many commands are asked of the ledger at once.
const MOST: usize = 500;

/// What is asked of the ledger.
#[derive(Debug)]
pub(super) enum Ask {
    /// To give commands to the tracker, for an attempt.
    HandOver(Vec<(EventId, u32)>),
    /// To end commands that lapsed.
    Expire(Vec<EventId>),
    /// For rows as they are.
    Look(Vec<EventId>),
}

/// What the ledger said.
#[derive(Debug)]
pub(super) enum Answer {
    /// What it has of the partition, for a charge that begins.
    Loaded(Lease, Loaded),
    /// That cannot be read now.
    NotLoaded(Lease),
    /// Up to where the connections are written.
    Saved(Places),
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

/// Calls the ledger for one partition.
pub(super) struct Clerk {
    ledger: Ledger,
    clock: Clock,
    unseen_after: Duration,
    /// Each with the write that must be done before.
    asks: VecDeque<(u64, Ask)>,
    under_way: Option<BoxFuture<'static, Answer>>,
    /// How many writes were begun.
    begun: u64,
    /// The last of them that was done: by it, so was all before.
    done: u64,
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
            asks: VecDeque::new(),
            under_way: None,
            begun: 0,
            done: 0,
            next_flush: now,
            next_checkpoint: now + CHECKPOINT,
            next_unseen: now,
            not_before: now,
        }
    }

    /// Takes a question; those of one kind that follow on each other are asked at once.
    pub(super) fn ask(&mut self, ask: Ask) {
        // What is changed now is in the next write that is begun.
        let behind = self.begun + 1;
        let last = self.asks.back_mut().filter(|(write, _)| *write == behind);
        match (last.map(|(_, last)| last), ask) {
            (Some(Ask::HandOver(last)), Ask::HandOver(more)) if last.len() < MOST => last.extend(more),
            (Some(Ask::Expire(last)), Ask::Expire(more)) if last.len() < MOST => last.extend(more),
            (Some(Ask::Look(last)), Ask::Look(more)) if last.len() < MOST => last.extend(more),
            (_, ask) => self.asks.push_back((behind, ask)),
        }
    }

    /// Forgets what was asked, and what is under way.
    pub(super) fn clear(&mut self) {
        self.asks.clear();
        self.under_way = None;
    }

    /// Reads what the ledger has of the partition, of which this replica has just taken charge. Nothing may be under way.
    pub(super) fn load(&mut self, lease: Lease) {
        let ledger = self.ledger.clone();
        self.under_way = Some(Box::pin(async move {
            match ledger.load(lease.partition).await {
                Ok(loaded) => Answer::Loaded(lease, loaded),
                Err(error) => {
                    tracing::warn!(%error, partition = lease.partition.0, "cannot take charge");
                    Answer::NotLoaded(lease)
                }
            }
        }));
    }

    /// Asks how far whoever has charge has come, if nothing is under way.
    pub(super) fn look(&mut self, partition: Partition) {
        let ledger = self.ledger.clone();
        self.under_way.get_or_insert_with(|| {
            Box::pin(async move { ledger.saved(partition).await.map_or(Answer::Nothing, Answer::Saved) })
        });
    }

    /// Returns when [`Clerk::begin`] may have something to do. `None`: when it is answered.
    pub(super) fn due(&self) -> Option<Instant> {
        let next = if self.asks.is_empty() { self.next_flush } else { self.not_before };
        self.under_way.is_none().then(|| next.max(self.not_before))
    }

    /// Begins the next call, if it is time and none is under way.
    pub(super) fn begin(&mut self, tracker: &mut PartitionTracker, lease: Lease) {
        let now = self.clock.now();
        if self.under_way.is_some() || now.instant < self.not_before {
            return;
        }
        if let Some(ask) = self.next_ask() {
            self.put(lease, ask);
        } else if now.instant >= self.next_unseen {
            self.find_unseen(now);
        } else if !self.asks.is_empty() || now.instant >= self.next_flush {
            self.flush(tracker, lease, now);
        }
    }

    /// Begins to write all that must outlive this process. Nothing may be under way.
    pub(super) fn checkpoint(&mut self, tracker: &mut PartitionTracker, lease: Lease) {
        let now = self.clock.now();
        self.next_checkpoint = now.instant + CHECKPOINT;
        let (snapshot, changes) = tracker.checkpoint(now);
        let bytes = postcard::to_allocvec(&snapshot).map(Bytes::from);
        let saved = bytes.map(|bytes| Saved { bytes, places: snapshot.places() });
        let saved = saved.inspect_err(|error| tracing::error!(%error, "a tracker's state has no form"));
        self.write(lease, Batch { changes, saved: saved.ok(), now: now.wall });
    }

    /// Takes the next question that may be asked now.
    fn next_ask(&mut self) -> Option<Ask> {
        // No row at all is an answer to a look: before anything is written.
        let look = self.asks.iter().position(|(_, ask)| matches!(ask, Ask::Look(_)));
        let first = || self.asks.front().filter(|(write, _)| *write <= self.done).map(|_| 0);
        let at = look.or_else(first)?;
        self.asks.remove(at).map(|(_, ask)| ask)
    }

    fn flush(&mut self, tracker: &mut PartitionTracker, lease: Lease, now: Now) {
        self.next_flush = now.instant + FLUSH;
        if now.instant >= self.next_checkpoint {
            return self.checkpoint(tracker, lease);
        }
        let changes = tracker.changes();
        if !changes.is_empty() {
            return self.write(lease, Batch { changes, saved: None, now: now.wall });
        }
        self.begun += 1;
        self.done = self.begun;
        if let Some(ask) = self.next_ask() {
            self.put(lease, ask);
        }
    }

    fn find_unseen(&mut self, now: Now) {
        self.next_unseen = now.instant + UNSEEN;
        let (ledger, before) = (self.ledger.clone(), now.wall.saturating_sub(self.unseen_after));
        self.under_way =
            Some(Box::pin(
                async move { ledger.unseen(before).await.map_or(Answer::Nothing, Answer::Unseen) },
            ));
    }

    fn put(&mut self, lease: Lease, ask: Ask) {
        self.under_way = Some(put(self.ledger.clone(), lease, ask, self.clock.clone()));
    }

    fn write(&mut self, lease: Lease, batch: Batch) {
        self.begun += 1;
        let ledger = self.ledger.clone();
        self.under_way = Some(Box::pin(async move {
            match ledger.commit(lease, batch).await {
                Ok(()) => Answer::Written(true),
                Err(LedgerError::Fenced) => Answer::Fenced,
                Err(LedgerError::Key(_) | LedgerError::Unavailable) => Answer::Written(false),
            }
        }));
    }

    /// Tells whether a call is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// Waits for the answer to the call that is under way.
    pub(super) async fn answer(&mut self) -> Answer {
        let Some(under_way) = &mut self.under_way else { return std::future::pending().await };
        let answer = under_way.as_mut().await;
        self.under_way = None;
        if let Answer::Written(true) = answer {
            self.done = self.begun;
        }
        answer
    }

    /// Puts off the next call, as the last one failed.
    pub(super) fn pause(&mut self) {
        self.not_before = self.clock.instant() + RETRY;
    }

    /// Asks again what could not be answered, before all else.
    pub(super) fn again(&mut self, ask: Ask) {
        self.asks.push_front((0, ask));
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
