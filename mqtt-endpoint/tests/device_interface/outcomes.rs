//! What became of commands, read from the log: where else it is told comes with the outcomes channel.

use common::testing::eventually_blocking;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{LazyLock, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static OUTCOMES: LazyLock<Mutex<HashMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);

/// Keeps the outcomes that are logged from now on.
pub(crate) fn observe() {
    // Only the first fixture of the process sets it.
    drop(tracing::subscriber::set_global_default(Outcomes));
}

/// Waits until a command has come to an end, and expects that it is this one.
pub(crate) fn expect(id: &str, outcome: &str) {
    eventually_blocking("the command comes to an end", || !outcomes(id).is_empty());
    assert_eq!(outcomes(id), [outcome]);
}

/// Returns all that became of a command.
pub(crate) fn outcomes(id: &str) -> Vec<String> {
    OUTCOMES.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned().unwrap_or_default()
}

struct Outcomes;

#[derive(Default)]
struct Fields {
    id: Option<String>,
    state: Option<String>,
    detail: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "id" => self.id = Some(value.into()),
            "state" => self.state = Some(value.into()),
            "detail" => self.detail = value.into(),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

impl Subscriber for Outcomes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("common::service")
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let (Some(id), Some(state)) = (fields.id, fields.state) {
            let outcome = format!("{state} {}", fields.detail).trim().to_owned();
            OUTCOMES.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default().push(outcome);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
