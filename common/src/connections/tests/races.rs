//! The races: promises 6 and 7 at every order of events.

use super::*;

/// Promise 7: wherever in the order of events the end of a `ttd` falls, the command has one fate.
#[test]
fn promise_7_a_race_has_one_winner() {
    // The wait ends in three ways: its owner takes after the deadline, its owner hangs up, or it is still open. Its record
    // and the command are read late or at once.
    let ticks = (0..4).flat_map(|send| {
        (1..4).flat_map(move |deadline| (0..5).map(move |hang_up| (send, deadline, hang_up)))
    });
    for (send_at, deadline_at, hang_up_at) in ticks {
        for read_at in 0..6 {
            let (mut replica, device) = (Replica::new(), device(1));
            let wait = replica.open(&device, Capacity::One, Some(deadline_at), None).unwrap();
            let mut in_response = 0;
            for tick in 0..6 {
                replica.millis = tick;
                if tick == send_at {
                    let command = replica.command(&device, "c", 100);
                    replica.log.push(Entry::Command(command));
                }
                if tick >= read_at {
                    replica.catch_up();
                }
                if tick == hang_up_at {
                    replica.close(&device, wait);
                }
                if tick == deadline_at {
                    let taken = replica.take(&device, wait);
                    in_response += usize::from(matches!(taken, Taken::Command(_)));
                }
            }
            replica.close(&device, wait);
            replica.catch_up();
            let given_back = usize::from(replica.fate("c").is_some());
            let case = (send_at, deadline_at, hang_up_at, read_at);
            assert!(in_response + given_back <= 1, "send, deadline, hang up, read: {case:?}");
            // The record of the wait lies before the command, and that of its end too if it hung up first.
            let hung_up_first = hang_up_at < send_at;
            assert_eq!(in_response + given_back, usize::from(!hung_up_first), "{case:?}: {:?}", replica.log);
            assert!(!replica.holds(&device), "the wait is gone: {case:?}");
        }
    }
}

#[test]
fn promise_6_the_newest_connection_gets_the_command() {
    let (mut replica, device) = (Replica::new(), device(1));
    let waits = [(); 3].map(|()| replica.connect(&device, Capacity::One));
    // A late close of an old connection ends no newer one.
    replica.close(&device, waits[0]);
    replica.send(&device, "first");
    replica.send(&device, "second");
    assert_eq!(replica.taken(&device, waits[2]), "first");
    assert_eq!(replica.taken(&device, waits[1]), "second");
    replica.send(&device, "third");
    assert_eq!(replica.fate("third"), None, "there is nobody here whose it could be");
}

#[test]
fn the_newest_is_the_one_whose_record_came_last_wherever_it_is() {
    let (mut replica, device) = (Replica::new(), device(1));
    let here = replica.connect(&device, Capacity::Queue(9));
    replica.connect_elsewhere(&device, 1, None);
    replica.send(&device, "theirs");
    assert_eq!(replica.take(&device, here), Taken::Nothing);
    replica.write(&device, OrderRecord::Disconnected(Disconnected { id: elsewhere(1) }));
    replica.send(&device, "ours");
    assert_eq!(replica.taken(&device, here), "ours");
    assert!(replica.fates.is_empty());
}

#[test]
fn a_connection_takes_no_command_from_before_its_record() {
    let (mut replica, device) = (Replica::new(), device(1));
    let command = replica.command(&device, "before", 1_000);
    replica.log.push(Entry::Command(command));
    let wait = replica.open(&device, Capacity::One, None, None).unwrap();
    replica.catch_up();
    assert_eq!(replica.take(&device, wait), Taken::Nothing);
    replica.send(&device, "behind");
    assert_eq!(replica.taken(&device, wait), "behind");
}

#[test]
fn what_the_order_gives_to_a_connection_that_just_closed_is_given_back() {
    let (mut replica, device) = (Replica::new(), device(1));
    let session = replica.connect(&device, Capacity::Queue(9));
    let command = replica.command(&device, "c", 1_000);
    replica.log.push(Entry::Command(command));
    replica.close(&device, session);
    assert!(replica.holds(&device), "its end is yet to be read");
    replica.catch_up();
    assert_eq!(replica.fate("c"), Some("released"));
    assert!(!replica.holds(&device));
    assert_eq!(replica.ends(), 1);
}
