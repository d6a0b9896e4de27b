//! What is to be written into the ledger, and what may be forgotten.

use std::collections::HashSet;

use super::entry::Hold;
use super::{Change, PartitionTracker, Places, Role, Snapshot};
use crate::connections::Now;
use crate::id::EventId;

impl PartitionTracker {
    pub(super) fn mark_dirty(&mut self, id: &EventId) {
        if let Some(entry) = self.commands.get_mut(id).filter(|entry| !entry.dirty) {
            entry.dirty = true;
            self.dirty.push(id.clone());
        }
    }

    /// Marks what has no row yet.
    pub(super) fn mark_unwritten(&mut self, id: &EventId) {
        if self.commands.get(id).is_some_and(|entry| !entry.written) {
            self.mark_dirty(id);
        }
    }

    /// Returns what is to be written into the ledger, in one transaction, and is not under way there. Answer by
    /// [`handle_written`](Self::handle_written), before anything else is asked of it.
    pub fn changes(&mut self) -> Vec<Change> {
        self.gather(false)
    }

    /// Returns a snapshot, to be written in one transaction with the changes, which are more than those of
    /// [`changes`](Self::changes). Answer alike. At most one of both is under way.
    pub fn checkpoint(&mut self, now: Now) -> (Snapshot, Vec<Change>) {
        let unwritten = self.commands.iter().filter(|(_, entry)| !entry.written).map(|(id, _)| id.clone());
        for id in unwritten.collect::<Vec<_>>() {
            self.mark_dirty(&id);
        }
        (self.snapshot(now), self.gather(true))
    }

    fn gather(&mut self, all: bool) -> Vec<Change> {
        // Whoever asks again has not heard of what it took before.
        self.handle_written(false);
        let mut changes = Vec::with_capacity(self.dirty.len() + self.late.len());
        for id in std::mem::take(&mut self.dirty) {
            let Some(entry) = self.commands.get_mut(&id) else { continue };
            if entry.hold == Hold::Looked && !all {
                self.dirty.push(id);
                continue;
            }
            entry.dirty = false;
            let returned = entry.returned.take();
            changes.push(Change::Write { row: Box::new(entry.row(&id)), returned });
            self.writing.push((id, returned));
        }
        self.writing_late = std::mem::take(&mut self.late);
        changes.extend(self.writing_late.iter().map(|(_, outcome)| Change::Late(Box::new(outcome.clone()))));
        changes
    }

    /// Takes the news that the last changes were written, or that they were not.
    pub fn handle_written(&mut self, written: bool) {
        let late = std::mem::take(&mut self.writing_late);
        if !written {
            self.late.splice(0..0, late);
        }
        let mut forgotten = HashSet::new();
        for (id, returned) in std::mem::take(&mut self.writing) {
            let Some(entry) = self.commands.get_mut(&id) else { continue };
            if !written {
                entry.returned = entry.returned.or(returned);
                self.mark_dirty(&id);
                continue;
            }
            entry.written = true;
            if entry.hold != Hold::Asked {
                entry.content = None;
            }
            if !entry.is_active() && !entry.dirty {
                self.commands.remove(&id);
                forgotten.insert(id);
            }
        }
        if let Role::Announced(announced) = &mut self.role {
            // These rows are older than what was just written: such a command would be followed as one that is under way.
            announced.rows.retain(|row| !forgotten.contains(&row.id));
        }
    }

    /// Takes the [`Snapshot::places`] that the ledger has, on a replica that does not act: what was settled up to there is
    /// forgotten. Asked for every few seconds.
    pub fn handle_saved(&mut self, places: Places) {
        // What lies before these places may be yet to be read here.
        if self.epoch().is_some()
            || self.places.commands < places.commands
            || self.places.outcomes < places.outcomes
        {
            return;
        }
        self.commands.retain(|_, entry| {
            if Some(entry.place) <= places.commands && !entry.written {
                entry.written = true;
                entry.content = None;
            }
            entry.settled_at.is_none_or(|place| Some(place) > places.outcomes)
        });
        self.late.retain(|(place, _)| Some(*place) > places.outcomes);
        self.early.retain(|_, early| early.iter().any(|early| Some(early.place) > places.outcomes));
        self.dirty.retain(|id| self.commands.contains_key(id));
    }
}
