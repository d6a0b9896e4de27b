//! The connection table against a simple model, and promise 7 at every order of events.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::event::example;

const START: Timestamp = Timestamp::from_millis(1_000_000);
const LIMIT: usize = 3;

fn device(number: u8) -> DeviceKey {
    DeviceKey::from_bytes(format!("a/{number}").as_bytes()).unwrap()
}

fn command(device_number: u8, id: usize, expires: Timestamp) -> Command {
    Command {
        id: id.to_string().parse().unwrap(),
        device: device(device_number),
        expires,
        ..Command::from_event(example(), Duration::ZERO).unwrap()
    }
}

/// A clock that both the table and the model are shown.
struct Time {
    start: Instant,
    millis: u64,
}

impl Time {
    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other origin; only differences are used"
    )]
    fn new() -> Self {
        Self { start: Instant::now(), millis: 0 }
    }

    fn now(&self) -> Now {
        let passed = Duration::from_millis(self.millis);
        Now { instant: self.start + passed, wall: START.saturating_add(passed) }
    }

    fn terms(&self, one: bool, lasts: Option<u64>) -> Terms {
        Terms {
            capacity: if one { Capacity::One } else { Capacity::Queue(2) },
            deadline: lasts.map(|millis| self.now().instant + Duration::from_millis(millis)),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Connect { device: u8, one: bool, lasts: Option<u64> },
    Record { connection: usize },
    Deliver { device: u8, lives: u64 },
    Take { connection: usize },
    Disconnect { connection: usize },
    Release,
    Pass { millis: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..2u8, any::<bool>(), proptest::option::of(0..30u64))
            .prop_map(|(device, one, lasts)| Step::Connect { device, one, lasts }),
        (0..8usize).prop_map(|connection| Step::Record { connection }),
        (0..2u8, 0..30u64).prop_map(|(device, lives)| Step::Deliver { device, lives }),
        (0..8usize).prop_map(|connection| Step::Take { connection }),
        (0..8usize).prop_map(|connection| Step::Disconnect { connection }),
        Just(Step::Release),
        (0..10u64).prop_map(|millis| Step::Pass { millis }),
    ];
    proptest::collection::vec(step, 0..60)
}

/// The rules as a person would say them, over flat lists.
#[derive(Default)]
struct Model {
    /// Connections in the order of their records: id, device, one, end in milliseconds, recorded.
    connections: Vec<(u64, u8, bool, Option<u64>, bool)>,
    /// Commands that are assigned: number, end of life, connection.
    assigned: Vec<(usize, u64, u64)>,
}

impl Model {
    fn queued(&self, connection: u64) -> usize {
        self.assigned.iter().filter(|(.., owner)| *owner == connection).count()
    }

    fn offer(&mut self, number: usize, device: u8, expires: u64, now: u64) -> &'static str {
        if now >= expires {
            return "expired";
        }
        let newest = self.connections.iter().rev().find(|(id, of, one, end, recorded)| {
            *recorded && *of == device && end.is_none_or(|end| now < end) && !(*one && self.queued(*id) > 0)
        });
        let Some(&(id, _, one, ..)) = newest else { return "not-connected" };
        if !one && self.queued(id) >= 2 {
            return "overflow";
        }
        self.assigned.push((number, expires, id));
        self.assigned.sort();
        "assigned"
    }
}

fn name_of(effect: &Effect) -> &'static str {
    match effect {
        Effect::Assigned(..) => "assigned",
        Effect::Ended(_, Outcome::Expired) => "expired",
        Effect::Ended(_, outcome) => outcome.detail(),
    }
}

proptest! {
    #[test]
    fn the_table_does_what_the_model_says(steps in steps()) {
        let (mut table, mut model, mut time) = (ConnectionTable::default(), Model::default(), Time::new());
        let (mut commands, mut next_id, mut held) = (0, 0, Vec::new());
        for step in steps {
            let now = time.now();
            match step {
                Step::Connect { device: number, one, lasts } => {
                    next_id += 1;
                    let result = table.connect(device(number), ConnectionId(next_id), time.terms(one, lasts), LIMIT);
                    let others = model.connections.iter().filter(|(_, of, ..)| *of == number).count();
                    prop_assert_eq!(result.is_ok(), others < LIMIT);
                    if result.is_ok() {
                        model.connections.push((next_id, number, one, lasts.map(|lasts| time.millis + lasts), false));
                    }
                }
                Step::Record { connection } => {
                    if connection >= model.connections.len() { continue }
                    let (id, number, one, end, _) = model.connections.remove(connection);
                    table.recorded(&device(number), ConnectionId(id));
                    model.connections.push((id, number, one, end, true));
                }
                Step::Deliver { device: number, lives } => {
                    commands += 1;
                    let expires = time.millis + lives;
                    let command = command(number, commands, START.saturating_add(Duration::from_millis(expires)));
                    let effect = table.deliver(command, now);
                    prop_assert_eq!(name_of(&effect), model.offer(commands, number, expires, time.millis));
                }
                Step::Take { connection } => {
                    let Some(&(id, number, one, end, _)) = model.connections.get(connection) else { continue };
                    let taken = table.take(&device(number), ConnectionId(id), Waker::noop(), now);
                    let first = model.assigned.iter().position(|(.., owner)| *owner == id);
                    let over = end.is_some_and(|end| time.millis >= end);
                    match first.map(|first| model.assigned.remove(first)) {
                        Some((command, expires, _)) if time.millis >= expires => {
                            prop_assert!(matches!(taken, Taken::Expired(ended) if ended.id.as_str() == command.to_string()));
                        }
                        Some((command, ..)) => {
                            let Taken::Command(assigned) = taken else { panic!("{taken:?}") };
                            prop_assert_eq!(assigned.command.id.as_str(), command.to_string());
                            held.push((command, number, assigned));
                            if one { model.connections.remove(connection); }
                        }
                        None if over => {
                            prop_assert_eq!(taken, Taken::Ended);
                            model.connections.remove(connection);
                        }
                        None => prop_assert_eq!(taken, Taken::Nothing),
                    }
                }
                Step::Disconnect { connection } => {
                    if connection >= model.connections.len() { continue }
                    let (id, number, ..) = model.connections.remove(connection);
                    let effects = table.disconnect(&device(number), ConnectionId(id), now);
                    let (left, rest) = model.assigned.drain(..).partition(|(.., owner)| *owner == id);
                    model.assigned = rest;
                    let left: Vec<(usize, u64, u64)> = left;
                    prop_assert_eq!(effects.len(), left.len());
                    for (effect, (command, expires, _)) in effects.iter().zip(left) {
                        prop_assert_eq!(name_of(effect), model.offer(command, number, expires, time.millis));
                    }
                }
                Step::Release => {
                    let Some((command, number, assigned)) = held.pop() else { continue };
                    let expires = assigned.command.expires.saturating_since(START).as_millis() as u64;
                    let effect = table.release(assigned, now);
                    prop_assert_eq!(name_of(&effect), model.offer(command, number, expires, time.millis));
                }
                Step::Pass { millis } => time.millis += millis,
            }
            for number in 0..2 {
                let held = model.connections.iter().any(|(_, of, ..)| *of == number);
                prop_assert_eq!(table.holds(device(number).as_str().as_bytes()), held);
            }
        }
    }
}

