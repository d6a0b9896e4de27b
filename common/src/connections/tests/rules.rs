//! The rules that the order of commands and closes does not tell: queues, lapses, announcements.

use super::*;

#[test]
fn a_full_queue_overflows_and_a_batch_takes_what_it_said() {
    let (mut replica, device) = (Replica::new(), device(1));
    let session = replica.connect(&device, Capacity::Queue(2));
    replica.send_all(&device, &["1", "2", "3"]);
    assert_eq!(replica.fate("3"), Some("overflow"));
    let batch = replica.connect(&device, Capacity::Batch(3));
    replica.hand_over(&device, replica.last_id(), &["4", "5", "6", "7"]);
    assert_eq!(["4", "5", "6"].map(|_| replica.taken(&device, batch)), ["4", "5", "6"]);
    assert_eq!(replica.fate("7"), Some("released"));
    assert_eq!(replica.take(&device, batch), Taken::Ended);
    assert_eq!(replica.taken(&device, session), "1");
}

#[test]
fn a_kept_command_comes_by_handover_only_and_one_to_an_ended_connection_goes_back() {
    let (mut replica, device) = (Replica::new(), device(1));
    let wait = replica.connect(&device, Capacity::One);
    let kept = Command { kept: true, ..replica.command(&device, "kept", 1_000) };
    replica.log.push(Entry::Command(kept));
    replica.catch_up();
    assert_eq!(replica.take(&device, wait), Taken::Nothing);
    let id = replica.last_id();
    replica.hand_over(&device, id.clone(), &["kept"]);
    let Taken::Command(assigned) = replica.take(&device, wait) else { panic!("it was handed over") };
    assert_eq!((assigned.attempt, assigned.cause), (2, incarnation("cause")));
    replica.hand_over(&device, id, &["late"]);
    assert_eq!(replica.fate("late"), Some("released"));
    replica.hand_over(&device, elsewhere(1), &["theirs"]);
    assert_eq!(replica.fate("theirs"), None);
}

#[test]
fn while_nobody_may_know_that_it_lives_a_replica_hands_nothing_out() {
    let (mut replica, device) = (Replica::new(), device(1));
    let session = replica.connect(&device, Capacity::Queue(9));
    replica.send(&device, "c");
    replica.alive = false;
    assert_eq!(replica.take(&device, session), Taken::Withheld);
    // Nor does it say that one has expired which may be another's.
    replica.millis = 2_000;
    assert_eq!(replica.take(&device, session), Taken::Withheld);
    assert_eq!((replica.table.wakers().len(), replica.table.wakers().len()), (1, 0));
    replica.alive = true;
    assert!(matches!(replica.take(&device, session), Taken::Expired(_)));
}

#[test]
fn behind_its_own_lapse_a_replica_owns_nothing_and_announces_itself_anew() {
    let (mut replica, device) = (Replica::new(), device(1));
    let session = replica.connect(&device, Capacity::Queue(9));
    let wait = replica.connect(&device, Capacity::One);
    let ended = replica.connect(&device, Capacity::One);
    replica.send(&device, "in-hand");
    assert_eq!(replica.taken(&device, ended), "in-hand");
    replica.send_all(&device, &["2", "3"]);
    let before = replica.last_id();
    replica.write(
        &DeviceKey::all(),
        OrderRecord::Lapsed(crate::records::Lapsed { incarnation: incarnation("here"), epoch: Some(1) }),
    );
    replica.catch_up();
    // Nothing is said of what it owned, which is the tracker's.
    assert!(replica.fates.is_empty(), "{:?}", replica.fates);
    assert_eq!(
        [session, wait, ended].map(|handle| replica.take(&device, handle)),
        [Taken::Nothing, Taken::Nothing, Taken::Ended]
    );
    assert!(replica.last_id().connection > before.connection);
    let announced = replica.log.iter().filter(|entry| match entry {
        Entry::Record(_, OrderRecord::Connected(record)) => record.id.connection > before.connection,
        Entry::Record(..) | Entry::Command(_) => false,
    });
    assert_eq!(announced.count(), 2);
    replica.send_all(&device, &["4", "5"]);
    let mut taken = [session, wait].map(|handle| replica.taken(&device, handle));
    taken.sort();
    assert_eq!(taken, ["4", "5"]);
}

#[test]
fn the_lapse_of_another_replica_leaves_the_next_newest() {
    let (mut replica, device) = (Replica::new(), device(1));
    let session = replica.connect(&device, Capacity::Queue(9));
    replica.connect_elsewhere(&device, 1, None);
    replica.send(&device, "theirs");
    let lapsed = crate::records::Lapsed { incarnation: incarnation("elsewhere"), epoch: Some(1) };
    replica.write(&DeviceKey::all(), OrderRecord::Lapsed(lapsed));
    replica.send(&device, "ours");
    assert_eq!(replica.taken(&device, session), "ours");
}

