//! What the logs say, on its way to the trackers of the partitions.

use std::thread;
use std::time::Duration;

use common::channel::{Channel, Flow, Place, Record, RecordHandler, SourceError};
use common::command::Command;
use common::event::{COMMAND_TYPE, Event, Malformed};
use common::id::DeviceKey;
use common::outcome::Transition;
use common::records::OrderRecord;
use common::time::Timestamp;
use common::tracker::Recorded;
use metrics::counter;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::mark;

/// How long the reader waits for a tracker that is behind.
const PAUSE: Duration = Duration::from_millis(1);

/// What a tracker reads.
#[derive(Debug)]
pub(super) enum Item {
    /// A command, and when it was accepted.
    Command(Box<Command>, Timestamp, Place),
    /// A record of connections.
    Record(Box<Recorded>),
    /// An outcome.
    Outcome(Box<Transition>, Place),
    /// A mark of a channel: whatever was there when the mark's writer began is read.
    Mark(Channel, mark::Mark),
    /// Records were missed.
    Gap,
}

/// Hands each record to the tracker of its partition. While that is busy the reader waits.
pub(super) struct Feed {
    pub(super) trackers: Vec<Sender<Item>>,
    /// How long a command lives that says nothing about it.
    pub(super) lifetime: Duration,
}

impl RecordHandler for Feed {
    fn record(&mut self, record: &dyn Record) -> Flow {
        let at = usize::try_from(record.partition().0).ok();
        let Some(tracker) = at.and_then(|at| self.trackers.get(at)) else { return Flow::Continue };
        match record.event().and_then(|event| self.read(event, record.channel(), record.place())) {
            Ok(Some(item)) => hand(tracker, item),
            Ok(None) => Flow::Continue,
            Err(error) => {
                // A device endpoint counts it if it is for one of its devices; this counts all.
                counter!("drogue_tracker_malformed_total", "channel" => record.channel().as_str())
                    .increment(1);
                tracing::debug!(%error, position = record.cursor().0, "malformed record skipped");
                Flow::Continue
            }
        }
    }

    fn interrupted(&mut self, error: &SourceError) -> Flow {
        tracing::error!(%error, "the trackers were interrupted");
        match error {
            SourceError::Gone => {
                let mut tell = self.trackers.iter().map(|tracker| hand(tracker, Item::Gap));
                if tell.all(|flow| flow == Flow::Continue) { Flow::Continue } else { Flow::Stop }
            }
            SourceError::InvalidCursor | SourceError::Unsupported | SourceError::Unavailable(_) => {
                Flow::Continue
            }
        }
    }
}

impl Feed {
    /// Reads what concerns the trackers. Types that are not known are for others.
    fn read(&self, event: Event, channel: Channel, place: Place) -> Result<Option<Item>, Malformed> {
        if let Some(mark) = mark::read(&event) {
            return Ok(Some(Item::Mark(channel, mark)));
        }
        if channel == Channel::Outcomes {
            return Ok(Transition::from_event(event)?.map(|outcome| Item::Outcome(Box::new(outcome), place)));
        }
        if event.kind == COMMAND_TYPE {
            if event.device == DeviceKey::all() {
                return Err(Malformed::KeyMismatch);
            }
            let accepted = event.time;
            let command = Command::from_event(event, self.lifetime)?;
            return Ok(Some(Item::Command(Box::new(command), accepted, place)));
        }
        let record = OrderRecord::from_event(&event)?;
        let (id, device, time) = (event.id, event.device, event.time);
        Ok(record.map(|record| Item::Record(Box::new(Recorded { id, device, place, time, record }))))
    }
}

/// Hands an item over; waits while the tracker's queue is full. This is a thread that may wait.
fn hand(tracker: &Sender<Item>, mut item: Item) -> Flow {
    loop {
        match tracker.try_send(item) {
            Ok(()) => return Flow::Continue,
            Err(TrySendError::Full(back)) => item = back,
            Err(TrySendError::Closed(_)) => return Flow::Stop,
        }
        thread::sleep(PAUSE);
    }
}
