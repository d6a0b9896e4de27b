//! Bytes on their way from a thread that may block to a task that may not.
//!
//! The writer waits while the pipe is full, so that a slow reader slows its own subscription and nothing else, and
//! takes no more memory than the pipe's capacity and one frame.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// Makes a pipe that holds `capacity` bytes, and one more frame.
pub(super) fn pipe(capacity: usize) -> (Writer, Reader) {
    let shared =
        Arc::new(Shared { capacity, state: Mutex::default(), room: Condvar::new(), filled: Notify::new() });
    (Writer(shared.clone()), Reader(shared))
}

#[derive(Debug)]
struct Shared {
    capacity: usize,
    state: Mutex<State>,
    /// Wakes the writer.
    room: Condvar,
    /// Wakes the reader.
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    buffer: Vec<u8>,
    is_written: bool,
    is_abandoned: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that blocks.
#[derive(Debug)]
pub(super) struct Writer(Arc<Shared>);

impl Writer {
    /// Adds a frame; blocks while the pipe is full. Returns false if nobody reads any more.
    pub(super) fn write(&self, frame: &[u8]) -> bool {
        let is_full = |state: &mut State| state.buffer.len() >= self.0.capacity && !state.is_abandoned;
        let state = self.0.room.wait_while(self.0.lock(), is_full);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.is_abandoned {
            return false;
        }
        state.buffer.extend_from_slice(frame);
        drop(state);
        self.0.filled.notify_one();
        true
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.lock().is_written = true;
        self.0.filled.notify_one();
    }
}

/// The end that waits.
#[derive(Debug)]
pub(super) struct Reader(Arc<Shared>);

impl Reader {
    /// Waits for bytes, and takes all that are there: whole frames. Returns `None` behind the last.
    pub(super) async fn read(&mut self) -> Option<Bytes> {
        loop {
            if let Some(taken) = self.take() {
                return taken;
            }
            // A frame that was written since is remembered: this returns at once.
            self.0.filled.notified().await;
        }
    }

    /// Returns what is there, `Some(None)` at the end, and `None` if there will be more.
    fn take(&self) -> Option<Option<Bytes>> {
        let mut state = self.0.lock();
        if !state.buffer.is_empty() {
            let taken = std::mem::take(&mut state.buffer);
            drop(state);
            self.0.room.notify_one();
            return Some(Some(taken.into()));
        }
        state.is_written.then_some(None)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.lock().is_abandoned = true;
        self.0.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::thread;

    use common::testing::PATIENCE;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn frames_come_whole_in_order_and_to_the_end() {
        let (writer, mut reader) = pipe(10);
        let thread = thread::spawn(move || (0..1_000).all(|i| writer.write(format!("{i:04}").as_bytes())));
        let mut read = Vec::new();
        while let Some(bytes) = timeout(PATIENCE, reader.read()).await.unwrap() {
            assert!(bytes.len() <= 10 + 4 && bytes.len() % 4 == 0, "{bytes:?}");
            read.extend_from_slice(&bytes);
        }
        let expected: String = (0..1_000).map(|i| format!("{i:04}")).collect();
        assert_eq!(read, expected.as_bytes());
        assert!(thread.join().unwrap());
    }

    #[test]
    fn a_blocked_writer_is_freed_when_the_reader_goes() {
        let (writer, reader) = pipe(1);
        assert!(writer.write(b"full"));
        let (told, freed) = sync_channel(1);
        thread::spawn(move || told.send(writer.write(b"blocked")));
        drop(reader);
        assert_eq!(freed.recv_timeout(PATIENCE), Ok(false));
    }
}
