//! Tells a session's task that it was woken from outside its connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// A waker that remembers that it was called.
///
/// A session is polled for each batch of packets; the tables of sessions and connections, which are shared with other
/// threads, need a look only when they have called this.
pub(crate) struct Signal {
    raised: AtomicBool,
    task: Waker,
}

impl Signal {
    /// Makes a raised signal that wakes `task`.
    pub(crate) fn new(task: Waker) -> Arc<Self> {
        Arc::new(Self { raised: AtomicBool::new(true), task })
    }

    /// Tells whether the signal was raised, and lowers it.
    pub(crate) fn take(&self) -> bool {
        // Lowered before the tables are looked at: what comes after that look raises it again.
        self.raised.load(Ordering::Acquire) && self.raised.swap(false, Ordering::AcqRel)
    }

    /// Tells whether it wakes this task.
    pub(crate) fn wakes(&self, task: &Waker) -> bool {
        self.task.will_wake(task)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raised.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}
