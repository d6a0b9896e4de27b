//! Reads a log from its beginning, and says what that took: of a subscription of the product, whoever it belongs to.

use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use common::BoxFuture;
use common::channel::{
    Channel, Cursor, EventSource, Flow, Place, Record, RecordHandler, SourceError, Start, Subscription,
};

use crate::pace::now;
use crate::process::own_processor_time;

/// Of so many records one is not counted: some are read before anybody asks for them.
const UNCOUNTED: usize = 20;

/// How long all records may take to come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Counts records, and says when the last has come.
#[derive(Debug)]
pub(crate) struct Count {
    pub(crate) seen: usize,
    first: usize,
    last: usize,
    began: Option<(Instant, Duration)>,
}

/// What was counted, in how long, and how much of a processor it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) records: usize,
    pub(crate) time: Duration,
    pub(crate) processor_time: Duration,
}

impl Counted {
    /// Returns how long a processor was at work for a record.
    pub(crate) fn each(&self) -> Duration {
        self.processor_time.div_f64(self.records as f64)
    }
}

impl Count {
    /// Counts up to `records`.
    pub(crate) fn new(records: usize) -> Self {
        Self { seen: 0, first: records / UNCOUNTED, last: records, began: None }
    }

    /// Counts one.
    ///
    /// # Errors
    /// Fails if the system does not say how long this process ran.
    pub(crate) fn one(&mut self) -> anyhow::Result<ControlFlow<Counted>> {
        self.seen += 1;
        if self.seen == self.first {
            self.began = Some((now(), own_processor_time()?));
        }
        let Some((began, spent)) = self.began.filter(|_| self.seen == self.last) else {
            return Ok(ControlFlow::Continue(()));
        };
        let (time, processor_time) = (now() - began, own_processor_time()? - spent);
        Ok(ControlFlow::Break(Counted { records: self.last - self.first, time, processor_time }))
    }
}

/// Lets a reader begin, and waits for it.
#[derive(Debug)]
pub(crate) struct Reading {
    go: SyncSender<()>,
    counted: Receiver<anyhow::Result<Counted>>,
}

impl Reading {
    /// Lets the reader begin, and waits until it has read all; the thread is blocked until then.
    ///
    /// # Errors
    /// Fails if the records do not come.
    pub(crate) fn finish(self) -> anyhow::Result<Counted> {
        self.go.send(())?;
        self.counted.recv_timeout(PATIENCE).context("not all records came")?
    }
}

/// Begins its only subscription at the earliest record when it is told to, and counts.
pub(crate) struct FromEarliest {
    source: Arc<dyn EventSource>,
    gate: Mutex<Option<Gate>>,
}

/// When a subscription may begin, and what is told when it has read all.
struct Gate {
    ready: Receiver<()>,
    done: SyncSender<anyhow::Result<Counted>>,
    count: Count,
}

impl FromEarliest {
    /// Reads `records` of a source.
    pub(crate) fn new(source: Arc<dyn EventSource>, records: usize) -> (Self, Reading) {
        let (go, ready) = mpsc::sync_channel(1);
        let (done, counted) = mpsc::sync_channel(1);
        let gate = Gate { ready, done, count: Count::new(records) };
        (Self { source, gate: Mutex::new(Some(gate)) }, Reading { go, counted })
    }
}

impl EventSource for FromEarliest {
    fn subscribe(
        &self,
        channels: &[Channel],
        _start: Start,
        handler: Box<dyn RecordHandler>,
    ) -> BoxFuture<'_, Result<Subscription, SourceError>> {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(gate) = gate else { return Box::pin(async { Err(SourceError::Unsupported) }) };
        self.source.subscribe(channels, Start::Earliest, Box::new(Counting { handler, gate }))
    }

    fn cursor_behind(&self, places: &[(Channel, Vec<Option<Place>>)]) -> Result<Cursor, SourceError> {
        self.source.cursor_behind(places)
    }
}

struct Counting {
    handler: Box<dyn RecordHandler>,
    gate: Gate,
}

impl RecordHandler for Counting {
    fn record(&mut self, record: &dyn Record) -> Flow {
        if self.gate.count.seen == 0 && self.gate.ready.recv().is_err() {
            return Flow::Stop;
        }
        let flow = self.handler.record(record);
        let counted = match self.gate.count.one() {
            Ok(ControlFlow::Continue(())) => return flow,
            Ok(ControlFlow::Break(counted)) => Ok(counted),
            Err(error) => Err(error),
        };
        // Whoever does not wait any more does not want to know.
        drop(self.gate.done.send(counted));
        Flow::Stop
    }

    fn interrupted(&mut self, error: &SourceError) -> Flow {
        self.handler.interrupted(error)
    }
}
