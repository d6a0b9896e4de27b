//! A replica that runs a tracker: what a shell does, one thing at a time.

use std::collections::VecDeque;

use super::ledger::{Ledger, MAX_PENDING};
use super::log::{Item, Log, place};
use crate::tracker::{Effect, PartitionTracker, Recorded, Settings};

#[derive(Debug)]
pub(super) struct TrackerReplica {
    number: usize,
    pub(super) tracker: PartitionTracker,
    pub(super) commands: usize,
    pub(super) outcomes: usize,
    pub(super) outbox: VecDeque<Item>,
    asks: VecDeque<Effect>,
    pub(super) paused: bool,
    /// Until when it does not ask for the lease: it gave that up.
    yields: u64,
    unseen: u64,
    starts: u64,
}

fn settings() -> Settings {
    Settings { max_pending: MAX_PENDING, batch_commands: 3, ..Settings::default() }
}

impl TrackerReplica {
    /// Starts one that has read nothing; `from` is where the log begins for it.
    pub(super) fn new(number: usize, log: &Log, from_beginning: bool) -> Self {
        let tracker = PartitionTracker::new(settings(), from_beginning);
        let from = if from_beginning { (0, 0) } else { (log.commands.len(), log.outcomes.len()) };
        Self::of(number, tracker, from)
    }

    fn of(number: usize, tracker: PartitionTracker, (commands, outcomes): (usize, usize)) -> Self {
        let (outbox, asks) = (VecDeque::new(), VecDeque::new());
        Self {
            number,
            tracker,
            commands,
            outcomes,
            outbox,
            asks,
            paused: false,
            yields: 0,
            unseen: 0,
            starts: 0,
        }
    }

    /// Starts it anew, from what the ledger has. `first`: the log's beginning, for one that was never saved.
    pub(super) fn restart(&mut self, ledger: &Ledger, log: &Log, first: (usize, usize), forgets: bool) {
        let complete = first == (0, 0);
        let (tracker, from) = match &ledger.saved {
            Some(snapshot) => {
                let form = serde_json::to_vec(snapshot).unwrap();
                let snapshot: crate::tracker::Snapshot = serde_json::from_slice(&form).unwrap();
                let from = snapshot.places();
                let read = |place: Option<crate::channel::Place>| place.map(|place| place.0 as usize);
                let from = (read(from.commands).unwrap_or(first.0), read(from.outcomes).unwrap_or(first.1));
                let snapshot = if forgets { snapshot.forgotten() } else { snapshot };
                (PartitionTracker::restore(settings(), snapshot, ledger.load(), log.now()), from)
            }
            None => (PartitionTracker::new(settings(), complete), first),
        };
        let starts = self.starts + 1;
        *self = Self { starts, ..Self::of(self.number, tracker, from) };
    }

    fn name(&self) -> String {
        format!("t{}.{}", self.number, self.starts)
    }

    pub(super) fn read(&mut self, commands: usize, outcomes: usize, log: &Log) {
        let now = log.now();
        for _ in 0..commands {
            let Some(item) = log.commands.get(self.commands).cloned() else { break };
            let place = place(self.commands);
            self.commands += 1;
            match item {
                Item::Command(command, accepted) => {
                    self.tracker.handle_command(command, accepted, place, now)
                }
                Item::Record(device, record) => {
                    let id = format!("event-{}", place.0).parse().unwrap();
                    self.tracker.handle_record(Recorded { id, device, place, time: log.wall(), record }, now);
                }
                Item::Outcome(_) => {}
            }
        }
        for _ in 0..outcomes {
            let Some(outcome) = log.outcomes.get(self.outcomes).cloned() else { break };
            let place = place(self.outcomes);
            self.outcomes += 1;
            self.tracker.handle_outcome(outcome, place, now);
        }
    }