/// Adds a connection whose record is read at once.
fn connect(table: &mut ConnectionTable, device: &DeviceKey, id: ConnectionId, terms: Terms) {
    table.connect(device.clone(), id, terms, LIMIT).unwrap();
    table.recorded(device, id);
}

/// Promise 7: wherever in the order of events the end of a `ttd` falls, the command has one fate.
#[test]
fn promise_7_a_race_has_one_winner() {
    // The wait ends in three ways: its owner takes after the deadline, its owner hangs up, or it is still open.
    for deliver_at in 0..4 {
        for deadline_at in 0..4 {
            for hang_up_at in 0..5 {
                let (mut table, mut time) = (ConnectionTable::default(), Time::new());
                let (id, key) = (ConnectionId(1), device(1));
                connect(&mut table, &key, id, time.terms(true, Some(deadline_at)));
                let (mut in_response, mut undelivered) = (0, 0);
                let mut count = |effects: Vec<Effect>| {
                    let ended = effects.iter().filter(|effect| matches!(effect, Effect::Ended(..)));
                    undelivered += ended.count();
                };
                for tick in 0..5 {
                    time.millis = tick;
                    if tick == deliver_at {
                        let lasting = START.saturating_add(Duration::from_secs(9));
                        count(vec![table.deliver(command(1, 1, lasting), time.now())]);
                    }
                    if tick == hang_up_at {
                        count(table.disconnect(&key, id, time.now()));
                    }
                    if tick == deadline_at {
                        let taken = table.take(&key, id, Waker::noop(), time.now());
                        in_response += usize::from(matches!(taken, Taken::Command(_)));
                    }
                }
                count(table.disconnect(&key, id, time.now()));
                let case = (deliver_at, deadline_at, hang_up_at);
                assert_eq!(in_response + undelivered, 1, "deliver, deadline, hang up: {case:?}");
                assert!(!table.holds(b"a/1"), "the wait is gone: {case:?}");
            }
        }
    }
}

#[test]
fn promise_6_the_newest_connection_gets_the_command() {
    let (mut table, time) = (ConnectionTable::default(), Time::new());
    let (key, lasting) = (device(1), START.saturating_add(Duration::from_secs(9)));
    for id in 1..=3 {
        connect(&mut table, &key, ConnectionId(id), time.terms(true, None));
    }
    // A late close of an old connection removes no newer one.
    assert!(table.disconnect(&key, ConnectionId(1), time.now()).is_empty());
    for (number, expected) in [(1, 3), (2, 2)] {
        let effect = table.deliver(command(1, number, lasting), time.now());
        assert!(matches!(effect, Effect::Assigned(ConnectionId(id), _) if id == expected), "{effect:?}");
    }
    assert_eq!(name_of(&table.deliver(command(1, 3, lasting), time.now())), "not-connected");
}

#[test]
fn a_connection_takes_no_command_from_before_its_record() {
    let (mut table, time) = (ConnectionTable::default(), Time::new());
    let (key, lasting) = (device(1), START.saturating_add(Duration::from_secs(9)));
    table.connect(key.clone(), ConnectionId(1), time.terms(true, None), LIMIT).unwrap();
    assert_eq!(name_of(&table.deliver(command(1, 1, lasting), time.now())), "not-connected");
    assert_eq!(table.take(&key, ConnectionId(1), Waker::noop(), time.now()), Taken::Nothing);
    table.recorded(&key, ConnectionId(1));
    assert_eq!(name_of(&table.deliver(command(1, 2, lasting), time.now())), "assigned");
}

#[test]
fn the_newest_is_the_one_whose_record_came_last() {
    let (mut table, time) = (ConnectionTable::default(), Time::new());
    let (key, lasting) = (device(1), START.saturating_add(Duration::from_secs(9)));
    for id in [1, 2] {
        table.connect(key.clone(), ConnectionId(id), time.terms(false, None), LIMIT).unwrap();
    }
    for id in [2, 1] {
        table.recorded(&key, ConnectionId(id));
    }
    let effect = table.deliver(command(1, 1, lasting), time.now());
    assert!(matches!(effect, Effect::Assigned(ConnectionId(1), _)), "{effect:?}");
}
