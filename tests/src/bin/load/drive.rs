//! Drives connections: sends requests at their pace, pipelined, and measures how long answers take.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::task::LocalSet;

use crate::histogram::Histogram;
use crate::pace::{Pace, Span, now};
use crate::wire::Wire;

/// How long the last answers may take after the last request.
const DRAIN: Duration = Duration::from_secs(20);

/// What was measured on some connections together.
#[derive(Debug)]
pub(crate) struct Stats {
    span: Span,
    /// Requests that were accepted within the span.
    pub(crate) accepted: u64,
    /// Requests that were accepted, whenever.
    pub(crate) accepted_in_all: u64,
    /// Requests that got another answer, whenever.
    pub(crate) refused: u64,
    /// From the time at which a request should have been sent to its answer.
    pub(crate) latency: Histogram,
}

impl Stats {
    /// Starts with nothing.
    pub(crate) fn new(span: Span) -> RefCell<Self> {
        RefCell::new(Self {
            span,
            accepted: 0,
            accepted_in_all: 0,
            refused: 0,
            latency: Histogram::default(),
        })
    }

    fn answered(&mut self, intended: Instant, now: Instant, accepted: bool) {
        if !accepted {
            self.refused += 1;
            return;
        }
        self.accepted_in_all += 1;
        if self.span.counts(now) {
            self.accepted += 1;
        }
        if self.span.counts(intended) {
            self.latency.record(now - intended);
        }
    }

    /// Returns the accepted requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.accepted as f64 / self.span.seconds()
    }
}

/// Runs a generator on this thread alone: what is cheapest on a machine that the server needs too.
///
/// # Errors
/// Fails as the generator does.
pub(crate) fn run<T>(generator: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, generator)
}

/// One connection at work, with at most `window` requests under way.
#[derive(Debug)]
pub(crate) struct Lane<W> {
    wire: W,
    pace: Pace,
    window: usize,
    under_way: VecDeque<Instant>,
    output: Vec<u8>,
    input: Vec<u8>,
}

impl<W: Wire> Lane<W> {
    /// Makes a connection that has sent nothing yet.
    pub(crate) fn new(wire: W, pace: Pace, window: usize) -> Self {
        Self { wire, pace, window, under_way: VecDeque::new(), output: Vec::new(), input: Vec::new() }
    }

    /// Sends until the pace ends, and returns once all is answered.
    ///
    /// # Errors
    /// Fails if the connection breaks, the server breaks the protocol, or the last answers do not come.
    pub(crate) async fn drive(mut self, mut stream: TcpStream, stats: &RefCell<Stats>) -> anyhow::Result<()> {
        let (mut reader, mut writer) = stream.split();
        loop {
            let more = self.fill();
            // A window of small requests fits into the socket's buffers, so this does not wait for the server to read.
            writer.write_all(&self.output).await?;
            self.output.clear();
            if !more && self.under_way.is_empty() {
                return Ok(());
            }
            let room = more && self.under_way.len() < self.window;
            tokio::select! {
                read = reader.read_buf(&mut self.input) => {
                    if read? == 0 {
                        bail!("the server closed the connection");
                    }
                    self.take_answers(stats)?;
                }
                beat = next_beat(&mut self.pace), if room => {
                    if let Some(intended) = beat {
                        self.request(intended);
                    }
                }
                () = tokio::time::sleep(DRAIN), if !more => {
                    bail!("{} requests were not answered within {DRAIN:?}", self.under_way.len());
                }
            }
        }
    }

    /// Prepares the requests that are due and fit. Returns whether more will come.
    fn fill(&mut self) -> bool {
        while self.under_way.len() < self.window {
            let due = match &mut self.pace {
                Pace::Closed(end) => Some(now()).filter(|now| *now < *end).ok_or(false),
                Pace::Open(times) => times.try_recv().map_err(|error| error == TryRecvError::Empty),
            };
            match due {
                Ok(intended) => self.request(intended),
                Err(more) => return more,
            }
        }
        true
    }

    fn request(&mut self, intended: Instant) {
        self.wire.request(intended, &mut self.output);
        self.under_way.push_back(intended);
    }

    fn take_answers(&mut self, stats: &RefCell<Stats>) -> anyhow::Result<()> {
        let (now, mut stats) = (now(), stats.borrow_mut());
        let mut taken = 0;
        while let Some(answer) = self.wire.answer(&self.input[taken..])? {
            taken += answer.len;
            let intended = self.under_way.pop_front().context("an answer to nothing")?;
            stats.answered(intended, now, answer.accepted);
        }
        self.input.drain(..taken);
        Ok(())
    }
}

/// Waits for the next time to send, forever if the pace has none.
async fn next_beat(pace: &mut Pace) -> Option<Instant> {
    match pace {
        Pace::Closed(_) => std::future::pending().await,
        Pace::Open(times) => times.recv().await,
    }
}
