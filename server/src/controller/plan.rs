//! What is to be done about a resource. Pure: resources and the registry's state go in, a decision comes out.

mod application;
mod device;

use std::time::Duration;

pub(super) use application::{Step, application_status, step};
pub(super) use device::{Resolved, credentials, device_status, key, place};

use super::conditions::{Said, Truth};

/// Says why the registry does not get what a resource says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    /// In CamelCase, for programs.
    pub(super) reason: &'static str,
    /// For people: what is wrong, and what to do.
    pub(super) message: String,
    /// When to look again; `None` if only a change that is watched helps.
    pub(super) again: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), again: None }
    }

    pub(super) fn again(self, after: Duration) -> Self {
        Self { again: Some(after), ..self }
    }
}

/// Returns what the condition `Ready` says.
fn readiness(refusal: Option<&Refusal>) -> Said {
    match refusal {
        None => Said::new(Truth::True, "Applied", "the registry has it"),
        Some(refusal) => Said::new(Truth::False, refusal.reason, &refusal.message),
    }
}
