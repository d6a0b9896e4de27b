//! Conditions of a status, by the rules of Kubernetes: the time of one is that of the last change of its `status`.

use common::time::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff;

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) truth: Truth,
    /// In CamelCase, for programs.
    pub(super) reason: String,
    /// For people.
    pub(super) message: String,
}

impl Said {
    pub(super) fn new(truth: Truth, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { truth, reason: reason.into(), message: message.into() }
    }
}

/// Makes the condition `kind` that follows on those in `old`.
pub(super) fn condition(
    kind: &str,
    said: &Said,
    old: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let before = old.iter().find(|condition| condition.type_ == kind);
    let unchanged = before.filter(|condition| condition.status == said.truth.as_str());
    Condition {
        type_: kind.to_owned(),
        status: said.truth.as_str().to_owned(),
        reason: said.reason.clone(),
        message: said.message.clone(),
        observed_generation: generation,
        last_transition_time: unchanged
            .map_or_else(|| time(now), |condition| condition.last_transition_time.clone()),
    }
}

/// Converts a time to that of Kubernetes, which has whole seconds.
pub(super) fn time(at: Timestamp) -> Time {
    let seconds = jiff::Timestamp::from_second(at.as_millis().div_euclid(1000));
    // Further away than jiff knows is as good as the beginning: no clock says that.
    Time(seconds.unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

/// Writes a word as a reason: `mqtt` as `Mqtt`.
pub(super) fn reason_of(word: &str) -> String {
    let letters: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
    match letters.split_at_checked(1) {
        Some((first, rest)) if first.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            first.to_ascii_uppercase() + rest
        }
        Some(_) | None => "Other".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_condition_is_that_of_its_last_change() {
        let at = Timestamp::from_millis;
        let first = condition("Ready", &Said::new(Truth::False, "A", "a"), &[], Some(1), at(5_000));
        assert_eq!(first.last_transition_time, time(at(5_000)));
        let old = [first];
        let second = condition("Ready", &Said::new(Truth::False, "B", "b"), &old, Some(2), at(9_000));
        assert_eq!(second.last_transition_time, time(at(5_000)));
        assert_eq!((second.reason.as_str(), second.observed_generation), ("B", Some(2)));
        let third = condition("Ready", &Said::new(Truth::True, "C", "c"), &old, Some(2), at(9_999));
        assert_eq!(third.last_transition_time, time(at(9_000)));
        let other = condition("Connected", &Said::new(Truth::False, "A", "a"), &old, None, at(9_000));
        assert_eq!(other.last_transition_time, time(at(9_000)));
    }

    #[test]
    fn a_reason_is_a_word_in_camel_case() {
        for (word, reason) in
            [("mqtt", "Mqtt"), ("http", "Http"), ("co-ap 2", "Coap2"), ("", "Other"), ("5g", "Other")]
        {
            assert_eq!(reason_of(word), reason);
        }
    }
}
