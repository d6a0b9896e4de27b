//! An input, and the exact effects of it.

use std::time::Duration;

use super::*;
use crate::command::Command;
use crate::connections::Now;
use crate::event::example;
use crate::id::{ConnectionId, ConnectionRef};
use crate::outcome::{Reason, State};
use crate::records::{
    Alive, Announce, Announced, Connected, Disconnected, Handover, Lapsed, Released, Takes,
};
use crate::sessions::SessionId;

struct Bench {
    tracker: PartitionTracker,
    start: Instant,
    millis: u64,
    commands: u64,
    outcomes: u64,
}

fn id(replica: &str, connection: u64) -> ConnectionRef {
    ConnectionRef { incarnation: replica.parse().unwrap(), connection: ConnectionId(connection) }
}

fn connected(replica: &str, connection: u64, takes: Takes) -> Connected {
    let protocol = "test".to_owned();
    let (id, session) = (id(replica, connection), SessionId(1));
    Connected { id, session, client: None, protocol, takes, until: None, repeats: None }
}

fn command(name: &str, kept: bool) -> Command {
    let expires = Timestamp::from_millis(3_600_000);
    let id = name.parse().unwrap();
    Command { id, kept, expires, ..Command::from_event(example(), Duration::ZERO).unwrap() }
}

impl Bench {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other origin; only differences are used"
    )]
    fn new(settings: Settings, from_beginning: bool) -> Self {
        let tracker = PartitionTracker::new(settings, from_beginning);
        Self { tracker, start: Instant::now(), millis: 1_000, commands: 10, outcomes: 0 }
    }

    fn acting() -> Self {
        let mut bench = Self::new(Settings::default(), true);
        bench.act(1);
        bench
    }

    /// Takes charge.
    fn act(&mut self, epoch: u64) {
        self.tracker.begin_acting(epoch, Vec::new(), self.now());
        let repeat = !self.tracker.is_complete();
        assert_eq!(self.records(), [OrderRecord::Announce(Announce { epoch, repeat })]);
        self.record(OrderRecord::Announce(Announce { epoch, repeat }));
    }

    fn now(&self) -> Now {
        let wall = Timestamp::from_millis(i64::try_from(self.millis).unwrap());
        Now { instant: self.start + Duration::from_millis(self.millis), wall }
    }

    fn record(&mut self, record: OrderRecord) {
        self.commands += 1;
        let (id, place) = (format!("r{}", self.commands).parse().unwrap(), Place(self.commands));
        let recorded = Recorded { id, device: example().device, place, time: self.now().wall, record };
        self.tracker.handle_record(recorded, self.now());
    }

    fn connect(&mut self, replica: &str, connection: u64, takes: Takes) {
        self.record(OrderRecord::Connected(connected(replica, connection, takes)));
    }

    fn command(&mut self, name: &str, kept: bool) {
        self.commands += 1;
        let (accepted, place) = (self.now().wall, Place(self.commands));
        self.tracker.handle_command(command(name, kept), accepted, place, self.now());
    }

    fn outcome(&mut self, outcome: Transition) {
        self.outcomes += 1;
        self.tracker.handle_outcome(outcome, Place(self.outcomes), self.now());
    }

    fn delivered(&mut self, name: &str, attempt: u32) {
        let command = command(name, true);
        let (state, time, cause) = (State::Delivered, self.now().wall, command.id.clone());
        self.outcome(Transition {
            command: command.id,
            device: command.device,
            name: command.name,
            attempt,
            state,
            reason: None,
            confirmation: None,
            time,
            cause,
            reply: None,
        });
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.tracker.poll_effect()).collect()
    }

    /// Takes the effects, which are all records.
    fn records(&mut self) -> Vec<OrderRecord> {
        let record = |effect| {
            let Effect::Record { record, .. } = effect else { panic!("no record: {effect:?}") };
            record
        };
        self.effects().into_iter().map(record).collect()
    }

    /// Takes the effect that tells an outcome, and reads that.
    fn tell(&mut self) -> (String, Option<Reason>) {
        let Some(Effect::Tell(outcome)) = self.tracker.poll_effect() else { panic!("an outcome is told") };
        let told = (outcome.id().to_string(), outcome.reason);
        self.outcome(*outcome);
        told
    }

    /// Answers that the ledger has handed over what it was asked for, and reads the record of that.
    fn hand_over(&mut self, expected: &[(&str, u32)]) -> Handover {
        let Some(Effect::HandOver(asked)) = self.tracker.poll_effect() else { panic!("the ledger is asked") };
        let names: Vec<_> = asked.iter().map(|(id, attempt)| (id.as_str(), *attempt)).collect();
        assert_eq!(names, expected);
        let content = Content { content_type: "a/b".to_owned(), payload: "x".into() };
        let row = |(id, attempt): &(EventId, u32)| Row {
            handed: true,
            attempt: *attempt,
            content: Some(content.clone()),
            ..self.tracker.command(id).unwrap()
        };
        let rows = asked.iter().map(row).collect();
        let ids: Vec<_> = asked.into_iter().map(|(id, _)| id).collect();
        self.tracker.handle_rows(&ids, rows, self.now());
        let Some(OrderRecord::Handover(record)) = self.records().pop() else {
            panic!("a handover is published")
        };
        self.record(OrderRecord::Handover(record.clone()));
        record
    }

    fn pass(&mut self, millis: u64) {
        self.millis += millis;
        self.tracker.handle_timeout(self.now());
    }
}

