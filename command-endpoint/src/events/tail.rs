//! The end of a subscription: it chooses events and writes them into the pipe to the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::channel::{Flow, Record, RecordHandler, SourceError};
use common::event::Malformed;
use metrics::counter;

use super::filter::Filter;
use super::frame;
use super::pipe::Writer;

/// Asks for a position when no event brings one, so that a client of a quiet device does not fall behind retention.
#[derive(Debug, Clone, Default)]
pub(super) struct PositionRequest(Arc<AtomicBool>);

impl PositionRequest {
    /// Asks for the position of the next record, whosever it is.
    pub(super) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Tells whether somebody has asked since the last call.
    fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

/// Takes the records of a stream's subscription.
#[derive(Debug)]
pub(super) struct Tail {
    filter: Filter,
    writer: Writer,
    asked: PositionRequest,
}

impl Tail {
    pub(super) fn new(filter: Filter, writer: Writer, asked: PositionRequest) -> Self {
        Self { filter, writer, asked }
    }

    fn write(&self, frame: &[u8]) -> Flow {
        if self.writer.write(frame) { Flow::Continue } else { Flow::Stop }
    }

    /// Returns the message of a record, if it is in the stream.
    fn message(&self, record: &dyn Record) -> Option<serde_json::Result<Vec<u8>>> {
        if !self.filter.admits_key(record.key()) {
            return None;
        }
        match record.event() {
            Ok(event) => self.filter.admits(&event).then(|| frame::event(&record.cursor(), &event)),
            Err(malformed) => {
                skip(record, &malformed);
                None
            }
        }
    }
}

fn skip(record: &dyn Record, malformed: &Malformed) {
    let channel = record.channel().as_str();
    counter!("drogue_records_malformed_total", "channel" => channel).increment(1);
    tracing::debug!(channel, error = %malformed, position = record.cursor().0, "malformed record skipped");
}

impl RecordHandler for Tail {
    fn record(&mut self, record: &dyn Record) -> Flow {
        match self.message(record) {
            Some(Ok(message)) => self.write(&message),
            // It cannot be left out silently.
            Some(Err(error)) => {
                tracing::error!(%error, "a stream was ended, an event cannot be written as JSON");
                Flow::Stop
            }
            None if self.asked.take() => self.write(&frame::position(&record.cursor())),
            None => Flow::Continue,
        }
    }

    /// Ends the stream, for it would have a gap: the client resumes, and is then told what is gone.
    fn interrupted(&mut self, error: &SourceError) -> Flow {
        self.write(&frame::comment(&format!("the stream ends: {error}")));
        Flow::Stop
    }
}