#[test]
fn a_client_that_connects_elsewhere_ends_its_session_here() {
    let (mut replica, device) = (Replica::new(), device(1));
    // The record of the other comes first: ours is the newer one, and stays.
    replica.connect_elsewhere(&device, 1, Some("c"));
    let session = replica.open(&device, Capacity::Queue(9), None, Some("c")).unwrap();
    replica.catch_up();
    replica.connect_elsewhere(&device, 2, Some("other"));
    replica.catch_up();
    assert!(replica.taken_over.is_empty());
    replica.write(&device, OrderRecord::Disconnected(Disconnected { id: elsewhere(2) }));
    replica.send(&device, "untaken");
    replica.connect_elsewhere(&device, 3, Some("c"));
    replica.catch_up();
    assert_eq!(replica.taken_over, [SessionId(session.0)]);
    assert_eq!(replica.fate("untaken"), Some("released"));
    assert_eq!(replica.take(&device, session), Taken::Ended);
    replica.close(&device, session);
    assert_eq!(replica.ends(), 1, "the log has ended it already");
    assert!(!replica.holds(&device));
}

#[test]
fn a_repeated_record_changes_nothing_and_is_ended_if_the_connection_is() {
    let (mut replica, device) = (Replica::new(), device(1));
    let wait = replica.connect(&device, Capacity::One);
    let session = replica.connect(&device, Capacity::Queue(9));
    let repeated = replica.table.repeat(HERE);
    let places: Vec<_> = repeated.iter().map(|(_, record)| record.repeats).collect();
    assert_eq!(places, [Some(Place(0)), Some(Place(1))]);
    assert!(replica.table.repeat(Partition(1)).is_empty());
    replica.close(&device, session);
    replica.send(&device, "c");
    assert_eq!(replica.taken(&device, wait), "c");
    replica.close(&device, wait);
    assert_eq!(replica.ends(), 1, "the log has ended the wait");
    assert!(replica.holds(&device));
    for (device, record) in repeated {
        replica.write(&device, OrderRecord::Connected(record));
    }
    replica.catch_up();
    // Somebody who knows of them by their repeats alone must hear that they are over.
    assert_eq!(replica.ends(), 3);
    assert!(!replica.holds(&device));
}

#[test]
fn a_record_by_which_a_connection_is_not_live_is_ended_before_it_is_announced_anew() {
    let (mut replica, device) = (Replica::new(), device(1));
    let first = replica.open(&device, Capacity::Queue(9), None, None).unwrap();
    let second = replica.open(&device, Capacity::Queue(9), None, None).unwrap();
    let id = replica.last_id();
    // Their records change places: for those who read both, the first means nothing.
    replica.log.swap(0, 1);
    replica.catch_up();
    assert_eq!(replica.ends(), 1);
    assert!(matches!(&replica.log[2], Entry::Record(_, OrderRecord::Disconnected(ended)) if ended.id != id));
    replica.send(&device, "c");
    assert_eq!(replica.taken(&device, first), "c");
    assert_eq!(replica.take(&device, second), Taken::Nothing);
}

#[test]
fn what_is_repeated_of_a_connection_that_lapsed_meanwhile_is_ended() {
    let (mut replica, device) = (Replica::new(), device(1));
    let session = replica.connect(&device, Capacity::Queue(9));
    let (id, repeated) = (replica.last_id(), replica.table.repeat(HERE));
    // The lapse is read, and before the connection is announced anew, its repeated record.
    let lapsed = replica.table.lapsed(HERE, &incarnation("here"));
    let effects = replica.table.connected(&device, &repeated[0].1, HERE, Place(9));
    assert!(matches!(&effects[..], [Effect::Disconnected(_, ended)] if *ended == id), "{effects:?}");
    replica
        .log
        .extend(repeated.into_iter().map(|(_, r)| Entry::Record(device.clone(), OrderRecord::Connected(r))));
    replica.read += 1;
    replica.carry_out(effects);
    replica.carry_out(lapsed);
    replica.catch_up();
    replica.send(&device, "c");
    assert_eq!(replica.taken(&device, session), "c");
    assert_eq!(replica.table.repeat(HERE).len(), 1, "it has one life");
}

#[test]
fn an_interruption_ends_everything_and_says_so_of_what_is_on_its_way() {
    let (mut replica, device) = (Replica::new(), device(1));
    let session = replica.connect(&device, Capacity::Queue(9));
    replica.send(&device, "c");
    let unread = replica.open(&device, Capacity::One, None, None).unwrap();
    let effects = replica.table.interrupt(incarnation("again"));
    replica.carry_out(effects);
    assert_eq!([session, unread].map(|handle| replica.take(&device, handle)), [Taken::Ended, Taken::Ended]);
    assert!(replica.fates.is_empty() && replica.ends() == 1);
    replica.catch_up();
    assert!(!replica.holds(&device));
    replica.connect(&device, Capacity::One);
    assert_eq!(replica.last_id().incarnation, incarnation("again"));
}

#[test]
fn a_connection_that_was_closed_quietly_is_ended_when_it_matters() {
    let (mut replica, device) = (Replica::new(), device(1));
    let session = replica.connect(&device, Capacity::Queue(9));
    let effects = replica.table.disconnect(&device, session, replica.look(), true);
    assert!(effects.is_empty());
    replica.send_all(&device, &["1", "2"]);
    assert_eq!(["1", "2"].map(|id| replica.fate(id)), [Some("released"), None]);
    assert_eq!(replica.ends(), 1);
}
