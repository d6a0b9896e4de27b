//! The table against the order of the whole log: it may have read less of it, and must come to the same.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::order::DeviceOrder;
use crate::records::Lapsed;

#[derive(Debug, Clone)]
enum Step {
    Open { device: u8, capacity: Capacity, lasts: Option<u64>, client: Option<&'static str> },
    Elsewhere { device: u8, client: Option<&'static str> },
    EndElsewhere { device: u8, connection: u64 },
    Command { device: u8, lives: u64 },
    HandOver { connection: usize, commands: u8 },
    Lapse { here: bool },
    Repeat,
    Read { records: u8 },
    Take { connection: usize },
    Close { connection: usize },
    Pulse { alive: bool },
    Pass { millis: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let capacity =
        prop_oneof![Just(Capacity::One), Just(Capacity::Batch(2)), (1..3usize).prop_map(Capacity::Queue)];
    let client = || proptest::option::weighted(0.3, Just("c"));
    let step = prop_oneof![
        3 => (0..2u8, capacity, proptest::option::of(0..30u64), client())
            .prop_map(|(device, capacity, lasts, client)| Step::Open { device, capacity, lasts, client }),
        1 => (0..2u8, client()).prop_map(|(device, client)| Step::Elsewhere { device, client }),
        1 => (0..2u8, 0..8u64).prop_map(|(device, connection)| Step::EndElsewhere { device, connection }),
        4 => (0..2u8, 0..60u64).prop_map(|(device, lives)| Step::Command { device, lives }),
        2 => (0..8usize, 1..4u8).prop_map(|(connection, commands)| Step::HandOver { connection, commands }),
        1 => any::<bool>().prop_map(|here| Step::Lapse { here }),
        1 => Just(Step::Repeat),
        6 => (1..6u8).prop_map(|records| Step::Read { records }),
        4 => (0..8usize).prop_map(|connection| Step::Take { connection }),
        2 => (0..8usize).prop_map(|connection| Step::Close { connection }),
        1 => any::<bool>().prop_map(|alive| Step::Pulse { alive }),
        1 => (0..10u64).prop_map(|millis| Step::Pass { millis }),
    ];
    proptest::collection::vec(step, 0..80)
}

/// A run of steps, and what was taken in it: command, connection, and how much of the log was read then.
struct Run {
    replica: Replica,
    open: Vec<(DeviceKey, Handle)>,
    taken: Vec<(Assigned, usize)>,
    commands: usize,
}

impl Run {
    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let replica = &mut self.replica;
        match step {
            Step::Open { device: number, capacity, lasts, client } => {
                let key = device(number);
                let before = self.open.iter().filter(|(of, _)| *of == key).count();
                let handle = replica.open(&key, capacity, lasts, client);
                prop_assert_eq!(handle.is_some(), before < LIMIT);
                self.open.extend(handle.map(|handle| (key, handle)));
            }
            Step::Elsewhere { device: number, client } => {
                replica.next += 1;
                replica.connect_elsewhere(&device(number), replica.next, client);
            }
            Step::EndElsewhere { device: number, connection } => {
                let id = elsewhere(connection);
                replica.write(&device(number), OrderRecord::Disconnected(Disconnected { id }));
            }
            Step::Command { device: number, lives } => {
                self.commands += 1;
                let command = replica.command(&device(number), &self.commands.to_string(), lives);
                replica.log.push(Entry::Command(command));
            }
            Step::HandOver { connection, commands } => self.hand_over(connection, commands),
            Step::Lapse { here } => {
                let incarnation = incarnation(if here { "here" } else { "elsewhere" });
                let record = OrderRecord::Lapsed(Lapsed { incarnation, epoch: None });
                replica.write(&DeviceKey::all(), record);
            }
            Step::Repeat => {
                for (device, record) in replica.table.repeat(HERE) {
                    replica.write(&device, OrderRecord::Connected(record));
                }
            }
            Step::Read { records } => {
                for _ in 0..records {
                    replica.read();
                }
            }
            Step::Take { connection } => self.take(connection)?,
            Step::Close { connection } => {
                if connection < self.open.len() {
                    let (device, handle) = self.open.remove(connection);
                    replica.close(&device, handle);
                }
            }
            Step::Pulse { alive } => replica.alive = alive,
            Step::Pass { millis } => replica.millis += millis,
        }
        let held = |(device, _): &(DeviceKey, Handle)| self.replica.holds(device);
        prop_assert!(self.open.iter().all(held), "a device is held while it is connected");
        Ok(())
    }

    /// Gives commands to some connection that the log knows, live or not.
    fn hand_over(&mut self, connection: usize, commands: u8) {
        let mut known = self.replica.log.iter().rev().filter_map(|entry| match entry {
            Entry::Record(device, OrderRecord::Connected(record)) => {
                Some((device.clone(), record.id.clone()))
            }
            Entry::Record(..) | Entry::Command(_) => None,
        });
        let Some((device, id)) = known.nth(connection) else { return };
        let ids: Vec<_> =
            (0..commands).map(|one| (self.commands + 1 + usize::from(one)).to_string()).collect();
        self.commands += usize::from(commands);
        let given = ids
            .iter()
            .map(|id| Given::of(&Command { kept: true, ..self.replica.command(&device, id, 30) }, 1));
        let record = OrderRecord::Handover(Handover { epoch: 1, id, commands: given.collect() });
        self.replica.write(&device, record);
    }

    fn take(&mut self, connection: usize) -> Result<(), TestCaseError> {
        let Some((device, handle)) = self.open.get(connection).cloned() else { return Ok(()) };
        let look = self.replica.look();
        match self.replica.take(&device, handle) {
            Taken::Command(assigned) => {
                prop_assert!(look.alive && !assigned.command.is_expired(look.now.wall));
                self.taken.push((assigned, self.replica.read));
            }
            Taken::Expired(assigned) => {
                prop_assert!(look.alive && assigned.command.is_expired(look.now.wall));
                self.replica.fates.push((assigned.command.id.to_string(), "expired"));
            }
            Taken::Withheld => prop_assert!(!look.alive),
            Taken::Nothing | Taken::Ended => {}
        }
        Ok(())
    }
}

/// Whose a command is by the whole log: the place of the record that says so, and the connection.
type Owners = HashMap<String, (usize, ConnectionRef)>;

/// Reads the whole log as the tracker does.
fn owners(log: &[Entry]) -> Owners {
    let mut orders = HashMap::<DeviceKey, DeviceOrder>::new();
    let mut owners = Owners::new();
    for (place, entry) in log.iter().enumerate() {
        match entry {
            Entry::Command(command) => {
                let owner = orders.entry(command.device.clone()).or_default().command();
                owners.extend(owner.map(|owner| (command.id.to_string(), (place, owner))));
            }
            Entry::Record(device, OrderRecord::Connected(record)) => {
                orders.entry(device.clone()).or_default().connected(record, Place(place as u64));
            }
            Entry::Record(device, OrderRecord::Disconnected(record)) => {
                orders.entry(device.clone()).or_default().disconnected(&record.id);
            }
            Entry::Record(device, OrderRecord::Handover(record)) => {
                if orders.entry(device.clone()).or_default().handover(&record.id) {
                    let ids = record.commands.iter().map(|given| given.command.to_string());
                    owners.extend(ids.map(|id| (id, (place, record.id.clone()))));
                }
            }
            Entry::Record(_, OrderRecord::Lapsed(record)) => {
                orders.values_mut().for_each(|order| drop(order.lapsed(&record.incarnation)));
            }
            Entry::Record(
                ..,
                OrderRecord::Released(_)
                | OrderRecord::Alive(_)
                | OrderRecord::Announce(_)
                | OrderRecord::Announced(_),
            ) => {}
        }
    }
    owners
}

fn judge(run: &Run) -> Result<(), TestCaseError> {
    let (log, here) = (&run.replica.log, incarnation("here"));
    let owners = owners(log);
    let lapses = |between: std::ops::Range<usize>| {
        let is_lapse = |entry: &Entry| match entry {
            Entry::Record(_, OrderRecord::Lapsed(record)) => record.incarnation == here,
            Entry::Record(..) | Entry::Command(_) => false,
        };
        log[between].iter().any(is_lapse)
    };
    let mut last = HashMap::<&ConnectionRef, usize>::new();
    for (assigned, read) in &run.taken {
        let owner = owners.get(assigned.command.id.as_str());
        prop_assert!(owner.is_some(), "{:?} is nobody's: {:?}", assigned.command.id, log);
        let (place, id) = owner.unwrap();
        prop_assert_eq!(&assigned.id, id, "it is another's: {:?}", log);
        prop_assert!(!lapses(*place..*read), "it was taken behind a lapse: {:?}", log);
        let before = last.insert(&assigned.id, *place);
        prop_assert!(before <= Some(*place), "the order of a connection is that of the log");
    }
    for number in 1..=run.commands {
        let id = number.to_string();
        let taken = run.taken.iter().filter(|(assigned, _)| assigned.command.id.as_str() == id).count();
        let fates: Vec<_> = run.replica.fates.iter().filter(|(command, _)| *command == id).collect();
        match owners.get(&id) {
            Some((place, owner)) if owner.incarnation == here => {
                let lost = lapses(*place..log.len());
                prop_assert!(taken + fates.len() <= 1, "{} has {} and {:?}", id, taken, fates);
                prop_assert!(taken + fates.len() == 1 || lost, "{} has no fate: {:?}", id, log);
            }
            Some(_) => prop_assert!(taken == 0 && fates.is_empty(), "{} is not ours: {:?}", id, log),
            // Given to a connection of this replica that had ended.
            None => prop_assert!(
                taken == 0 && fates.iter().all(|(_, fate)| *fate == "released"),
                "{} is nobody's: {:?}",
                id,
                log
            ),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_table_does_what_the_whole_log_says(steps in steps()) {
        let replica = Replica::new();
        let mut run = Run { replica, open: Vec::new(), taken: Vec::new(), commands: 0 };
        for step in steps {
            run.step(step)?;
        }
        run.replica.alive = true;
        run.replica.catch_up();
        for (device, handle) in std::mem::take(&mut run.open) {
            run.replica.close(&device, handle);
        }
        run.replica.catch_up();
        judge(&run)?;
        for number in 0..2 {
            prop_assert!(!run.replica.holds(&device(number)), "nothing is left: {:?}", run.replica.log);
        }
    }
}
