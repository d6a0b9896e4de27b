//! The world of the model: replicas, the ledger, applications.

use super::endpoint::{Endpoint, Offer};
use super::ledger::Ledger;
use super::log::{Item, Log};
use super::replica::TrackerReplica;
use super::{Kind, Step};
use crate::command::Command;
use crate::id::{DeviceKey, EventId};
use crate::time::Timestamp;
use crate::tracker::{self, Content, Row};

pub(super) const ENDPOINTS: usize = 2;
pub(super) const TRACKERS: usize = 2;
/// So many rounds of rest take less than `settle_after`.
const CALM: u64 = 160;

#[derive(Debug)]
pub(super) struct World {
    pub(super) log: Log,
    pub(super) ledger: Ledger,
    endpoints: Vec<Endpoint>,
    trackers: Vec<TrackerReplica>,
    /// Where the logs began for the trackers.
    first: (usize, usize),
    /// Published, and not known to be.
    stray: Vec<Item>,
    submitted: Vec<EventId>,
    starts: usize,
}

pub(super) fn device(number: usize) -> DeviceKey {
    DeviceKey::from_bytes(format!("a/d{number}").as_bytes()).unwrap()
}

impl World {
    /// Makes a world; `before` happens before trackers are there and see it.
    pub(super) fn new(before: &[Step]) -> Self {
        let log = Log::new();
        let mut world = Self {
            endpoints: (0..ENDPOINTS).map(|number| Endpoint::start(&format!("e{number}"), &log)).collect(),
            log,
            ledger: Ledger::default(),
            trackers: Vec::new(),
            first: (0, 0),
            stray: Vec::new(),
            submitted: Vec::new(),
            starts: ENDPOINTS,
        };
        for step in before {
            world.step(step);
            world.round(false, false);
        }
        world.first = (world.log.commands.len(), world.log.outcomes.len());
        let first = world.first;
        world.trackers =
            (0..TRACKERS).map(|number| TrackerReplica::new(number, &world.log, first == (0, 0))).collect();
        world
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step.clone() {
            Step::Submit { device, kind, ttl, lost } => self.submit(device, kind, ttl, lost),
            Step::Cancel { command, lost } => {
                let Some(id) = self.submitted.iter().rev().nth(command).cloned() else { return };
                if let Some(outcome) = self.ledger.cancel(&id, self.log.wall()) {
                    self.log.note(format!("{id} is cancelled"));
                    if !lost {
                        self.log.append("api", Item::Outcome(outcome));
                    }
                }
            }
            Step::Connect { replica, device: number, takes, client, acknowledges, lasts } => {
                let client = client.map(|client| format!("c{client}"));
                let offer = Offer { takes, client, acknowledges, lasts };
                self.up(replica, |endpoint, log| endpoint.connect(&device(number), offer, log));
            }
            Step::Disconnect { replica, connection } => {
                self.up(replica, |endpoint, log| endpoint.close(connection, log));
            }
            Step::Write { replica, connection } => {
                self.up(replica, |endpoint, log| endpoint.write(connection, log));
            }
            Step::Acknowledge { replica, at } => {
                self.up(replica, |endpoint, log| endpoint.acknowledge(at, log));
            }
            Step::Reply { replica, at } => self.up(replica, |endpoint, log| endpoint.reply(at, log)),
            Step::Run { replica, read, flush } => self.up(replica, |endpoint, log| {
                endpoint.handle_time(log);
                endpoint.flush(flush, log);
                endpoint.read(read, log);
            }),
            Step::Crash { replica, flush } => self.crash(replica, flush),
            Step::ShutDown { replica } => {
                self.up(replica, |endpoint, log| endpoint.shut_down(log));
                if !self.endpoints[replica].paused {
                    self.crash(replica, 0);
                }
            }
            Step::Pause { replica, paused } => self.endpoints[replica].paused = paused,
            Step::Flush { replica, flush } => self.endpoints[replica].flush(flush, &mut self.log),
            Step::Tracker { tracker, turn } => self.tracker(tracker, turn),
            Step::Stray => {
                if let Some(item) = self.stray.pop() {
                    self.log.append("late", item);
                }
            }
            Step::Pass { millis } => self.log.millis += millis,
            Step::Round { writes, acknowledges } => self.round(writes, acknowledges),
        }
    }

    fn up(&mut self, replica: usize, act: impl FnOnce(&mut Endpoint, &mut Log)) {
        let endpoint = &mut self.endpoints[replica];
        if !endpoint.paused {
            act(endpoint, &mut self.log);
        }
    }

    fn crash(&mut self, replica: usize, flush: usize) {
        self.endpoints[replica].flush(flush, &mut self.log);
        let name = format!("e{}", self.starts);
        self.starts += 1;
        self.log.note(format!("{} is gone, {name} starts", self.endpoints[replica].incarnation));
        self.endpoints[replica] = Endpoint::start(&name, &self.log);
    }