    /// Does what is due, and takes effects.
    pub(super) fn turn(&mut self, log: &mut Log) {
        self.tracker.handle_timeout(log.now());
        while let Some(effect) = self.tracker.poll_effect() {
            match effect {
                Effect::Tell(outcome) => self.outbox.push_back(Item::Outcome(*outcome)),
                Effect::Record { device, record } => self.outbox.push_back(Item::Record(device, record)),
                Effect::Submit { command, accepted } => {
                    self.outbox.push_back(Item::Command(*command, accepted))
                }
                ask @ (Effect::HandOver(_) | Effect::Expire(_) | Effect::Look(_)) => self.asks.push_back(ask),
            }
        }
    }

    /// Takes the lease, or renews it.
    pub(super) fn lease(&mut self, ledger: &mut Ledger, log: &mut Log) {
        let now = log.millis;
        match self.tracker.epoch() {
            Some(epoch) if ledger.renew(self.number, epoch, now) => {}
            Some(_) => self.stop(),
            None if self.yields > now => {}
            None => {
                if let Some(epoch) = ledger.acquire(self.number, now) {
                    log.note(format!("{} takes the lease, epoch {epoch}", self.name()));
                    self.asks.clear();
                    self.tracker.begin_acting(epoch, ledger.load(), log.now());
                }
            }
        }
        if self.tracker.epoch().is_none() {
            self.tracker.handle_saved(ledger.places());
        }
    }

    fn stop(&mut self) {
        self.tracker.stop_acting();
        self.asks.clear();
    }

    /// Writes what changed.
    pub(super) fn commit(&mut self, checkpoint: bool, ledger: &mut Ledger, log: &Log) {
        let Some(epoch) = self.tracker.epoch() else { return };
        let (snapshot, changes) = if checkpoint {
            let (snapshot, changes) = self.tracker.checkpoint(log.now());
            (Some(snapshot), changes)
        } else {
            (None, self.tracker.changes())
        };
        let written = ledger.commit(epoch, changes, snapshot).is_ok();
        self.tracker.handle_written(written);
        if !written {
            self.stop();
        }
    }

    /// Asks the ledger what is to be asked.
    pub(super) fn ask(&mut self, ledger: &mut Ledger, log: &Log) {
        let Some(epoch) = self.tracker.epoch() else { return };
        for ask in &self.asks {
            let Effect::Look(ids) = ask else { continue };
            let rows = ledger.look(ids.iter());
            self.tracker.handle_rows(ids, rows, log.now());
        }
        self.commit(false, ledger, log);
        while let Some(ask) = self.asks.pop_front() {
            let (ids, rows) = match ask {
                Effect::HandOver(asked) => {
                    let rows = ledger.hand_over(epoch, &asked);
                    (asked.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), rows)
                }
                Effect::Expire(ids) => {
                    let rows = ledger.expire(epoch, &ids, log.wall());
                    (ids, rows)
                }
                Effect::Look(_) | Effect::Tell(_) | Effect::Record { .. } | Effect::Submit { .. } => continue,
            };
            match rows {
                Ok(rows) => self.tracker.handle_rows(&ids, rows, log.now()),
                Err(_) => return self.stop(),
            }
        }
        if self.unseen <= log.millis {
            self.unseen = log.millis + 5_000;
            let before = log.wall().as_millis() - 20_000;
            let rows = ledger.unseen(crate::time::Timestamp::from_millis(before));
            self.tracker.handle_unseen(rows, log.now());
        }
    }

    pub(super) fn flush(&mut self, most: usize, log: &mut Log) {
        let name = self.name();
        for _ in 0..most {
            let Some(item) = self.outbox.pop_front() else { break };
            log.append(&name, item);
        }
    }

    /// Loses sight of a record that it published, which may still come into the log.
    pub(super) fn doubt(&mut self, ledger: &mut Ledger, log: &mut Log) -> Option<Item> {
        let at = self.outbox.iter().position(|item| matches!(item, Item::Record(..)))?;
        let item = self.outbox.remove(at);
        // What was begun after it comes after it, or not at all; outcomes are published again and again.
        self.outbox.retain(|item| matches!(item, Item::Outcome(_)));
        log.note(format!("{} does not know of {item:?}", self.name()));
        self.stop();
        ledger.give_up(self.number);
        self.yields = log.millis + 100;
        item
    }
}