#[test]
fn a_kept_command_waits_is_handed_over_and_leaves_once_its_end_is_written() {
    let mut bench = Bench::acting();
    bench.command("c1", true);
    assert_eq!(bench.tell(), ("c1.pending.1".to_owned(), None));
    assert_eq!(bench.effects(), []);
    let changes = bench.tracker.changes();
    assert!(matches!(&changes[..], [Change::Write { row, .. }] if row.content.is_some()), "{changes:?}");
    bench.tracker.handle_written(true);
    bench.connect("r1", 1, Takes::One);
    let record = bench.hand_over(&[("c1", 1)]);
    assert_eq!((record.epoch, record.id, record.commands.len()), (1, id("r1", 1), 1));
    bench.delivered("c1", 1);
    let changes = bench.tracker.changes();
    assert!(matches!(&changes[..], [Change::Write { row, .. }] if row.told && row.state == State::Delivered));
    bench.tracker.handle_written(false);
    assert_eq!(bench.tracker.changes().len(), 1, "what was not written is written again");
    bench.tracker.handle_written(true);
    assert_eq!(bench.tracker.command(&"c1".parse().unwrap()), None);
    assert_eq!(bench.effects(), []);
}

#[test]
fn a_plain_command_without_a_connection_is_told_at_once() {
    let mut bench = Bench::acting();
    bench.command("c1", false);
    assert_eq!(bench.tell(), ("c1.undelivered.1".to_owned(), Some(Reason::NotConnected)));
    bench.connect("r1", 1, Takes::One);
    bench.command("c2", false);
    bench.command("c3", false);
    assert_eq!(bench.tell(), ("c3.undelivered.1".to_owned(), Some(Reason::NotConnected)));
    assert_eq!(bench.effects(), []);
}

#[test]
fn a_connection_gets_as_many_as_it_takes_and_none_while_some_are_under_way() {
    let mut bench = Bench::acting();
    for name in ["c1", "c2", "c3", "c4"] {
        bench.command(name, true);
        bench.tell();
    }
    bench.connect("r1", 1, Takes::Batch(3));
    assert_eq!(bench.hand_over(&[("c1", 1), ("c2", 1), ("c3", 1)]).commands.len(), 3);
    // The response that has the first three is under way: the fourth must not overtake them.
    bench.connect("r1", 2, Takes::One);
    assert_eq!(bench.effects(), []);
    for name in ["c1", "c2", "c3"] {
        bench.delivered(name, 1);
    }
    bench.hand_over(&[("c4", 1)]);
}

