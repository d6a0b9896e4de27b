//! What all sessions and connections of a replica share, and what a change of its tables asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;

use super::heartbeat::{Beat, Pulse};
use super::meters::{self, Meters};
use super::replies::Replies;
use super::reports::{Attempt, Report, Reports};
use super::shards::Shards;
use super::{Clock, Limits, new_event_id};
use crate::auth::{Authenticator, Change};
use crate::channel::{Channel, EventSink, Partition};
use crate::connections::{Assigned, ConnectionTable, Effect, Handle, Look};
use crate::event::Event;
use crate::id::{ConnectionId, DeviceKey, EventId};
use crate::outcome::{Outcome, Reason};
use crate::records::{Announced, Disconnected, OrderRecord};
use crate::sessions::SessionTable;

/// What all sessions and connections of this replica share.
///
/// A lock of `turns` is taken before one of `connections`, and none of those is held while a channel or a session table
/// is used, but that of `turns`: a channel may hand over records while it takes one.
pub(super) struct Shared {
    pub(super) sink: Arc<dyn EventSink>,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    pub(super) meters: Meters,
    pub(super) pulse: Pulse,
    pub(super) sessions: Shards<SessionTable>,
    pub(super) connections: Shards<ConnectionTable>,
    /// Held from when a connection gets its id until its record has its place in the log, so that ids rise there.
    pub(super) turns: Shards<()>,
    pub(super) reports: Reports,
    pub(super) replies: Replies,
    counter: AtomicU64,
    /// The replica shuts down: one record tells of the end of all its connections.
    closing: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        sink: Arc<dyn EventSink>,
        authenticator: Arc<dyn Authenticator>,
        replies: Replies,
        limits: Limits,
        clock: Clock,
        reports: Reports,
    ) -> Self {
        let incarnation = new_event_id(clock.wall());
        let connections = Shards::<ConnectionTable>::default();
        connections.each().for_each(|mut table| table.start(incarnation.clone()));
        Self {
            pulse: Pulse::new(incarnation, limits.lapse_after, sink.partitions(), clock.instant()),
            sink,
            authenticator,
            replies,
            limits,
            clock,
            meters: Meters::new(),
            sessions: Shards::default(),
            connections,
            turns: Shards::default(),
            reports,
            counter: AtomicU64::new(1),
            closing: AtomicBool::new(false),
        }
    }

    /// Returns a number that is higher than all before.
    pub(super) fn next(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the look that comes before a judgement on a command of a device.
    pub(super) fn look(&self, device: &DeviceKey) -> Look {
        let alive = self.is_heard(self.sink.partition_of(device));
        Look { now: self.clock.now(), alive }
    }

    /// Tells whether others know in a partition that this replica lives. If it finds that none can have known for so long
    /// that a tracker may count on its death, it calls itself dead there, once: what it owns is the tracker's then.
    pub(super) fn is_heard(&self, partition: Partition) -> bool {
        match self.pulse.look(partition, self.clock.instant()) {
            Beat::Young => true,
            Beat::Old => false,
            Beat::FellSilent => {
                tracing::warn!(
                    partition = partition.0,
                    "no heartbeat was taken for too long: this replica lapses"
                );
                self.reports.send(Report::Silent(partition, self.pulse.incarnation()));
                false
            }
        }
    }

    pub(super) fn change(&self, change: &Change) {
        match change {
            Change::Device(device) => {
                let wakers = self.sessions.of(device.as_str().as_bytes()).change(change);
                wakers.into_iter().for_each(Waker::wake);
            }
            Change::Application(_) => self.change_sessions(|table| table.change(change)),
        }
    }

    /// Changes the sessions of all devices, and wakes whom that concerns with no lock held.
    pub(super) fn change_sessions(&self, change: impl Fn(&mut SessionTable) -> Vec<Waker>) {
        for mut table in self.sessions.each() {
            let wakers = change(&mut table);
            drop(table);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Changes the connections of all devices, and does what that asks for with no lock held.
    pub(super) fn change_connections(&self, change: impl Fn(&mut ConnectionTable) -> Vec<Effect>) {
        for mut table in self.connections.each() {
            let effects = change(&mut table);
            drop(table);
            self.carry_out(effects);
        }
    }

    /// Gives a connection an id in the log and publishes its record. `None` if it is of no use any more.
    ///
    /// The record takes its place in the order when this is called. Not for record handlers.
    pub(super) fn announce(&self, device: &DeviceKey, handle: Handle) -> Option<(Event, Attempt)> {
        let key = device.as_str().as_bytes();
        let _turn = self.turns.of(key);
        let (id, now) = (ConnectionId(self.next()), self.clock.now());
        let connected = self.connections.of(key).announce(device, handle, id, now)?;
        let record = OrderRecord::Connected(connected);
        let event = record.into_event(new_event_id(now.wall), device.clone(), now.wall);
        let attempt = self.sink.publish(Channel::Commands, event.clone());
        Some((event, attempt))
    }

    /// Closes a connection.
    pub(super) fn disconnect(&self, device: &DeviceKey, handle: Handle) {
        let (look, quietly) = (self.look(device), self.closing.load(Ordering::Acquire));
        let mut table = self.connections.of(device.as_str().as_bytes());
        let effects = table.disconnect(device, handle, look, quietly);
        drop(table);
        self.carry_out(effects);
    }

    /// Does what a change of the connection table asks for. Called with no lock held.
    pub(super) fn carry_out(&self, effects: impl IntoIterator<Item = Effect>) {
        for effect in effects {
            match effect {
                Effect::Wake(waker) => waker.wake(),
                Effect::Ended(assigned, outcome) => self.ended(assigned, outcome),
                Effect::Released(assigned) => self.released(assigned, None),
                Effect::Disconnected(device, id) => {
                    let record = OrderRecord::Disconnected(Disconnected { id });
                    self.reports.send(Report::Record(device, Box::new(record)));
                }
                Effect::AnnounceAnew(device, handle) => self.announce_anew(device, handle),
                Effect::TakenOver { device, handle, session, here } => {
                    let mut sessions = self.sessions.of(device.as_str().as_bytes());
                    // Of two sessions here, the table knows which is the newer one, whatever their records say.
                    let stays = here && sessions.is_open(&device, session);
                    let woken = if stays { None } else { sessions.take_over(&device, session) };
                    drop(sessions);
                    woken.into_iter().for_each(Waker::wake);
                    if stays {
                        self.announce_anew(device, handle);
                    }
                }
            }
        }
    }

    fn announce_anew(&self, device: DeviceKey, handle: Handle) {
        if !self.closing.load(Ordering::Acquire) {
            self.reports.send(Report::Announce(device, handle));
        }
    }

    /// Reports what became of a command. One that is kept and was not delivered is not at its end: it is given back.
    pub(super) fn ended(&self, assigned: Assigned, outcome: Outcome) {
        self.replies.finished(&assigned.command, outcome);
        match outcome {
            Outcome::Undelivered(reason) if assigned.command.kept => self.released(assigned, Some(reason)),
            // Of an earlier attempt it may be unknown whether the device saw it: the tracker knows.
            Outcome::Expired if assigned.command.kept && assigned.attempt > 1 => {
                self.released(assigned, None)
            }
            Outcome::Delivered(_) | Outcome::Undelivered(_) | Outcome::Expired => {
                meters::outcome(&assigned.command, outcome);
                let transition = assigned.transition(outcome, self.clock.wall());
                self.reports.send(Report::Outcome(Box::new(transition)));
            }
        }
    }

    /// Gives a command back, for the reason given; without one, nothing of it was written to the device.
    pub(super) fn released(&self, assigned: Assigned, reason: Option<Reason>) {
        meters::released(&assigned.command, reason);
        let device = assigned.command.device.clone();
        let record = OrderRecord::Released(assigned.released(reason));
        self.reports.send(Report::Record(device, Box::new(record)));
    }

    /// Takes the record that a replica has lapsed in a partition; `by_itself`: so it says.
    pub(super) fn lapsed(&self, partition: Partition, incarnation: &EventId, by_itself: bool) {
        let own = *incarnation == self.pulse.incarnation();
        if own {
            self.pulse.lapse();
        }
        self.change_connections(|table| table.lapsed(partition, incarnation));
        if own {
            self.pulse.lapse();
            if by_itself {
                self.pulse.read_own_lapse(partition, self.clock.instant());
            }
            if !self.closing.load(Ordering::Acquire) {
                meters::lapsed();
                tracing::warn!(
                    partition = partition.0,
                    "this replica was taken for dead, it announces itself anew"
                );
            }
        }
    }

    /// Begins as a new replica, as records may have been missed: sessions and connections end. Returns the start that
    /// must be declared lapsed.
    pub(super) fn start_over(&self) -> EventId {
        let incarnation = new_event_id(self.clock.wall());
        let before = self.pulse.renew(incarnation.clone(), self.clock.instant());
        self.pulse.lapse();
        self.change_connections(|table| table.interrupt(incarnation.clone()));
        self.pulse.lapse();
        self.change_sessions(SessionTable::interrupt);
        before
    }

    /// Repeats the records of all connections in a partition, for the tracker of this epoch.
    pub(super) fn repeat(&self, partition: Partition, epoch: u64) {
        let mut records = Vec::new();
        self.connections.each().for_each(|mut table| records.extend(table.repeat(partition)));
        let answer = Announced { incarnation: self.pulse.incarnation(), epoch };
        self.reports.send(Report::Repeat(partition, records, answer));
    }

    /// Ends all sessions and waits; what ends from here on is told of by one record.
    pub(super) fn shut_down(&self) {
        self.closing.store(true, Ordering::Release);
        self.change_sessions(SessionTable::shut_down);
    }
}
