//! A log of what was done and seen from outside, and a judge who knows nothing of the product.
//!
//! The judge says what went wrong (lost, duplicated, reordered, late, delivered to a stranger, or told otherwise than it
//! was), and for each command that did not arrive, why it need not have.

mod calm;
mod outcomes;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use calm::Strikes;
use outcomes::Book;
pub use outcomes::Told;

/// Milliseconds since the Unix epoch, on the clock that the servers have too.
pub type Millis = u128;

/// Reads the clock.
#[expect(clippy::disallowed_methods, reason = "the judge has a clock of its own")]
pub fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis()
}

/// What an application was told of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// 202.
    Accepted,
    /// An error, or none: the command may be in the channel.
    Doubtful,
}

/// Something that was done or seen, in the order of its `at` for each actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// An application sent a command, under a name that no other has. One application sends those of a device in turn.
    Sent {
        /// Who it is for.
        device: String,
        /// Its name.
        command: String,
        /// Whether it is kept while its device is away. One that is not may overtake those that are.
        kept: bool,
        /// When the request began.
        at: Millis,
        /// From when on it must not be delivered, at the latest.
        expires: Millis,
        /// What the application was told.
        answer: Answer,
    },
    /// A device was told that it is connected. Connections have numbers that rise.
    Connected {
        /// The device.
        device: String,
        /// The connection.
        connection: u64,
        /// When it was told.
        at: Millis,
    },
    /// A device saw its connection end.
    Disconnected {
        /// The device.
        device: String,
        /// The connection.
        connection: u64,
        /// When it saw it.
        at: Millis,
    },
    /// A device received a command.
    Received {
        /// The device.
        device: String,
        /// The connection.
        connection: u64,
        /// The command's name.
        command: String,
        /// When.
        at: Millis,
    },
    /// Telemetry was accepted, under a subject that no other has.
    Accepted {
        /// The device.
        device: String,
        /// The subject.
        subject: String,
    },
    /// Something was broken, and mended.
    Struck {
        /// When it was broken.
        at: Millis,
        /// From when on nothing of it is to be felt any more.
        until: Millis,
    },
}

/// The log, to which many actors write.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Mutex<Vec<Operation>>>);

impl History {
    /// Adds an operation.
    pub fn note(&self, operation: Operation) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }

    /// Returns all operations.
    pub fn operations(&self) -> Vec<Operation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts the operations that are meant.
    pub fn count(&self, is_meant: impl Fn(&Operation) -> bool) -> usize {
        let operations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        operations.iter().filter(|operation| is_meant(operation)).count()
    }

    /// Tells whether each command that was accepted has an end by what was told.
    pub fn is_settled_by(&self, told: &[Told]) -> bool {
        let book = Book::new(told);
        let settled = |operation: &Operation| {
            let Operation::Sent { command, answer: Answer::Accepted, .. } = operation else { return true };
            book.end(command).is_some()
        };
        self.operations().iter().all(settled)
    }
}

/// What an independent reader found in the telemetry channel: device and subject of each record, in order.
pub type Kept = Vec<(String, String)>;

/// What an independent reader found in the channels.
#[derive(Debug, Default)]
pub struct Found {
    /// The telemetry.
    pub telemetry: Kept,
    /// What was told of commands. None at all: that is not judged.
    pub outcomes: Option<Vec<Told>>,
}

/// The judgement.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What must not be, each in words.
    pub faults: Vec<String>,
    /// How many commands, of those that were accepted, had to arrive. The fewer, the less the judgement says.
    pub due: usize,
    /// How many commands did what.
    pub commands: BTreeMap<&'static str, usize>,
    /// What was told of how many commands in the end.
    pub outcomes: BTreeMap<String, usize>,
    /// How much telemetry did what.
    pub telemetry: BTreeMap<&'static str, usize>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "commands: {:?}; {} were due", self.commands, self.due)?;
        writeln!(f, "outcomes: {:?}", self.outcomes)?;
        writeln!(f, "telemetry: {:?}", self.telemetry)?;
        writeln!(f, "faults: {}", self.faults.len())?;
        self.faults.iter().try_for_each(|fault| writeln!(f, "  {fault}"))
    }
}

