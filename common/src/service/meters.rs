//! What the shell counts, and what it says of commands that came to an end.

use metrics::{Counter, Gauge, counter, gauge};

use super::devices::Protocol;
use crate::command::Command;
use crate::error::ErrorKind;
use crate::id::{DeviceKey, EventId};
use crate::outcome::{Outcome, Reason};

/// Counters that are touched for every message, looked up once.
#[derive(Debug)]
pub(super) struct Meters {
    /// Records for devices that have no connection here.
    pub(super) foreign: Counter,
    /// Records that are no commands.
    pub(super) malformed: Counter,
}

impl Meters {
    pub(super) fn new() -> Self {
        Self {
            foreign: counter!("drogue_commands_foreign_total"),
            malformed: counter!("drogue_records_malformed_total", "channel" => "commands"),
        }
    }
}

/// What became of a message of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TelemetryOutcome {
    /// The channel has it.
    Accepted,
    /// The device was told that the channel does not have it, or that this is unknown.
    Failed(ErrorKind),
    /// The device left before the channel answered.
    Abandoned,
}

impl From<Result<(), ErrorKind>> for TelemetryOutcome {
    fn from(result: Result<(), ErrorKind>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Accepted)
    }
}

/// Counts what became of telemetry.
pub(super) fn telemetry(protocol: Protocol, outcome: TelemetryOutcome) {
    let result = match outcome {
        TelemetryOutcome::Accepted => "accepted",
        TelemetryOutcome::Failed(kind) => kind.as_str(),
        TelemetryOutcome::Abandoned => "abandoned",
    };
    counter!("drogue_telemetry_total", "protocol" => protocol.as_str(), "result" => result).increment(1);
}

/// Counts a message as abandoned, unless it is told before it is dropped what became of it.
pub(super) struct Counting {
    protocol: Protocol,
    outcome: TelemetryOutcome,
}

impl Counting {
    pub(super) fn new(protocol: Protocol) -> Self {
        Self { protocol, outcome: TelemetryOutcome::Abandoned }
    }

    pub(super) fn finish(mut self, outcome: TelemetryOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        telemetry(self.protocol, self.outcome);
    }
}

/// Counts a login that was refused.
pub(super) fn refused_login(protocol: Protocol, kind: ErrorKind) {
    counter!("drogue_logins_refused_total", "protocol" => protocol.as_str(), "kind" => kind.as_str())
        .increment(1);
}

/// Counts and logs what became of a command.
pub(super) fn outcome(command: &Command, outcome: Outcome) {
    let (state, detail) = (outcome.state().as_str(), outcome.detail());
    count(state, detail);
    let (id, device) = (command.id.as_str(), command.device.as_str());
    match outcome {
        Outcome::Delivered(_) => tracing::trace!(id, device, state, detail, "command"),
        Outcome::Undelivered(_) | Outcome::Expired => tracing::info!(id, device, state, detail, "command"),
    }
}

/// Counts and logs that a command was given back.
pub(super) fn released(command: &Command, reason: Option<Reason>) {
    let (state, detail) = ("released", reason.map_or("", Reason::as_str));
    count(state, detail);
    tracing::info!(id = command.id.as_str(), device = command.device.as_str(), state, detail, "command");
}

/// Counts and logs that a command was acknowledged after it had come to its end.
pub(super) fn late(id: &EventId, device: &DeviceKey) {
    let (state, detail) = ("delivered", "late");
    count(state, detail);
    tracing::info!(id = id.as_str(), device = device.as_str(), state, detail, "command");
}

fn count(state: &'static str, detail: &'static str) {
    counter!("drogue_commands_total", "state" => state, "detail" => detail).increment(1);
}

/// Shows how many reports wait for the channel.
pub(super) fn reports_waiting() -> Gauge {
    gauge!("drogue_reports_waiting")
}

/// Counts a report that nobody will read.
pub(super) fn report_lost() {
    counter!("drogue_reports_lost_total").increment(1);
}

/// Counts a heartbeat that a partition did not take.
pub(super) fn missed_heartbeat() {
    counter!("drogue_heartbeats_missed_total").increment(1);
}

/// Counts that this replica was taken for dead, in one partition.
pub(super) fn lapsed() {
    counter!("drogue_lapses_total").increment(1);
}
