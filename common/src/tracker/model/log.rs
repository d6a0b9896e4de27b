//! The two logs of one partition, the clock, and what devices saw.

use std::time::{Duration, Instant};

use crate::channel::Place;
use crate::command::Command;
use crate::connections::Now;
use crate::id::{ConnectionRef, DeviceKey, EventId};
use crate::outcome::Transition;
use crate::records::OrderRecord;
use crate::time::Timestamp;

/// What is published.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Command(Command, Timestamp),
    Record(DeviceKey, OrderRecord),
    Outcome(Transition),
}

/// A device saw a command.
#[derive(Debug, Clone)]
pub(super) struct Saw {
    pub(super) command: EventId,
    pub(super) attempt: u32,
    pub(super) in_time: bool,
    /// Its replica was called dead after the command was given to it, and had been silent for as long as it takes.
    pub(super) lapsed: bool,
}

#[derive(Debug)]
pub(super) struct Log {
    start: Instant,
    pub(super) millis: u64,
    pub(super) commands: Vec<Item>,
    /// When each of them came.
    times: Vec<u64>,
    pub(super) outcomes: Vec<Transition>,
    /// In the order in which it happened.
    pub(super) saws: Vec<Saw>,
    pub(super) trace: Vec<String>,
}

impl Log {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other origin; only differences are used"
    )]
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            millis: 0,
            commands: Vec::new(),
            times: Vec::new(),
            outcomes: Vec::new(),
            saws: Vec::new(),
            trace: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Now {
        Now { instant: self.start + Duration::from_millis(self.millis), wall: self.wall() }
    }

    pub(super) fn wall(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000 + i64::try_from(self.millis).unwrap())
    }

    pub(super) fn note(&mut self, what: String) {
        self.trace.push(format!("{:>7} {what}", self.millis));
    }

    pub(super) fn append(&mut self, by: &str, item: Item) {
        match item {
            Item::Outcome(outcome) => {
                let reason = outcome.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                self.note(format!("outcomes[{}] {}{reason} by {by}", self.outcomes.len() + 1, outcome.id()));
                self.outcomes.push(outcome);
            }
            Item::Command(..) | Item::Record(..) => {
                if !matches!(&item, Item::Record(_, OrderRecord::Alive(_))) {
                    let place = self.commands.len() + 1;
                    self.note(format!("commands[{place}] {} by {by}", describe(&item)));
                }
                self.commands.push(item);
                self.times.push(self.millis);
            }
        }
    }

    pub(super) fn saw(&mut self, command: &Command, attempt: u32, connection: &ConnectionRef, read: usize) {
        let at = format!("{}/{}", connection.incarnation, connection.connection.0);
        self.note(format!("{} saw {} (attempt {attempt}) at {at}", command.device, command.id));
        let in_time = !command.is_expired(self.wall());
        let lapsed = self.has_lapsed(&connection.incarnation, read);
        self.saws.push(Saw { command: command.id.clone(), attempt, in_time, lapsed });
    }

    /// Tells whether a replica that has read so far is called dead behind that, unless it came back just then.
    fn has_lapsed(&self, replica: &EventId, read: usize) -> bool {
        let is_lapsed = |item: &Item| matches!(item, Item::Record(_, OrderRecord::Lapsed(record)) if record.incarnation == *replica);
        let is_alive = |item: &Item| matches!(item, Item::Record(_, OrderRecord::Alive(record)) if record.incarnation == *replica);
        let Some(at) = self.commands[read..].iter().position(is_lapsed).map(|at| read + at) else {
            return false;
        };
        let alive = self.commands[..at].iter().rposition(is_alive).map_or(0, |alive| self.times[alive]);
        self.times[at] >= alive + super::endpoint::LAPSE_AFTER
    }
}

/// Where the record behind so many others lies.
pub(super) fn place(read: usize) -> Place {
    Place(u64::try_from(read).unwrap() + 1)
}

fn describe(item: &Item) -> String {
    let at = |id: &ConnectionRef| format!("{}/{}", id.incarnation, id.connection.0);
    match item {
        Item::Command(command, _) => {
            let kept = if command.kept { " kept" } else { "" };
            format!("{} command {}{kept}", command.device, command.id)
        }
        Item::Record(device, OrderRecord::Connected(record)) => {
            format!("{device} connected {} {:?} {:?}", at(&record.id), record.takes, record.client)
        }
        Item::Record(device, OrderRecord::Disconnected(record)) => {
            format!("{device} disconnected {}", at(&record.id))
        }
        Item::Record(device, OrderRecord::Released(record)) => {
            let given = &record.given;
            let reason = record.reason;
            format!("{device} released {}.{} {} {reason:?}", given.command, given.attempt, at(&record.id))
        }
        Item::Record(device, OrderRecord::Handover(record)) => {
            let names: Vec<_> =
                record.commands.iter().map(|given| format!("{}.{}", given.command, given.attempt)).collect();
            format!("{device} handover {} to {} epoch {}", names.join(" "), at(&record.id), record.epoch)
        }
        Item::Record(_, record) => format!("{record:?}"),
        Item::Outcome(outcome) => outcome.id().to_string(),
    }
}
