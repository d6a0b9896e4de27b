//! What the writer, the publishers and the subscriptions of one log share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, ThreadId};

use super::cursor::Position;
use super::queue::Queue;
use super::schema::Found;
use crate::channel::Channel;

/// The state of an open log. No file is touched through it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) id: String,
    pub(super) queue: Queue,
    /// The last committed position.
    last: AtomicI64,
    /// The last committed position in each channel.
    newest: [AtomicI64; Channel::ALL.len()],
    readers: Mutex<Vec<Sleeper>>,
    closed: AtomicBool,
}

/// A subscription's thread, which sleeps while its channels are quiet.
#[derive(Debug)]
struct Sleeper {
    channels: Vec<Channel>,
    thread: Thread,
}

impl Shared {
    pub(super) fn new(path: PathBuf, queue: Queue, found: Found) -> Self {
        Self {
            path,
            id: found.id,
            queue,
            last: found.last.into(),
            newest: found.newest.map(Into::into),
            readers: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Sleeper>> {
        // Nothing panics between two changes, so a poisoned list is whole.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a commit known: `newest` holds the last position in each channel that it touched.
    pub(super) fn committed(&self, last: Position, newest: [Option<Position>; Channel::ALL.len()]) {
        for (known, position) in self.newest.iter().zip(newest) {
            if let Some(position) = position {
                known.store(position, Ordering::Release);
            }
        }
        self.last.store(last, Ordering::Release);
        for reader in self.readers().iter() {
            if reader.channels.iter().any(|channel| newest[*channel as usize].is_some()) {
                // Costs one atomic operation where the thread does not sleep.
                reader.thread.unpark();
            }
        }
    }

    /// Returns the last committed position.
    pub(super) fn last(&self) -> Position {
        self.last.load(Ordering::Acquire)
    }

    /// Returns the last committed position in any of the channels.
    pub(super) fn newest(&self, channels: &[Channel]) -> Position {
        let newest = |channel: &Channel| self.newest[*channel as usize].load(Ordering::Acquire);
        channels.iter().map(newest).max().unwrap_or(0)
    }

    /// Has this thread woken by commits to the channels until the guard is dropped.
    pub(super) fn wake_me(&self, channels: &[Channel]) -> WakeGuard<'_> {
        let thread = thread::current();
        let id = thread.id();
        self.readers().push(Sleeper { channels: channels.into(), thread });
        WakeGuard { shared: self, id }
    }

    /// Ends all subscriptions.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.readers().iter().for_each(|reader| reader.thread.unpark());
    }

    /// Tells whether the log is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// Keeps a thread on the list of those to wake.
#[derive(Debug)]
pub(super) struct WakeGuard<'a> {
    shared: &'a Shared,
    id: ThreadId,
}

impl Drop for WakeGuard<'_> {
    fn drop(&mut self) {
        self.shared.readers().retain(|reader| reader.thread.id() != self.id);
    }
}
