//! What was told of commands, held against what their devices saw (`docs/events.md`, "Outcomes").

use std::collections::{BTreeMap, HashMap, HashSet};

use common::outcome::{Confirmation, Reason, State};

use crate::kafka::Record;

/// An outcome, as an independent reader found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The event's id.
    pub id: String,
    /// The command's name, which no other command has.
    pub command: String,
    /// What it says.
    pub state: State,
    /// Why.
    pub reason: Option<Reason>,
    /// How a delivery is known.
    pub confirmation: Option<Confirmation>,
}

impl Told {
    /// Reads a record of the channel `outcomes`. One that is none of its events is `None`.
    pub fn of_record(record: &Record) -> Option<Self> {
        let state = record.header("ce_type").strip_prefix("io.drogue.command.")?.strip_suffix(".v1")?;
        Some(Self {
            id: record.header("ce_id").to_owned(),
            command: record.header("ce_subject").to_owned(),
            state: State::from_name(state)?,
            reason: Reason::from_name(record.header("ce_reason")),
            confirmation: Confirmation::from_name(record.header("ce_confirmation")),
        })
    }

    /// Tells whether it says that the device never saw the command.
    fn is_never_seen(&self) -> bool {
        match self.state {
            State::Expired | State::Cancelled | State::Superseded => true,
            State::Undelivered => matches!(self.reason, Some(Reason::NotConnected | Reason::Overflow)),
            State::Accepted | State::Pending | State::Delivered | State::Replied => false,
        }
    }

    fn in_words(&self) -> String {
        let reason = self.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let confirmation = self.confirmation.map(|how| format!(": {how}")).unwrap_or_default();
        format!("{}{reason}{confirmation}", self.state)
    }
}

/// What was told of each command, in the order of the channel and without repeats.
#[derive(Debug, Default)]
pub(super) struct Book<'a>(HashMap<&'a str, Vec<&'a Told>>);

impl<'a> Book<'a> {
    pub(super) fn new(told: &'a [Told]) -> Self {
        let (mut book, mut seen) = (Self::default(), HashSet::new());
        for one in told.iter().filter(|one| seen.insert(one.id.as_str())) {
            book.0.entry(&one.command).or_default().push(one);
        }
        book
    }

    fn of(&self, command: &str) -> &[&'a Told] {
        self.0.get(command).map_or(&[], Vec::as_slice)
    }

