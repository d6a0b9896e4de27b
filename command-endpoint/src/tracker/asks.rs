//! What the ledger is to be asked, in the order in which it is.

use std::collections::VecDeque;

use common::id::EventId;

/// So many commands are asked of the ledger at once.
const MOST: usize = 500;

/// What is asked of the ledger.
#[derive(Debug, PartialEq)]
pub(super) enum Ask {
    /// To give commands to the tracker, for an attempt.
    HandOver(Vec<(EventId, u32)>),
    /// To end commands that lapsed.
    Expire(Vec<EventId>),
    /// For rows as they are.
    Look(Vec<EventId>),
}

/// Questions that wait.
///
/// What they are about is to be written before they are put. There may always be something new to write, so each has
/// its turn when that is written which there was to write when it came: not only when nothing is left.
#[derive(Debug, Default)]
pub(super) struct Asks {
    queue: VecDeque<Ask>,
    /// How many of the first have their turn.
    due: usize,
}

impl Asks {
    /// Takes a question; those of one kind that follow on each other are asked at once.
    pub(super) fn push(&mut self, ask: Ask) {
        let last = self.queue.len().checked_sub(1).filter(|last| *last >= self.due);
        match (last.and_then(|last| self.queue.get_mut(last)), ask) {
            (Some(Ask::HandOver(last)), Ask::HandOver(more)) if last.len() < MOST => last.extend(more),
            (Some(Ask::Expire(last)), Ask::Expire(more)) if last.len() < MOST => last.extend(more),
            (Some(Ask::Look(last)), Ask::Look(more)) if last.len() < MOST => last.extend(more),
            (_, ask) => self.queue.push_back(ask),
        }
    }

    /// Takes a question back that could not be answered: it is the first again.
    pub(super) fn put_back(&mut self, ask: Ask) {
        self.queue.push_front(ask);
        self.hold();
    }

    /// Returns the first question, if it has its turn. One for rows as they are always has.
    pub(super) fn next(&mut self) -> Option<Ask> {
        if self.due == 0 && !matches!(self.queue.front(), Some(Ask::Look(_))) {
            return None;
        }
        self.due = self.due.saturating_sub(1);
        self.queue.pop_front()
    }

    /// Gives all that wait their turn: what there is to write will have been written.
    pub(super) fn release(&mut self) {
        self.due = self.queue.len();
    }

    /// Takes their turn from all: what there was to write was not written.
    pub(super) fn hold(&mut self) {
        self.due = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hand_over(id: &str) -> Ask {
        Ask::HandOver(vec![(id.parse().unwrap(), 1)])
    }

    #[test]
    fn what_came_later_waits_for_the_next_changes() {
        let mut asks = Asks::default();
        asks.push(hand_over("one"));
        assert_eq!(asks.next(), None, "what it is about may not be written");
        asks.release();
        asks.push(hand_over("two"));
        assert_eq!(asks.next(), Some(hand_over("one")), "alone, though the next is of its kind");
        assert_eq!(asks.next(), None);
        asks.release();
        assert_eq!(asks.next(), Some(hand_over("two")));
        assert!(asks.is_empty());
    }

    #[test]
    fn those_of_one_kind_are_asked_at_once() {
        let mut asks = Asks::default();
        asks.push(hand_over("one"));
        asks.push(hand_over("two"));
        asks.push(Ask::Expire(vec!["three".parse().unwrap()]));
        asks.release();
        let both = vec![("one".parse().unwrap(), 1), ("two".parse().unwrap(), 1)];
        assert_eq!(asks.next(), Some(Ask::HandOver(both)));
        asks.put_back(hand_over("four"));
        assert_eq!(asks.next(), None, "a failure takes their turn from all");
    }

    #[test]
    fn a_look_waits_for_nothing() {
        let mut asks = Asks::default();
        asks.push(Ask::Look(vec!["one".parse().unwrap()]));
        asks.push(hand_over("two"));
        assert_eq!(asks.next(), Some(Ask::Look(vec!["one".parse().unwrap()])));
        assert_eq!(asks.next(), None);
    }
}
