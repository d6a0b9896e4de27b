//! The commands that were sent, and how long they took to their devices.

use std::ops::Range;
use std::time::Instant;

use anyhow::Context;

use crate::histogram::Histogram;
use crate::pace::{Span, now};
use crate::report::Figure;

/// Where a command's payload has its number.
const NUMBER: Range<usize> = 6..16;

/// The commands that were sent, by number, and how long they took.
#[derive(Debug)]
pub(super) struct Ledger {
    span: Span,
    on_the_way: Vec<Option<Instant>>,
    latency: Histogram,
    delivered: u64,
    repeated: u64,
}

impl Ledger {
    pub(super) fn new(span: Span) -> Self {
        Self { span, on_the_way: Vec::new(), latency: Histogram::default(), delivered: 0, repeated: 0 }
    }

    /// Notes a command that is sent, and returns its number.
    pub(super) fn sent(&mut self, intended: Instant) -> usize {
        self.on_the_way.push(Some(intended));
        self.on_the_way.len() - 1
    }

    /// Notes that a device has a command.
    ///
    /// # Errors
    /// Fails if it was not sent.
    pub(super) fn delivered(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        let sent = number(payload).and_then(|number| self.on_the_way.get_mut(number));
        match sent.context("a command came that was not sent")?.take() {
            Some(intended) if self.span.counts(intended) => {
                self.latency.record(now() - intended);
                self.delivered += 1;
            }
            Some(_) => {}
            None => self.repeated += 1,
        }
        Ok(())
    }

    /// Returns how many commands of the counted time did not come.
    pub(super) fn missing(&self) -> usize {
        self.on_the_way.iter().flatten().filter(|intended| self.span.counts(**intended)).count()
    }

    /// Returns how many commands reached their devices, and in what time.
    pub(super) fn figure(&self, what: String) -> Figure {
        let note = match (self.missing(), self.repeated) {
            (0, 0) => String::new(),
            (missing, repeated) => format!("{missing} not delivered, {repeated} repeated"),
        };
        let rate = self.delivered as f64 / self.span.seconds();
        Figure::new(what, rate, "1/s").with_latency(&self.latency).with_note(note)
    }
}

/// Returns the payload of a command with a number.
pub(crate) fn body(number: usize) -> String {
    format!("{{\"n\":\"{number:010}\"}}")
}

/// Returns the number of a command, if it has one.
pub(crate) fn number(payload: &[u8]) -> Option<usize> {
    std::str::from_utf8(payload.get(NUMBER)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_command_is_counted_once() {
        let span = Span::new(Duration::ZERO, Duration::from_secs(60));
        let mut ledger = Ledger::new(span);
        assert_eq!((ledger.sent(span.start), ledger.sent(span.start)), (0, 1));
        ledger.delivered(body(1).as_bytes()).unwrap();
        ledger.delivered(body(1).as_bytes()).unwrap();
        assert_eq!((ledger.delivered, ledger.repeated, ledger.missing()), (1, 1, 1));
        assert!(ledger.delivered(body(2).as_bytes()).is_err());
        assert!(ledger.delivered(b"{}").is_err());
    }
}
