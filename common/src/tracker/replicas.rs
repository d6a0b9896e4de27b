//! Which replicas live, and how far the log was read for certain.

use std::time::{Duration, Instant};

use super::entry::Hold;
use super::{Effect, PartitionTracker, Probe, Replica, Role};
use crate::connections::Now;
use crate::id::{DeviceKey, EventId};
use crate::records::{Announce, Lapsed, OrderRecord};

/// How often commands are looked through that nobody may settle any more.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

impl PartitionTracker {
    pub(super) fn note_time(&mut self, now: Now) {
        self.swept.get_or_insert(now.instant);
        while self.unwritten.front().is_some_and(|(at, _)| *at <= now.instant) {
            if let Some((_, id)) = self.unwritten.pop_front() {
                self.mark_unwritten(&id);
            }
        }
    }

    pub(super) fn heard(&mut self, incarnation: &EventId, now: Now) {
        match self.replicas.get_mut(incarnation) {
            Some(replica) => replica.heard = now.instant,
            None => {
                let replica = Replica { heard: now.instant, announced: 0, lapsing: false };
                self.replicas.insert(incarnation.clone(), replica);
            }
        }
    }

    /// Takes the announcement of a tracker, which may be this one; then all that was written before it was read.
    pub(super) fn announce(&mut self, record: Announce, now: Now) {
        if !self.is_current(record.epoch) || self.epoch() != Some(record.epoch) {
            return;
        }
        let Some(probe) = self.probe.take() else { return };
        if matches!(self.role, Role::Announced(_)) {
            self.take_charge(now);
        }
        if self.acting().is_some() {
            self.judge(&probe, now);
        }
    }

    /// Asks for what is written before now to be read, if that is not asked already.
    pub(super) fn send_probe(&mut self, now: Now) {
        let Some(epoch) = self.epoch().filter(|_| self.probe.is_none()) else { return };
        self.probe = Some(Probe { sent: now.instant });
        self.probed = Some(now.instant);
        self.put_announce(epoch, false);
    }

    pub(super) fn put_announce(&mut self, epoch: u64, repeat: bool) {
        let record = OrderRecord::Announce(Announce { epoch, repeat });
        self.effects.push_back(Effect::Record { device: DeviceKey::all(), record });
    }

    /// Judges what can be judged only by who has read all.
    fn judge(&mut self, probe: &Probe, now: Now) {
        let lapse_after = self.settings.lapse_after;
        let is_silent = |replica: &Replica| !replica.lapsing && replica.heard + lapse_after <= probe.sent;
        let silent = self.replicas.iter().filter(|(_, replica)| is_silent(replica));
        for id in silent.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.put_lapsed(id);
        }
        let all_announced =
            |epoch| self.replicas.values().all(|replica| replica.announced >= epoch || replica.lapsing);
        let waited = self.asked_at.is_some_and(|asked| asked + lapse_after <= probe.sent);
        if !self.complete && waited && self.epoch().is_some_and(all_announced) {
            self.complete = true;
        }
        for early in
            self.early.values_mut().flatten().filter(|early| early.arrived <= probe.sent && !early.is_late)
        {
            self.late.push((early.place, early.outcome.clone()));
            early.is_late = true;
        }
        self.early.retain(|_, early| early.iter().any(|early| early.arrived > probe.sent));
        self.submit_unseen(probe.sent, now);
    }

    pub(super) fn put_lapsed(&mut self, incarnation: EventId) {
        let Some(replica) = self.replicas.get_mut(&incarnation) else { return };
        replica.lapsing = true;
        let record = OrderRecord::Lapsed(Lapsed { incarnation, epoch: self.acting() });
        self.effects.push_back(Effect::Record { device: DeviceKey::all(), record });
    }

    /// Returns from when on a probe is of use.
    fn probe_due(&self) -> Option<Instant> {
        if self.acting().is_none() || self.probe.is_some() {
            return None;
        }
        let lapse_after = self.settings.lapse_after;
        let heard = self.replicas.values().filter(|replica| !replica.lapsing).map(|replica| replica.heard);
        let silent = heard.min().map(|heard| heard + lapse_after);
        let complete = self.asked_at.filter(|_| !self.complete).map(|asked| asked + lapse_after);
        let early = self.early.values().flatten().map(|early| early.arrived).min();
        let unseen = self.unseen.values().map(|(_, since)| *since).min();
        let due = [silent, complete, early, unseen].into_iter().flatten().min()?;
        // Not one after another without a pause, where what is waited for takes its time.
        Some(self.probed.map_or(due, |probed| due.max(probed + lapse_after / 5)))
    }

    /// Returns how long it takes until [`handle_timeout`](Self::handle_timeout) is due.
    pub fn next_timeout(&self, now: Now) -> Option<Duration> {
        self.acting()?;
        let expiry = self.expiries.first().map(|(expires, _)| expires.saturating_since(now.wall));
        let retry = self.retries.keys().next().copied();
        let sweep = self.swept.map(|swept| swept + SWEEP_EVERY);
        let row = self.unwritten.front().map(|(at, _)| *at);
        let instants = [retry, sweep, row, self.probe_due()].into_iter().flatten();
        let next = instants.map(|at| at.saturating_duration_since(now.instant)).min();
        expiry.into_iter().chain(next).min()
    }

    /// Does what is due by time. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.note_time(now);
        if self.acting().is_none() {
            return;
        }
        while self.expiries.first().is_some_and(|(expires, _)| *expires <= now.wall) {
            if let Some((_, id)) = self.expiries.pop_first() {
                self.expire(&id);
            }
        }
        while let Some(retry) = self.retries.first_entry().filter(|retry| *retry.key() <= now.instant) {
            for key in retry.remove() {
                self.try_hand_over(&key, now);
            }
        }
        if self.swept.is_some_and(|swept| swept + SWEEP_EVERY <= now.instant) {
            self.sweep(now);
        }
        if self.probe_due().is_some_and(|due| due <= now.instant) {
            self.send_probe(now);
        }
    }

    /// Gives up commands of which nobody may say any more what became of them.
    fn sweep(&mut self, now: Now) {
        self.swept = Some(now.instant);
        let mut lost = Vec::new();
        for (id, entry) in &mut self.commands {
            let owner = entry.hold.owner();
            if owner.is_none() && entry.hold != Hold::Unknown {
                continue;
            }
            let order = self.devices.get(&entry.device).map(|device| &device.order);
            let is_live = |owner| order.is_some_and(|order| order.get(owner).is_some());
            if entry.kept && owner.is_some_and(is_live) {
                entry.orphaned = None;
                continue;
            }
            let since = *entry.orphaned.get_or_insert(now.instant);
            let settle_after = self.settings.settle_after;
            let is_lost = match entry.kept {
                true => since + settle_after <= now.instant,
                false => entry.expires.saturating_add(settle_after) <= now.wall,
            };
            if is_lost {
                lost.push((entry.place, id.clone()));
            }
        }
        lost.sort_unstable();
        for (_, id) in lost {
            let cause = id.clone();
            self.lose(&id, &cause, now);
        }
    }
}