    fn submit(&mut self, number: usize, kind: Kind, ttl: u64, lost: bool) {
        let wall = self.log.wall();
        let command = Command {
            id: format!("c{:03}", self.submitted.len()).parse().unwrap(),
            device: device(number),
            name: "n".parse().unwrap(),
            expires: Timestamp::from_millis(wall.as_millis() + i64::try_from(ttl).unwrap()),
            kept: matches!(kind, Kind::Kept | Kind::KeptElsewhere),
            content_type: "a/b".to_owned(),
            payload: "payload".into(),
        };
        let has_row = matches!(kind, Kind::Kept | Kind::PlainWithRow);
        if has_row && !self.ledger.submit(row(&command, wall)) {
            return;
        }
        self.submitted.push(command.id.clone());
        if lost && has_row {
            self.log.note(format!("{} is in the ledger alone", command.id));
        } else {
            self.log.append("api", Item::Command(command, wall));
        }
    }

    fn tracker(&mut self, number: usize, turn: super::Turn) {
        let Some(replica) = self.trackers.get_mut(number) else { return };
        match turn {
            super::Turn::Pause(paused) => return replica.paused = paused,
            super::Turn::Crash(flush) => {
                replica.flush(flush, &mut self.log);
                self.log.note(format!("tracker {number} starts anew"));
                return replica.restart(&self.ledger, &self.log, self.first, false);
            }
            super::Turn::Forget => {
                self.log.note(format!("tracker {number} starts anew without its past"));
                return replica.restart(&self.ledger, &self.log, self.first, true);
            }
            // What was published before a pause may come during it.
            super::Turn::Flush(flush) => return replica.flush(flush, &mut self.log),
            super::Turn::Read(..)
            | super::Turn::Lease
            | super::Turn::Commit
            | super::Turn::Ask
            | super::Turn::Checkpoint
            | super::Turn::Doubt(_) => {}
        }
        if replica.paused {
            return;
        }
        match turn {
            super::Turn::Read(commands, outcomes) => replica.read(commands, outcomes, &self.log),
            super::Turn::Lease => replica.lease(&mut self.ledger, &mut self.log),
            super::Turn::Commit => replica.commit(false, &mut self.ledger, &self.log),
            super::Turn::Ask => replica.ask(&mut self.ledger, &self.log),
            super::Turn::Checkpoint => replica.commit(true, &mut self.ledger, &self.log),
            super::Turn::Doubt(comes) => {
                replica.ask(&mut self.ledger, &self.log);
                replica.turn(&mut self.log);
                let item = replica.doubt(&mut self.ledger, &mut self.log);
                self.stray.extend(item.filter(|_| comes));
            }
            super::Turn::Pause(_) | super::Turn::Crash(_) | super::Turn::Forget | super::Turn::Flush(_) => {}
        }
        replica.turn(&mut self.log);
    }

    /// Everybody who is up does everything once.
    pub(super) fn round(&mut self, writes: bool, acknowledges: bool) {
        self.log.millis += 20;
        for number in 0..self.trackers.len() {
            for turn in [
                super::Turn::Lease,
                super::Turn::Read(usize::MAX, usize::MAX),
                super::Turn::Ask,
                super::Turn::Flush(usize::MAX),
            ] {
                if !self.trackers[number].paused {
                    self.tracker(number, turn);
                }
            }
        }
        for replica in 0..self.endpoints.len() {
            self.up(replica, |endpoint, log| {
                endpoint.handle_time(log);
                endpoint.read(usize::MAX, log);
                endpoint.flush(usize::MAX, log);
                for at in (0..endpoint.connections.len()).rev().filter(|_| writes) {
                    endpoint.write(at, log);
                }
                if acknowledges {
                    endpoint.acknowledge(0, log);
                }
            });
        }
    }

    /// Lets everything come to rest.
    ///
    /// # Errors
    /// Says what stands in the way of later commands for no reason, once all had the time to be read and before a tracker
    /// gives up on what nobody ends.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        for endpoint in &mut self.endpoints {
            endpoint.paused = false;
        }
        for tracker in &mut self.trackers {
            tracker.paused = false;
        }
        while let Some(item) = self.stray.pop() {
            self.log.append("late", item);
        }
        for round in 0..900u64 {
            self.round(true, round % 2 == 0);
            self.log.millis += 230;
            if round % 16 == 0 {
                (0..TRACKERS).for_each(|number| self.tracker(number, super::Turn::Checkpoint));
            }
            if round == CALM {
                self.follows_no_settled()?;
            }
        }
        Ok(())
    }

    /// What the ledger knows to be told no tracker in charge takes for under way.
    fn follows_no_settled(&self) -> Result<(), String> {
        let in_charge = self.trackers.iter().filter(|replica| replica.tracker.epoch().is_some());
        for tracker in in_charge.map(|replica| &replica.tracker) {
            let told = self.ledger.rows.values().filter(|row| row.told);
            let mut followed = told.filter_map(|row| tracker.command(&row.id));
            if let Some(row) = followed.find(|row| !row.state.is_settled()) {
                return Err(format!("{} is settled, and taken for {}", row.id, row.state));
            }
        }
        Ok(())
    }
}

fn row(command: &Command, accepted: Timestamp) -> Row {
    let content = Content { content_type: command.content_type.clone(), payload: command.payload.clone() };
    let step =
        tracker::Step { state: crate::outcome::State::Accepted, attempt: 0, time: accepted, reason: None };
    Row {
        id: command.id.clone(),
        device: command.device.clone(),
        name: command.name.clone(),
        state: crate::outcome::State::Accepted,
        reason: None,
        kept: command.kept,
        handed: false,
        attempt: 0,
        accepted,
        expires: command.expires,
        history: vec![step],
        content: Some(content),
        place: None,
        told: false,
    }
}