    /// Returns the state that counts: of two final ones the first, but for a reply to what was delivered.
    pub(super) fn end(&self, command: &str) -> Option<&'a Told> {
        let mut end: Option<&Told> = None;
        for told in self.of(command) {
            if end.is_none_or(|end| end.state.admits(told.state)) {
                end = Some(told);
            }
        }
        end.filter(|end| end.state.is_settled())
    }

    /// Tells whether the command is said not to have reached its device.
    pub(super) fn says_undelivered(&self, command: &str) -> bool {
        self.end(command).is_some_and(|end| end.state == State::Undelivered)
    }

    /// Returns how often a device may have received the command: once, and once more for each attempt of which it is
    /// said that it may have succeeded.
    pub(super) fn may_have_come(&self, command: &str) -> usize {
        let unknown = |told: &&&Told| {
            told.state == State::Pending
                && matches!(told.reason, Some(Reason::NoAck | Reason::ConnectionLost))
        };
        1 + self.of(command).iter().filter(unknown).count()
    }

    /// Returns all that was told of a command.
    pub(super) fn in_words(&self, command: &str) -> String {
        self.of(command).iter().map(|one| one.in_words()).collect::<Vec<_>>().join(", ")
    }

    /// Judges one command. `received`: its device saw it. `accepted`: somebody was told that it was accepted.
    pub(super) fn judge(&self, command: &str, received: bool, accepted: bool) -> Vec<String> {
        let (told, end) = (self.of(command), self.end(command));
        let words = || self.in_words(command);
        let mut faults = Vec::new();
        if end.is_none() && (accepted || received) {
            faults.push(format!("untold: {command} has no end; told: [{}]", words()));
        }
        let seen = received || told.iter().any(|one| matches!(one.state, State::Delivered | State::Replied));
        if seen && told.iter().any(|one| one.is_never_seen()) {
            faults.push(format!(
                "contradicted: {command} reached its device ({received}); told: [{}]",
                words()
            ));
        }
        let acknowledged = |one: &&Told| one.confirmation == Some(Confirmation::Puback);
        if !received && told.iter().any(acknowledged) {
            faults.push(format!("claimed: {command} was not received; told: [{}]", words()));
        }
        let settled = told.iter().filter(|one| one.state.is_settled() && one.state != State::Replied);
        let different: HashSet<_> = settled.filter(|one| one.is_never_seen()).map(|one| one.state).collect();
        if different.len() > 1 {
            faults.push(format!("two ends: {command}; told: [{}]", words()));
        }
        faults
    }

    /// Counts the ends of commands.
    pub(super) fn count<'b>(&self, commands: impl Iterator<Item = &'b str>) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for command in commands {
            let end = self.end(command).map_or_else(|| "none".to_owned(), Told::in_words);
            *counts.entry(end).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(state: State, attempt: u32) -> Told {
        let id = format!("{state}.{attempt}");
        Told { id, command: "c".to_owned(), state, reason: None, confirmation: None }
    }

    fn undelivered(reason: Reason) -> Told {
        Told { reason: Some(reason), ..told(State::Undelivered, 1) }
    }

    fn delivered() -> Told {
        Told { confirmation: Some(Confirmation::Puback), ..told(State::Delivered, 1) }
    }

    fn faults(told: &[Told], received: bool) -> Vec<String> {
        let faults = Book::new(told).judge("c", received, true);
        faults.into_iter().map(|fault| fault.split(':').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn what_fits_has_no_fault() {
        let pending = told(State::Pending, 1);
        assert!(faults(&[pending.clone(), delivered(), delivered()], true).is_empty());
        assert!(faults(&[pending, told(State::Expired, 1)], false).is_empty());
        assert!(faults(&[delivered(), told(State::Replied, 1)], true).is_empty());
        for received in [false, true] {
            assert!(faults(&[undelivered(Reason::ConnectionLost)], received).is_empty());
        }
        assert!(faults(&[undelivered(Reason::NoAck), delivered()], true).is_empty(), "learnt of late");
    }

    #[test]
    fn each_fault_is_found() {
        assert_eq!(faults(&[], false), ["untold"]);
        assert_eq!(faults(&[told(State::Pending, 1)], true), ["untold"]);
        assert_eq!(faults(&[delivered()], false), ["claimed"]);
        let never =
            [undelivered(Reason::NotConnected), undelivered(Reason::Overflow), told(State::Expired, 1)];
        for never in never {
            assert_eq!(faults(std::slice::from_ref(&never), true), ["contradicted"]);
            assert_eq!(faults(&[delivered(), never], true), ["contradicted"]);
        }
        let both = [told(State::Expired, 1), told(State::Cancelled, 1)];
        assert_eq!(faults(&both, false), ["two ends"]);
    }

    #[test]
    fn a_command_may_come_again_after_an_attempt_that_may_have_succeeded() {
        let again = |reason| Told { reason: Some(reason), ..told(State::Pending, 2) };
        for (reason, times) in [(Reason::NoAck, 2), (Reason::Overflow, 1)] {
            let told = [told(State::Pending, 1), again(reason)];
            assert_eq!(Book::new(&told).may_have_come("c"), times);
        }
    }

    #[test]
    fn of_two_ends_the_first_counts_but_for_a_reply() {
        let told = [undelivered(Reason::NoAck), delivered()];
        assert_eq!(Book::new(&told).end("c"), Some(&told[0]));
        let told = [delivered(), super::tests::told(State::Replied, 1)];
        assert_eq!(Book::new(&told).end("c"), Some(&told[1]));
    }
}
