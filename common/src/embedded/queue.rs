//! The bounded queue between the publishers and the writer.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Gauge, gauge};
use tokio::sync::oneshot;

use super::row::Row;
use crate::channel::PublishError;

/// The bytes that share one transaction at most, unless one row alone has more.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// Resolves once a row is committed, or is known not to be.
pub(super) type Receipt = oneshot::Receiver<Result<(), PublishError>>;

/// A row that waits for the writer, and the publisher that waits for the row.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) row: Row,
    pub(super) publisher: oneshot::Sender<Result<(), PublishError>>,
}

/// What the writer finds when it asks for work.
#[derive(Debug)]
pub(super) enum Work {
    /// Rows to write, in order.
    Batch(Vec<Pending>),
    /// Nothing came in time.
    Idle,
    /// The queue is empty and takes no more.
    Closed,
}

/// A queue bounded in events and in bytes.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    max_events: usize,
    max_bytes: usize,
    max_batch: usize,
    depth: Gauge,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Pending>,
    bytes: usize,
    /// The writer sleeps; only then a publisher has to wake it, which costs a system call.
    writer_sleeps: bool,
    closed: bool,
}

/// Says that the log takes no more events.
pub(super) fn closed() -> PublishError {
    PublishError::Unavailable("the log is closed".into())
}

impl Queue {
    pub(super) fn new(max_events: usize, max_bytes: usize, max_batch: usize) -> Self {
        let depth = gauge!("drogue_log_queue_depth");
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            max_events,
            max_bytes,
            max_batch: max_batch.max(1),
            depth,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a row its place in the order.
    pub(super) fn push(&self, row: Row) -> Result<Receipt, PublishError> {
        let (publisher, receipt) = oneshot::channel();
        let size = row.size();
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        let full = state.waiting.len() >= self.max_events || state.bytes + size > self.max_bytes;
        // An event larger than the whole bound passes alone.
        if full && !state.waiting.is_empty() {
            return Err(PublishError::Overloaded);
        }
        state.bytes += size;
        state.waiting.push_back(Pending { row, publisher });
        if std::mem::take(&mut state.writer_sleeps) {
            drop(state);
            self.filled.notify_one();
        }
        Ok(receipt)
    }

    /// Takes what waits, up to one batch; waits up to `patience` for the first row.
    pub(super) fn take(&self, patience: Duration) -> Work {
        let mut state = self.lock();
        if state.waiting.is_empty() && !state.closed {
            state.writer_sleeps = true;
            let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
            state = self
                .filled
                .wait_timeout_while(state, patience, idle)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.writer_sleeps = false;
        }
        if state.waiting.is_empty() {
            return if state.closed { Work::Closed } else { Work::Idle };
        }
        Work::Batch(self.drain(&mut state))
    }

    fn drain(&self, state: &mut State) -> Vec<Pending> {
        let mut bytes = 0;
        let fitting = state.waiting.iter().take(self.max_batch).take_while(|pending| {
            bytes += pending.row.size();
            bytes <= MAX_BATCH_BYTES
        });
        let count = fitting.count().max(1);
        let batch: Vec<_> = state.waiting.drain(..count).collect();
        state.bytes -= batch.iter().map(|pending| pending.row.size()).sum::<usize>();
        self.depth.set(state.waiting.len() as f64);
        batch
    }

    /// Refuses further rows. What waits is still handed out.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        drop(state);
        self.filled.notify_all();
    }

    /// Refuses further rows and fails those that wait.
    pub(super) fn abandon(&self) {
        self.close();
        let mut state = self.lock();
        state.bytes = 0;
        // Dropping the senders resolves the publishers' futures.
        state.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Channel;
    use crate::event::example;

    const NOW: Duration = Duration::ZERO;

    fn row() -> Row {
        Row::encode(Channel::Telemetry, &example())
    }

    fn taken(queue: &Queue) -> usize {
        match queue.take(NOW) {
            Work::Batch(batch) => batch.len(),
            Work::Idle | Work::Closed => 0,
        }
    }

    #[test]
    fn it_is_bounded_in_events_and_recovers() {
        let queue = Queue::new(2, usize::MAX, 100);
        assert!(queue.push(row()).is_ok());
        assert!(queue.push(row()).is_ok());
        assert_eq!(queue.push(row()).err(), Some(PublishError::Overloaded));
        assert_eq!(taken(&queue), 2);
        assert!(queue.push(row()).is_ok());
    }

    #[test]
    fn it_is_bounded_in_bytes_but_takes_one_of_any_size() {
        let queue = Queue::new(100, 1, 100);
        assert!(queue.push(row()).is_ok());
        assert_eq!(queue.push(row()).err(), Some(PublishError::Overloaded));
        assert_eq!(taken(&queue), 1);
        assert!(queue.push(row()).is_ok());
    }

    #[test]
    fn a_batch_is_bounded() {
        let queue = Queue::new(100, usize::MAX, 2);
        let _receipts: Vec<_> = (0..3).map(|_| queue.push(row())).collect();
        assert_eq!((taken(&queue), taken(&queue), taken(&queue)), (2, 1, 0));
    }

    #[test]
    fn what_waits_when_it_closes_is_still_taken() {
        let queue = Queue::new(100, usize::MAX, 100);
        let _receipt = queue.push(row());
        queue.close();
        assert!(matches!(queue.push(row()), Err(PublishError::Unavailable(_))));
        assert_eq!(taken(&queue), 1);
        assert!(matches!(queue.take(NOW), Work::Closed));
    }
}
