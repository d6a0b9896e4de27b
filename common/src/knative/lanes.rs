//! The order of events on their way out: those of one lane leave one after another, those of different lanes side by side.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::BoxFuture;

type Job = BoxFuture<'static, ()>;

/// Lanes of work. A lane is there as long as it has work.
#[derive(Clone)]
pub(super) struct Lanes<K> {
    waiting: Arc<Mutex<HashMap<K, VecDeque<Job>>>>,
}

impl<K: Clone + Eq + Hash + Send + 'static> Lanes<K> {
    pub(super) fn new() -> Self {
        Self { waiting: Arc::default() }
    }

    /// Does the work behind all that is in the lane already. Nobody needs to wait for it.
    pub(super) fn push(&self, lane: K, job: Job) {
        let mut waiting = self.lock();
        if let Some(behind) = waiting.get_mut(&lane) {
            behind.push_back(job);
            return;
        }
        waiting.insert(lane.clone(), VecDeque::new());
        drop(waiting);
        let lanes = self.clone();
        tokio::spawn(async move {
            let mut next = Some(job);
            while let Some(job) = next {
                job.await;
                next = lanes.next(&lane);
            }
        });
    }

    fn next(&self, lane: &K) -> Option<Job> {
        let mut waiting = self.lock();
        let next = waiting.get_mut(lane).and_then(VecDeque::pop_front);
        if next.is_none() {
            waiting.remove(lane);
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, VecDeque<Job>>> {
        // Held for these few lines only, none of which can leave it half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[tokio::test]
    async fn a_lane_keeps_its_order_and_waits_for_no_other() {
        let lanes = Lanes::new();
        let (done, mut order) = mpsc::channel(3);
        let job = |name: &'static str, gate: Option<oneshot::Receiver<()>>| -> Job {
            let done = done.clone();
            Box::pin(async move {
                if let Some(gate) = gate {
                    gate.await.unwrap();
                }
                done.try_send(name).unwrap();
            })
        };
        let (open, gate) = oneshot::channel();
        lanes.push(1, job("first", Some(gate)));
        lanes.push(1, job("second", None));
        lanes.push(2, job("other", None));
        assert_eq!(order.recv().await, Some("other"));
        open.send(()).unwrap();
        assert_eq!((order.recv().await, order.recv().await), (Some("first"), Some("second")));
        while !lanes.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}
