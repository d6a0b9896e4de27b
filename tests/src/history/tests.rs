use common::outcome::{Reason, State};

use super::*;

fn sent(command: &str, at: Millis, answer: Answer) -> Operation {
    let (device, command) = ("d".to_owned(), command.to_owned());
    Operation::Sent { device, command, kept: true, at, expires: at + 100, answer }
}

fn received(device: &str, connection: u64, command: &str, at: Millis) -> Operation {
    Operation::Received { device: device.to_owned(), connection, command: command.to_owned(), at }
}

fn connected(connection: u64, at: Millis) -> Operation {
    Operation::Connected { device: "d".to_owned(), connection, at }
}

fn disconnected(connection: u64, at: Millis) -> Operation {
    Operation::Disconnected { device: "d".to_owned(), connection, at }
}

fn faults(operations: &[Operation]) -> Vec<String> {
    let faults = judge(operations, &Found::default(), Duration::from_millis(80)).faults;
    faults.into_iter().map(|fault| fault.split(':').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_good_history_has_no_fault() {
    let good = [
        connected(1, 0),
        sent("a", 1, Answer::Accepted),
        sent("b", 2, Answer::Accepted),
        received("d", 1, "a", 3),
        received("d", 1, "b", 4),
    ];
    assert!(faults(&good).is_empty());
}

#[test]
fn each_fault_is_found() {
    let a = || sent("a", 1, Answer::Accepted);
    let b = || sent("b", 2, Answer::Accepted);
    let on = || connected(1, 0);
    assert_eq!(faults(&[on(), a()]), ["lost"]);
    assert_eq!(faults(&[on(), a(), received("d", 1, "a", 2), received("d", 1, "a", 3)]), ["duplicated"]);
    assert_eq!(faults(&[on(), a(), received("d", 1, "a", 101)]), ["late"]);
    assert_eq!(faults(&[on(), a(), received("d", 1, "a", 2), received("e", 7, "a", 2)]), ["stranger"]);
    assert_eq!(faults(&[on(), received("d", 1, "x", 2)]), ["invented"]);
    let swapped = [on(), a(), b(), received("d", 1, "b", 3), received("d", 1, "a", 4)];
    assert_eq!(faults(&swapped), ["reordered"]);
    let accepted = Operation::Accepted { device: "d".into(), subject: "s".into() };
    assert_eq!(faults(&[accepted]), ["lost"]);
}

#[test]
fn a_command_need_not_arrive_where_the_device_was_not_there_all_the_time() {
    let a = || sent("a", 10, Answer::Accepted);
    assert!(faults(&[a()]).is_empty());
    assert!(faults(&[connected(1, 0), disconnected(1, 50), a()]).is_empty());
    assert!(faults(&[connected(1, 20), a()]).is_empty());
    assert!(faults(&[connected(1, 0), sent("a", 10, Answer::Doubtful)]).is_empty());
    assert!(faults(&[connected(1, 0), disconnected(1, 89), a()]).is_empty());
    assert_eq!(faults(&[connected(1, 0), disconnected(1, 90), a()]), ["lost"]);
}

#[test]
fn a_command_is_due_once_there_was_calm_for_long_enough() {
    let struck = |at, until| Operation::Struck { at, until };
    let history = |strike| [connected(1, 0), sent("a", 10, Answer::Accepted), disconnected(1, 105), strike];
    assert_eq!(faults(&history(struck(20, 35))), ["lost"]);
    assert!(faults(&history(struck(20, 36))).is_empty(), "its connection ended before");
    assert!(faults(&[connected(1, 0), sent("a", 10, Answer::Accepted), struck(20, 41)]).is_empty());
}

#[test]
fn what_is_told_explains_what_is_missing_and_what_comes_again() {
    let told = |state, reason: Option<Reason>| Told {
        id: format!("a.{state}.{}", u8::from(reason.is_some())),
        command: "a".to_owned(),
        state,
        reason,
        confirmation: None,
    };
    let judged = |operations: &[Operation], told: Vec<Told>| {
        let found = Found { telemetry: Vec::new(), outcomes: Some(told) };
        judge(operations, &found, Duration::from_millis(80)).faults
    };
    let missed = [connected(1, 0), sent("a", 10, Answer::Accepted)];
    let lost = told(State::Undelivered, Some(Reason::ConnectionLost));
    assert_eq!(judged(&missed, vec![lost.clone()]), Vec::<String>::new());
    assert_eq!(judged(&missed, Vec::new()).len(), 2, "it is lost, and nothing was told");
    let twice = [&missed[..], &[received("d", 1, "a", 11), received("d", 1, "a", 12)]].concat();
    let again = told(State::Pending, Some(Reason::ConnectionLost));
    let delivered = told(State::Delivered, None);
    assert_eq!(judged(&twice, vec![again, delivered.clone()]), Vec::<String>::new());
    assert_eq!(judged(&twice, vec![delivered]).len(), 1);
    assert_eq!(judged(&twice, vec![lost]).len(), 1);
}

#[test]
fn telemetry_is_held_against_an_independent_reader() {
    let accepted = Operation::Accepted { device: "d".into(), subject: "s".into() };
    let telemetry = vec![("d".to_owned(), "s".to_owned()); 2];
    let found = Found { telemetry, outcomes: None };
    let verdict = judge(&[accepted], &found, Duration::ZERO);
    assert!(verdict.faults.is_empty());
    assert_eq!(verdict.telemetry["in the topic more than once"], 1);
}