#[derive(Debug)]
struct Command<'a> {
    device: &'a str,
    at: Millis,
    expires: Millis,
    answer: Answer,
    kept: bool,
    /// Its place among those that were sent to the device.
    place: usize,
    received: Vec<(u64, Millis)>,
}

#[derive(Debug, Default)]
struct Spans<'a>(HashMap<&'a str, BTreeMap<u64, (Millis, Option<Millis>)>>);

impl Spans<'_> {
    /// Tells whether a device held one connection from before a command was sent until it was due.
    fn cover(&self, command: &Command<'_>, due: Millis) -> bool {
        let spans = self.0.get(command.device).into_iter().flat_map(BTreeMap::values);
        spans.into_iter().any(|(from, to)| *from < command.at && to.is_none_or(|to| to >= due))
    }

    fn overlap(&self, command: &Command<'_>) -> bool {
        let spans = self.0.get(command.device).into_iter().flat_map(BTreeMap::values);
        spans.into_iter().any(|(from, to)| *from < command.expires && to.is_none_or(|to| to > command.at))
    }
}

/// Judges a history, once everything that was to arrive has had its time.
///
/// A command must have arrived within `patience` at a device that held one connection all that time. Time in which
/// something was broken does not count: how long it takes to break and mend things, and how often it happens in a row,
/// says nothing of the product, and may take a command's whole life on a machine that is busy.
pub fn judge(operations: &[Operation], found: &Found, patience: Duration) -> Verdict {
    let mut verdict = Verdict::default();
    let (mut commands, spans, strikes) = collect(operations);
    for operation in operations {
        if let Operation::Received { device, connection, command, at } = operation {
            match commands.get_mut(command.as_str()) {
                None => {
                    verdict.faults.push(format!("invented: {device} received {command}, which nobody sent"))
                }
                Some(sent) if sent.device != device => {
                    verdict.faults.push(format!("stranger: {device} received {command} for {}", sent.device));
                }
                Some(sent) => sent.received.push((*connection, *at)),
            }
        }
    }
    let book = found.outcomes.as_deref().map(Book::new);
    for (name, command) in &commands {
        let due = strikes.due(command.at, command.expires, patience.as_millis());
        let due = due.is_some_and(|due| spans.cover(command, due));
        judge_command(name, command, due, &spans, book.as_ref(), &mut verdict);
        let (received, accepted) = (!command.received.is_empty(), command.answer == Answer::Accepted);
        verdict.faults.extend(book.iter().flat_map(|book| book.judge(name, received, accepted)));
    }
    let accepted = commands.iter().filter(|(_, command)| command.answer == Answer::Accepted);
    verdict.outcomes = book.map(|book| book.count(accepted.map(|(name, _)| *name))).unwrap_or_default();
    judge_order(operations, &commands, &mut verdict);
    judge_telemetry(operations, &found.telemetry, &mut verdict);
    verdict.faults.sort();
    verdict
}

fn collect(operations: &[Operation]) -> (HashMap<&str, Command<'_>>, Spans<'_>, Strikes) {
    let (mut commands, mut spans, mut strikes) = (HashMap::new(), Spans::default(), Vec::new());
    let mut places: HashMap<&str, usize> = HashMap::new();
    for operation in operations {
        match operation {
            Operation::Sent { device, command, kept, at, expires, answer } => {
                let next = places.entry(device).or_default();
                let (place, received) = (*next, Vec::new());
                *next += 1;
                let (at, expires, answer, kept) = (*at, *expires, *answer, *kept);
                let sent = Command { device, at, expires, answer, kept, place, received };
                commands.insert(command.as_str(), sent);
            }
            Operation::Connected { device, connection, at } => {
                spans.0.entry(device).or_default().entry(*connection).or_insert((*at, None));
            }
            Operation::Disconnected { device, connection, at } => {
                // A wait may be over before anybody was told that it had begun.
                let span = spans.0.entry(device).or_default().entry(*connection).or_insert((*at, None));
                span.1 = Some(*at);
            }
            Operation::Struck { at, until } => strikes.push((*at, *until)),
            Operation::Received { .. } | Operation::Accepted { .. } => {}
        }
    }
    (commands, spans, Strikes::new(strikes))
}

