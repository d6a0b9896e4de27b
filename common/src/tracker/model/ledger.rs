//! The ledger as the model has it: rows, the lease, and what outlives a tracker.

use std::collections::BTreeMap;

use crate::id::EventId;
use crate::outcome::{State, Transition};
use crate::time::Timestamp;
use crate::tracker::{Change, Places, Row, Snapshot, Step, doubt};

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) rows: BTreeMap<EventId, Row>,
    pub(super) saved: Option<Snapshot>,
    epoch: u64,
    holder: Option<(usize, u64)>,
}

#[derive(Debug)]
pub(super) struct Fenced;

const LEASE: u64 = 5_000;
pub(super) const MAX_PENDING: usize = 4;

impl Ledger {
    pub(super) fn submit(&mut self, row: Row) -> bool {
        let of_device = |other: &&Row| other.device == row.device && other.kept && !other.state.is_settled();
        if row.kept && self.rows.values().filter(of_device).count() >= MAX_PENDING {
            return false;
        }
        self.rows.insert(row.id.clone(), row);
        true
    }

    /// Ends a row that waits, by compare and set.
    fn end(row: &mut Row, state: State, now: Timestamp) -> bool {
        if row.state.is_settled() || row.handed {
            return false;
        }
        let reason = doubt(&row.history);
        row.state = if reason.is_some() { State::Undelivered } else { state };
        row.reason = reason;
        let step = Step { state: row.state, attempt: row.attempt + 1, time: now, reason };
        row.history.push(step);
        true
    }

    pub(super) fn cancel(&mut self, id: &EventId, now: Timestamp) -> Option<Transition> {
        let row = self.rows.get_mut(id).filter(|row| row.kept)?;
        Self::end(row, State::Cancelled, now).then(|| Transition {
            command: id.clone(),
            device: row.device.clone(),
            name: row.name.clone(),
            attempt: row.attempt + 1,
            state: row.state,
            reason: row.reason,
            confirmation: None,
            time: now,
            cause: "api".parse().unwrap(),
            reply: None,
        })
    }

    pub(super) fn acquire(&mut self, holder: usize, now: u64) -> Option<u64> {
        if self.holder.is_some_and(|(_, until)| now < until) {
            return None;
        }
        self.epoch += 1;
        self.holder = Some((holder, now + LEASE));
        Some(self.epoch)
    }

    pub(super) fn renew(&mut self, holder: usize, epoch: u64, now: u64) -> bool {
        let held = self.epoch == epoch && self.holder.is_some_and(|(by, until)| by == holder && now < until);
        if held {
            self.holder = Some((holder, now + LEASE));
        }
        held
    }

    pub(super) fn give_up(&mut self, holder: usize) {
        self.holder = self.holder.filter(|(by, _)| *by != holder);
    }

    pub(super) fn load(&self) -> Vec<Row> {
        let open = self.rows.values().filter(|row| !row.state.is_settled() || !row.told);
        open.map(|row| Row { content: None, ..row.clone() }).collect()
    }

    pub(super) fn unseen(&self, accepted_before: Timestamp) -> Vec<Row> {
        let open = |row: &Row| if row.state.is_settled() { !row.told } else { row.place.is_none() };
        let unseen = |row: &&Row| open(row) && row.accepted < accepted_before;
        self.rows.values().filter(unseen).cloned().collect()
    }

    pub(super) fn commit(
        &mut self,
        epoch: u64,
        changes: Vec<Change>,
        snapshot: Option<Snapshot>,
    ) -> Result<(), Fenced> {
        self.check(epoch)?;
        for change in changes {
            match change {
                Change::Write { row, returned } => self.write(*row, returned),
                Change::Late(outcome) => self.late(*outcome),
            }
        }
        self.saved = snapshot.or(self.saved.take());
        Ok(())
    }

    fn write(&mut self, new: Row, returned: Option<u32>) {
        let Some(row) = self.rows.get_mut(&new.id) else {
            self.rows.insert(new.id.clone(), Row { handed: false, ..new });
            return;
        };
        let is_news = new.told && !row.told;
        if !row.state.is_settled() || is_news || row.state == State::Delivered && new.state == State::Replied
        {
            (row.state, row.reason) = (new.state, new.reason);
        }
        for step in new.history {
            if !row.history.iter().any(|old| (old.state, old.attempt) == (step.state, step.attempt)) {
                row.history.push(step);
            }
        }
        row.handed = row.handed && returned != Some(row.attempt);
        row.attempt = row.attempt.max(new.attempt);
        row.place = new.place;
        row.told |= new.told;
        row.content = row.content.take().or(new.content);
    }

    fn late(&mut self, outcome: Transition) {
        let Some(row) = self.rows.get_mut(&outcome.command) else { return };
        let (state, attempt, time, reason) = (outcome.state, outcome.attempt, outcome.time, outcome.reason);
        if !row.history.iter().any(|step| (step.state, step.attempt) == (state, attempt)) {
            row.history.push(Step { state, attempt, time, reason });
        }
        let is_news = state.is_settled() && !row.told;
        if row.state.admits(state) || is_news {
            (row.state, row.reason) = (state, reason);
        }
        row.told |= is_news;
    }

    pub(super) fn hand_over(&mut self, epoch: u64, asked: &[(EventId, u32)]) -> Result<Vec<Row>, Fenced> {
        self.check(epoch)?;
        for (id, attempt) in asked {
            if let Some(row) = self.rows.get_mut(id).filter(|row| !row.handed && !row.state.is_settled()) {
                row.handed = true;
                row.attempt = *attempt;
            }
        }
        Ok(self.look(asked.iter().map(|(id, _)| id)))
    }

    pub(super) fn expire(&mut self, epoch: u64, ids: &[EventId], now: Timestamp) -> Result<Vec<Row>, Fenced> {
        self.check(epoch)?;
        for id in ids {
            if let Some(row) = self.rows.get_mut(id) {
                Self::end(row, State::Expired, now);
            }
        }
        Ok(self.look(ids.iter()))
    }

    pub(super) fn look<'a>(&self, ids: impl Iterator<Item = &'a EventId>) -> Vec<Row> {
        ids.filter_map(|id| self.rows.get(id).cloned()).collect()
    }

    pub(super) fn places(&self) -> Places {
        self.saved.as_ref().map(Snapshot::places).unwrap_or_default()
    }

    fn check(&self, epoch: u64) -> Result<(), Fenced> {
        if epoch == self.epoch { Ok(()) } else { Err(Fenced) }
    }
}
