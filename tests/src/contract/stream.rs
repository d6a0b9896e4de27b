//! A subscription whose records a check takes one by one.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::channel::{
    Channel, Cursor, EventSource, Flow, Record, RecordHandler, SourceError, Start, Subscription,
};
use common::event::Event;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a check waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A record as a handler saw it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) channel: Channel,
    pub(super) key: Vec<u8>,
    pub(super) event: Event,
    pub(super) cursor: Cursor,
}

/// Hands everything on. It blocks when the check does not take it, which a handler may.
struct Forward(mpsc::Sender<Result<Seen>>);

impl Forward {
    fn forward(&self, seen: Result<Seen>) -> Flow {
        match self.0.blocking_send(seen) {
            Ok(()) => Flow::Continue,
            Err(_) => Flow::Stop,
        }
    }
}

impl RecordHandler for Forward {
    fn record(&mut self, record: &dyn Record) -> Flow {
        let key = record.key().to_vec();
        let seen = record.event().map(|event| Seen {
            channel: record.channel(),
            key,
            event,
            cursor: record.cursor(),
        });
        self.forward(seen.context("malformed"))
    }

    fn interrupted(&mut self, error: &SourceError) -> Flow {
        self.forward(Err(error.clone().into()))
    }
}

/// A subscription and what it read.
#[derive(Debug)]
pub(super) struct Stream {
    seen: mpsc::Receiver<Result<Seen>>,
    pub(super) subscription: Subscription,
}

impl Stream {
    pub(super) async fn open(source: &dyn EventSource, channels: &[Channel], start: Start) -> Result<Self> {
        // One record beside the one in the handler's hands: a check that takes none blocks the handler.
        let (forward, seen) = mpsc::channel(1);
        let subscription = source.subscribe(channels, start, Box::new(Forward(forward))).await?;
        ensure!(subscription.is_live(), "a subscription that has started is live");
        Ok(Self { seen, subscription })
    }

    /// Waits for the next record.
    pub(super) async fn next(&mut self) -> Result<Seen> {
        timeout(PATIENCE, self.seen.recv())
            .await
            .context("no record came")?
            .context("the subscription ended")?
    }

    /// Waits for the next records.
    pub(super) async fn take(&mut self, count: usize) -> Result<Vec<Seen>> {
        let mut seen = Vec::new();
        while seen.len() < count {
            let next = self.next().await;
            seen.push(next.with_context(|| format!("after {} of {count} records", seen.len()))?);
        }
        Ok(seen)
    }

    /// Drops the subscription and waits until its handler was dropped too.
    pub(super) async fn close(mut self) -> Result<()> {
        drop(self.subscription);
        let drained = async { while self.seen.recv().await.is_some() {} };
        timeout(PATIENCE, drained).await.context("the handler was not dropped")
    }
}

/// Checks that exactly these events were seen, each once, and those of a device in their order.
pub(super) fn ensure_same(seen: &[Seen], expected: &[Event]) -> Result<()> {
    let sorted = |events: Vec<&Event>| {
        let mut events = events;
        // Stable, so that the order within a device stays.
        events.sort_by(|a, b| a.device.as_str().cmp(b.device.as_str()));
        events.into_iter().map(|event| (event.device.clone(), event.subject.clone())).collect::<Vec<_>>()
    };
    let seen = sorted(seen.iter().map(|seen| &seen.event).collect());
    let expected = sorted(expected.iter().collect());
    ensure!(seen == expected, "read {seen:?} instead of {expected:?}");
    Ok(())
}