fn judge_command(
    name: &str,
    command: &Command<'_>,
    due: bool,
    spans: &Spans<'_>,
    book: Option<&Book<'_>>,
    verdict: &mut Verdict,
) {
    let device = command.device;
    if command.received.len() > book.map_or(1, |book| book.may_have_come(name)) {
        let times = &command.received;
        verdict.faults.push(format!("duplicated: {device} received {name} on (connection, time) {times:?}"));
    }
    if let Some((_, at)) = command.received.iter().find(|(_, at)| *at >= command.expires) {
        verdict
            .faults
            .push(format!("late: {device} received {name} {} ms after its end", at - command.expires));
    }
    let outcome = match (command.received.is_empty(), command.answer) {
        (false, Answer::Accepted) => "accepted, received",
        (false, Answer::Doubtful) => "in doubt, received",
        (true, Answer::Doubtful) => "in doubt, not received",
        (true, Answer::Accepted) if due && book.is_some_and(|book| book.says_undelivered(name)) => {
            "accepted, reported undelivered though the device was connected all the time"
        }
        (true, Answer::Accepted) if due => {
            let (from, told) = (command.at, book.map(|book| book.in_words(name)).unwrap_or_default());
            verdict.faults.push(format!(
                "lost: {device} was connected all the time and did not receive {name}, of {from}; told: [{told}]"
            ));
            "accepted, lost"
        }
        (true, Answer::Accepted) if spans.overlap(command) => {
            "accepted, not received: a connection ended or began meanwhile"
        }
        (true, Answer::Accepted) => "accepted, not received: the device was away",
    };
    verdict.due += usize::from(due && command.answer == Answer::Accepted);
    *verdict.commands.entry(outcome).or_default() += 1;
}

/// On one connection, commands come in the order in which they were sent: those that are kept, and those that are not.
fn judge_order(operations: &[Operation], commands: &HashMap<&str, Command<'_>>, verdict: &mut Verdict) {
    let mut last: HashMap<(&str, u64, bool), (usize, &str)> = HashMap::new();
    let mut seen = HashSet::new();
    for operation in operations {
        let Operation::Received { device, connection, command, .. } = operation else { continue };
        let Some(sent) = commands.get(command.as_str()) else { continue };
        // A command in doubt may have been overtaken on its way to the channel by one that was sent after it.
        // One that comes again, with good reason or not, has had its place.
        if sent.answer == Answer::Doubtful || !seen.insert(command) {
            continue;
        }
        let before = last.insert((device, *connection, sent.kept), (sent.place, command));
        if let Some((place, earlier)) = before.filter(|(place, _)| *place > sent.place) {
            verdict.faults.push(format!(
                "reordered: {device} received {command} ({}) behind {earlier} ({place})",
                sent.place
            ));
        }
    }
}

fn judge_telemetry(operations: &[Operation], kept: &Kept, verdict: &mut Verdict) {
    let found: HashSet<_> =
        kept.iter().map(|(device, subject)| (device.as_str(), subject.as_str())).collect();
    let mut accepted = 0;
    for operation in operations {
        let Operation::Accepted { device, subject } = operation else { continue };
        accepted += 1;
        if !found.contains(&(device.as_str(), subject.as_str())) {
            verdict
                .faults
                .push(format!("lost: telemetry {subject} of {device} was accepted and is not in the topic"));
        }
    }
    verdict.telemetry.insert("accepted", accepted);
    verdict.telemetry.insert("in the topic", kept.len());
    verdict.telemetry.insert("in the topic more than once", kept.len() - found.len());
}

#[cfg(test)]
mod tests;
