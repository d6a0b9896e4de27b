//! Copies the write-ahead log into the file, beside the writer rather than on its way.
//!
//! A checkpoint beside a busy writer never reaches the end, and only at the end the write-ahead log starts anew. So when
//! it has grown long, the writer copies the small rest itself, between two batches.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;

use super::link::{Access, Link};

/// How much the write-ahead log takes between two checkpoints. While one is on its way to the disk, commits are slower;
/// without one the log grows, and a commit that makes a file longer is slower than one that overwrites.
const INTERVAL_BYTES: u64 = 8 << 20;
/// About what a commit writes beside its rows: each page that it touches is written whole.
const COMMIT_BYTES: u64 = 16 << 10;
/// How many pages the write-ahead log has when the writer is asked to finish the checkpoint.
const LONG_PAGES: i64 = 8 << 10;

/// The writer's side of the checkpoint thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Checkpointer {
    due: Option<SyncSender<()>>,
    finish: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    written: u64,
}

impl Checkpointer {
    pub(super) fn start(path: PathBuf) -> std::io::Result<Self> {
        let finish = Arc::new(AtomicBool::new(false));
        let (due, wakes) = sync_channel(1);
        let task = {
            let finish = finish.clone();
            move || serve(&path, &wakes, &finish)
        };
        let thread = thread::Builder::new().name("log-checkpoint".into()).spawn(task)?;
        Ok(Self { due: Some(due), finish, thread: Some(thread), written: 0 })
    }

    /// Notes what the rows of a batch take, and copies the rest of a long write-ahead log.
    pub(super) fn wrote(&mut self, bytes: u64, link: &mut Link) {
        self.written += bytes + COMMIT_BYTES;
        if self.written >= INTERVAL_BYTES
            && let Some(due) = &self.due
            // Full means that the thread has been told already.
            && due.try_send(()).is_ok()
        {
            self.written = 0;
        }
        if self.finish.swap(false, Ordering::AcqRel)
            && let Err(error) = link.attempt(|connection| checkpoint(connection))
        {
            report(&error);
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.due = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's checkpoint thread had panicked");
        }
    }
}

fn serve(path: &Path, wakes: &Receiver<()>, finish: &AtomicBool) {
    let mut link = Link::new(path, Access::Write);
    while wakes.recv().is_ok() {
        match link.attempt(|connection| checkpoint(connection)) {
            Ok(pages) => finish.store(pages >= LONG_PAGES, Ordering::Release),
            Err(error) => report(&error),
        }
    }
}

/// Copies what no reader needs any more. Returns how many pages the write-ahead log has.
fn checkpoint(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |row| row.get(1))
}

fn report(error: &rusqlite::Error) {
    tracing::warn!(%error, "a checkpoint of the log failed, it is tried again");
}