#[test]
fn attempts_that_fail_are_repeated_with_growing_pauses() {
    let mut bench = Bench::acting();
    bench.connect("r1", 1, Takes::Many);
    bench.command("c1", true);
    bench.tell();
    let mut given = bench.hand_over(&[("c1", 1)]).commands.remove(0);
    for (attempt, pause) in [(2, 1_000), (3, 2_000), (4, 4_000)] {
        let reason = Some(Reason::NoAck);
        bench.record(OrderRecord::Released(Released { id: id("r1", 1), given, reason }));
        assert_eq!(bench.tell(), (format!("c1.pending.{attempt}"), reason));
        bench.pass(pause - 1);
        bench.record(OrderRecord::Alive(Alive { incarnation: "r1".parse().unwrap() }));
        assert_eq!(bench.effects(), []);
        bench.pass(1);
        given = bench.hand_over(&[("c1", attempt)]).commands.remove(0);
    }
}

#[test]
fn a_replica_is_dead_if_it_was_silent_up_to_where_the_log_was_read() {
    let mut bench = Bench::acting();
    bench.connect("r1", 1, Takes::Many);
    bench.command("c1", false);
    let probe = OrderRecord::Announce(Announce { epoch: 1, repeat: false });
    bench.pass(5_000);
    assert_eq!(bench.records(), std::slice::from_ref(&probe));
    // It was this one that read nothing.
    bench.record(OrderRecord::Alive(Alive { incarnation: "r1".parse().unwrap() }));
    bench.record(probe.clone());
    assert_eq!(bench.effects(), []);
    bench.pass(5_000);
    assert_eq!(bench.records(), std::slice::from_ref(&probe));
    bench.record(probe);
    let lapsed = OrderRecord::Lapsed(Lapsed { incarnation: "r1".parse().unwrap(), epoch: Some(1) });
    assert_eq!(bench.records(), std::slice::from_ref(&lapsed));
    bench.record(lapsed);
    assert_eq!(bench.tell(), ("c1.undelivered.1".to_owned(), Some(Reason::ConnectionLost)));
}

#[test]
fn without_a_past_nobody_is_called_away_before_all_have_repeated_their_connections() {
    let mut bench = Bench::new(Settings::default(), false);
    bench.connect("r1", 2, Takes::Many);
    bench.act(1);
    bench.record(OrderRecord::Disconnected(Disconnected { id: id("r1", 2) }));
    bench.command("c1", false);
    assert_eq!(bench.effects(), []);
    let repeated = Connected { repeats: Some(Place(3)), ..connected("r1", 1, Takes::One) };
    bench.record(OrderRecord::Connected(repeated));
    let probe = OrderRecord::Announce(Announce { epoch: 1, repeat: false });
    for announced in [false, true] {
        if announced {
            let incarnation = "r1".parse().unwrap();
            bench.record(OrderRecord::Announced(Announced { incarnation, epoch: 1 }));
        }
        bench.pass(4_000);
        bench.record(OrderRecord::Alive(Alive { incarnation: "r1".parse().unwrap() }));
        bench.pass(1_000);
        assert_eq!(bench.records(), std::slice::from_ref(&probe));
        bench.record(probe.clone());
        assert_eq!(bench.tracker.is_complete(), announced);
    }
    // It takes the one that was repeated, though it is older than one that was known.
    bench.command("c2", false);
    assert_eq!(bench.effects(), []);
    bench.command("c3", false);
    assert_eq!(bench.tell(), ("c3.undelivered.1".to_owned(), Some(Reason::NotConnected)));
}

