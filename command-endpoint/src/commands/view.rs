//! Commands and connections, as applications see them.

use common::outcome::{Reason, State};
use common::time::Timestamp;
use common::tracker::{Reach, Row};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::tracker::Progress;

/// A command, and what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    id: String,
    name: String,
    pub(super) state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<Reason>,
    expires: String,
    history: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    state: State,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

impl View {
    /// Shows a command.
    pub(super) fn of(row: &Row) -> Self {
        let step = |step: &common::tracker::Step| Step {
            state: step.state,
            time: step.time.to_string(),
            reason: step.reason,
        };
        Self {
            id: row.id.to_string(),
            name: row.name.to_string(),
            state: row.state,
            reason: row.reason,
            expires: row.expires.to_string(),
            history: row.history.iter().map(step).collect(),
        }
    }

    /// Adds what was read since, if it is news.
    pub(super) fn updated(mut self, progress: &Progress, now: Timestamp) -> Self {
        if self.state != progress.state && self.state.admits(progress.state) {
            (self.state, self.reason) = (progress.state, progress.reason);
            self.history.push(Step { state: progress.state, time: now.to_string(), reason: progress.reason });
        }
        self
    }

    /// Says in words what became of it.
    pub(crate) fn said(&self) -> String {
        match self.reason {
            Some(reason) => format!("is {}: {reason}", self.state),
            None => format!("is {}", self.state),
        }
    }

    /// Returns it as members of a problem.
    pub(crate) fn members(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(members)) => members,
            // A struct is an object.
            Ok(_) | Err(_) => Map::new(),
        }
    }
}

/// A part of a list.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    pub(super) items: Vec<View>,
    /// Where to go on, unless this is the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
}

/// How a device can be reached.
#[derive(Debug, Default, Serialize)]
pub(super) struct Connection {
    connected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    /// The start of the replica that holds the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<String>,
    /// Since when it is connected, or away.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// Until when it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// When it is expected, by the pattern of its past waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
}

impl Connection {
    /// Shows how a device can be reached: by its newest connection.
    pub(super) fn of(reach: &Reach) -> Self {
        let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
        match reach.ways.first() {
            Some(way) => Self {
                connected: true,
                protocol: Some(way.protocol.to_string()),
                replica: Some(way.id.incarnation.to_string()),
                since: Some(way.since.to_string()),
                until: text(way.until),
                expected: None,
            },
            None => Self { since: text(reach.away_since), expected: text(reach.expected), ..Self::default() },
        }
    }
}
