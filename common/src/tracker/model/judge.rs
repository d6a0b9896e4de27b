//! What must be true of every history.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::ledger::Ledger;
use super::log::{Item, Log, Saw};
use crate::id::{DeviceKey, EventId};
use crate::outcome::{Reason, State, Transition};

/// How a command ended, by the log.
#[derive(Debug, Default)]
struct End {
    state: Option<State>,
    reason: Option<Reason>,
    told: Vec<Transition>,
}

/// Judges what happened, once nothing happens any more. `lost`: rows whose command no log has.
pub(super) fn judge(log: &Log, ledger: &Ledger) -> Result<(), String> {
    let ends = ends(log);
    let commands = commands(log);
    let mut saws: HashMap<EventId, Vec<&Saw>> = HashMap::new();
    for saw in &log.saws {
        if !saw.in_time {
            return Err(format!("{} was seen too late", saw.command));
        }
        if saw.lapsed {
            return Err(format!("{} was written by who had lapsed", saw.command));
        }
        saws.entry(saw.command.clone()).or_default().push(saw);
    }
    let all: HashSet<_> = commands.keys().chain(ledger.rows.keys()).cloned().collect();
    for id in &all {
        let saws = saws.get(id).map(Vec::as_slice).unwrap_or_default();
        let end = ends.get(id).ok_or_else(|| format!("{id}: nothing was told"))?;
        ended_once(id, end, saws)?;
        let kept = commands.get(id).is_some_and(|(_, _, kept)| *kept);
        seen_once(id, kept, end, saws)?;
        if let Some(row) = ledger.rows.get(id) {
            agrees(row, end)?;
        }
    }
    in_order(log, &commands)
}

fn commands(log: &Log) -> BTreeMap<EventId, (usize, DeviceKey, bool)> {
    let mut commands = BTreeMap::new();
    for (at, item) in log.commands.iter().enumerate() {
        if let Item::Command(command, _) = item {
            let known = (at, command.device.clone(), command.kept);
            commands.entry(command.id.clone()).or_insert(known);
        }
    }
    commands
}

fn ends(log: &Log) -> HashMap<EventId, End> {
    let mut ends: HashMap<EventId, End> = HashMap::new();
    for outcome in &log.outcomes {
        let end = ends.entry(outcome.command.clone()).or_default();
        if end.state.unwrap_or(State::Accepted).admits(outcome.state) {
            end.state = Some(outcome.state);
            end.reason = outcome.reason;
        }
        end.told.push(outcome.clone());
    }
    ends
}

/// It ended, and not otherwise than the device saw.
fn ended_once(id: &EventId, end: &End, saws: &[&Saw]) -> Result<(), String> {
    let told = format!("{id} ended as {:?} ({:?})", end.state, end.reason);
    let seen = !saws.is_empty();
    let right = match end.state {
        None | Some(State::Accepted | State::Pending) => false,
        Some(State::Delivered | State::Replied) => seen,
        Some(State::Expired | State::Cancelled | State::Superseded) => !seen,
        Some(State::Undelivered) => match end.reason {
            None => false,
            Some(Reason::NotConnected | Reason::Overflow) => !seen,
            Some(Reason::NoAck | Reason::ConnectionLost) => true,
        },
    };
    if right { Ok(()) } else { Err(format!("{told}, and was seen {} times", saws.len())) }
}

/// It was seen at one connection, or every earlier one is known to be unknown.
fn seen_once(id: &EventId, kept: bool, end: &End, saws: &[&Saw]) -> Result<(), String> {
    let Some((_, earlier)) = saws.split_last() else { return Ok(()) };
    let attempts: HashSet<_> = saws.iter().map(|saw| saw.attempt).collect();
    if attempts.len() < saws.len() {
        return Err(format!("{id} was seen twice in one attempt"));
    }
    for saw in earlier {
        let is_unknown = |told: &&Transition| {
            let next = told.state == State::Pending && told.attempt == saw.attempt + 1;
            next && matches!(told.reason, Some(Reason::NoAck | Reason::ConnectionLost))
        };
        if !kept || !end.told.iter().any(|told| is_unknown(&told)) {
            return Err(format!("{id} was seen again after {saw:?}"));
        }
    }
    Ok(())
}

/// The row says what the log says.
fn agrees(row: &crate::tracker::Row, end: &End) -> Result<(), String> {
    if Some(row.state) != end.state {
        return Err(format!("the row of {} says {}, the log {:?}", row.id, row.state, end.state));
    }
    if !row.told {
        return Err(format!("the end of {} is not known to be told", row.id));
    }
    for step in row.history.iter().filter(|step| step.state != State::Accepted) {
        if !end.told.iter().any(|told| (told.state, told.attempt) == (step.state, step.attempt)) {
            return Err(format!("{step:?} of {} was not published", row.id));
        }
    }
    Ok(())
}

/// Of a device's kept commands, none was seen for the first time before an earlier one was.
fn in_order(log: &Log, commands: &BTreeMap<EventId, (usize, DeviceKey, bool)>) -> Result<(), String> {
    let mut seen = HashSet::new();
    let mut last: HashMap<&DeviceKey, (usize, &EventId)> = HashMap::new();
    for saw in &log.saws {
        let Some((at, device, true)) = commands.get(&saw.command) else { continue };
        if !seen.insert(&saw.command) {
            continue;
        }
        if let Some((_, later)) = last.get(device).filter(|(before, _)| before > at) {
            return Err(format!("{} was first seen after {later}", saw.command));
        }
        last.insert(device, (*at, &saw.command));
    }
    Ok(())
}