#[test]
fn a_higher_epoch_ends_the_charge_and_a_lower_one_is_void() {
    let mut bench = Bench::acting();
    bench.connect("r1", 1, Takes::Many);
    bench.record(OrderRecord::Announce(Announce { epoch: 2, repeat: false }));
    assert_eq!((bench.tracker.epoch(), bench.tracker.highest_epoch()), (None, 2));
    bench.record(OrderRecord::Lapsed(Lapsed { incarnation: "r1".parse().unwrap(), epoch: Some(1) }));
    assert_eq!(bench.tracker.reach(&example().device, bench.now().wall).unwrap().ways.len(), 1);
    bench.tracker.begin_acting(2, Vec::new(), bench.now());
    assert_eq!((bench.tracker.epoch(), bench.effects()), (None, Vec::new()));
}

#[test]
fn what_was_settled_and_written_before_the_charge_began_is_not_followed_again() {
    let mut bench = Bench::acting();
    bench.connect("r1", 1, Takes::Many);
    bench.command("c1", true);
    bench.tell();
    bench.hand_over(&[("c1", 1)]);
    let loaded = bench.tracker.command(&"c1".parse().unwrap()).unwrap();
    assert!(loaded.handed && loaded.state == State::Pending);
    bench.delivered("c1", 1);
    bench.tracker.begin_acting(2, vec![loaded], bench.now());
    let announce = OrderRecord::Announce(Announce { epoch: 2, repeat: false });
    assert_eq!(bench.records(), std::slice::from_ref(&announce));
    assert_eq!(bench.tracker.changes().len(), 1);
    bench.tracker.handle_written(true);
    bench.record(announce);
    assert_eq!(bench.tracker.command(&"c1".parse().unwrap()), None);
    // It would stand before whatever comes behind it.
    bench.command("c2", true);
    bench.tell();
    bench.hand_over(&[("c2", 1)]);
}

#[test]
fn one_too_many_that_the_ledger_did_not_accept_overflows() {
    let mut bench = Bench::new(Settings { max_pending: 1, ..Settings::default() }, true);
    bench.act(1);
    for name in ["c1", "c2"] {
        bench.command(name, true);
        bench.tell();
    }
    let ids: Vec<EventId> = vec!["c2".parse().unwrap()];
    assert_eq!(bench.effects(), [Effect::Look(ids.clone())]);
    bench.tracker.handle_rows(&ids, Vec::new(), bench.now());
    assert_eq!(bench.tell(), ("c2.undelivered.1".to_owned(), Some(Reason::Overflow)));
}

#[test]
fn the_only_replica_calls_all_others_dead() {
    let sole = Some("r2".parse().unwrap());
    let mut bench = Bench::new(Settings { sole, ..Settings::default() }, true);
    bench.connect("r1", 1, Takes::Many);
    bench.connect("r2", 1, Takes::Many);
    bench.act(1);
    let lapsed = OrderRecord::Lapsed(Lapsed { incarnation: "r1".parse().unwrap(), epoch: Some(1) });
    assert_eq!(bench.records(), [lapsed]);
}

#[test]
fn a_device_is_expected_by_the_pattern_of_its_connections() {
    let mut bench = Bench::acting();
    for connection in 1..=3 {
        bench.connect("r1", connection, Takes::One);
        bench.millis += 200;
        bench.record(OrderRecord::Disconnected(Disconnected { id: id("r1", connection) }));
        bench.millis += 59_800;
    }
    let reach = bench.tracker.reach(&example().device, Timestamp::from_millis(130_000)).unwrap();
    assert_eq!(reach.away_since, Some(Timestamp::from_millis(121_200)));
    assert_eq!(reach.expected, Some(Timestamp::from_millis(181_000)));
    bench.connect("r1", 4, Takes::One);
    let reach = bench.tracker.reach(&example().device, bench.now().wall).unwrap();
    let ways: Vec<_> = reach.ways.iter().map(|way| (&way.id, way.since)).collect();
    assert_eq!(ways, [(&id("r1", 4), Timestamp::from_millis(181_000))]);
    assert_eq!((reach.away_since, reach.expected), (None, None));
}
