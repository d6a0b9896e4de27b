//! How a device can be reached, as its status shows it. Pure: answers and times go in, what is shown comes out.
//!
//! A device that polls comes and goes every few seconds, and the status of a resource is no place for that. So a break
//! that is shorter than [`BREAK`] is none, as long as the changes of the connections are followed without a gap.

use std::time::Duration;

use common::time::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

use super::conditions::{Said, Truth, reason_of, time};
use super::resources::ConnectionStatus;

/// The longest break in which a device is shown as connected still.
pub(super) const BREAK: Duration = Duration::from_secs(5);

/// The reason where the registry has no such device.
const NOBODY: &str = "NotRegistered";

/// What the registry's interface answers, as far as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Answer {
    pub(super) connected: bool,
    #[serde(default)]
    pub(super) protocol: Option<String>,
    /// Since when it is connected, or away, in RFC 3339.
    #[serde(default)]
    pub(super) since: Option<String>,
}

impl Answer {
    fn since(&self) -> Option<Timestamp> {
        self.since.as_deref()?.parse().ok()
    }
}

/// How a device can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// By a connection over the protocol.
    Connected { protocol: String, since: Option<Timestamp> },
    /// Not at all.
    Away { since: Option<Timestamp> },
    /// Nobody knows.
    Unknown { reason: &'static str, message: String },
}

impl Link {
    fn of(answer: &Answer) -> Self {
        let since = answer.since();
        if answer.connected {
            Self::Connected { protocol: answer.protocol.clone().unwrap_or_default(), since }
        } else {
            Self::Away { since }
        }
    }

    /// Returns what the condition says.
    pub(super) fn said(&self) -> Said {
        match self {
            Self::Connected { protocol, .. } => {
                Said::new(Truth::True, reason_of(protocol), format!("commands reach it over {protocol}"))
            }
            Self::Away { .. } => Said::new(Truth::False, "Away", "it holds no connection"),
            Self::Unknown { reason, message } => Said::new(Truth::Unknown, *reason, message),
        }
    }

    /// Returns what the status says beside the condition.
    pub(super) fn status(&self) -> Option<ConnectionStatus> {
        let at = |since: &Option<Timestamp>| -> Option<Time> { since.map(time) };
        match self {
            Self::Connected { protocol, since } => {
                Some(ConnectionStatus { protocol: Some(protocol.clone()), since: at(since) })
            }
            Self::Away { since } => {
                since.is_some().then(|| ConnectionStatus { protocol: None, since: at(since) })
            }
            Self::Unknown { .. } => None,
        }
    }
}

/// What is remembered of a device's connections while they are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// What is shown.
    pub(super) link: Link,
    /// When it was seen to be away, if that is not shown yet.
    broken: Option<Timestamp>,
}

impl Seen {
    /// Remembers that nothing is known.
    pub(super) fn unknown(reason: &'static str, message: impl Into<String>) -> Self {
        Self { link: Link::Unknown { reason, message: message.into() }, broken: None }
    }

    /// Remembers that the registry has no such device.
    pub(super) fn nobody() -> Self {
        Self::unknown(NOBODY, "the registry has no such device")
    }

    /// Tells whether the registry has no such device.
    pub(super) fn is_of_nobody(&self) -> bool {
        matches!(&self.link, Link::Unknown { reason, .. } if *reason == NOBODY)
    }

    /// Takes an answer in. `before` is what is remembered, unless changes may have been missed since.
    pub(super) fn next(before: Option<&Self>, answer: &Answer, now: Timestamp) -> Self {
        let link = Link::of(answer);
        let Some(Self { link: shown @ Link::Connected { protocol: over, .. }, broken }) = before else {
            return Self { link, broken: None };
        };
        let began = broken.unwrap_or(now);
        let short = now.saturating_since(began) < BREAK;
        match &link {
            Link::Connected { protocol, .. } if protocol == over && short => {
                Self { link: shown.clone(), broken: None }
            }
            Link::Away { .. } if short => Self { link: shown.clone(), broken: Some(began) },
            Link::Connected { .. } | Link::Away { .. } | Link::Unknown { .. } => Self { link, broken: None },
        }
    }

    /// Returns when to look again, if what is shown may not be so any more.
    pub(super) fn look_again(&self, now: Timestamp) -> Option<Duration> {
        let began = self.broken?;
        Some(BREAK.saturating_sub(now.saturating_since(began)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn connected(protocol: &str, since: i64) -> Answer {
        Answer { connected: true, protocol: Some(protocol.to_owned()), since: Some(at(since).to_string()) }
    }

    fn away(since: i64) -> Answer {
        Answer { since: Some(at(since).to_string()), ..Answer::default() }
    }

    fn shown(protocol: &str, since: i64) -> Link {
        Link::Connected { protocol: protocol.to_owned(), since: Some(at(since)) }
    }

    #[test]
    fn a_device_that_polls_is_connected_since_its_first_wait() {
        let mut seen = Seen::next(None, &connected("http", 100), at(100));
        for poll in 1..10 {
            let now = 100 + poll * 10;
            seen = Seen::next(Some(&seen), &away(now), at(now));
            assert_eq!(seen.link, shown("http", 100));
            assert_eq!(seen.look_again(at(now + 1)), Some(Duration::from_secs(4)));
            seen = Seen::next(Some(&seen), &connected("http", now + 4), at(now + 4));
            assert_eq!((&seen.link, seen.look_again(at(now + 4))), (&shown("http", 100), None));
        }
    }

    #[test]
    fn a_break_is_shown_when_it_is_long() {
        let seen = Seen::next(None, &connected("mqtt", 100), at(100));
        let seen = Seen::next(Some(&seen), &away(200), at(200));
        let seen = Seen::next(Some(&seen), &away(200), at(205));
        assert_eq!(seen.link, Link::Away { since: Some(at(200)) });
        assert_eq!(seen.look_again(at(205)), None);
        let seen = Seen::next(Some(&seen), &connected("mqtt", 206), at(206));
        assert_eq!(seen.link, shown("mqtt", 206));
        let broken = Seen::next(Some(&seen), &away(300), at(300));
        let back = Seen::next(Some(&broken), &connected("mqtt", 309), at(309));
        assert_eq!(back.link, shown("mqtt", 309));
    }

    #[test]
    fn another_protocol_is_another_connection() {
        let seen = Seen::next(None, &connected("http", 100), at(100));
        let seen = Seen::next(Some(&seen), &connected("mqtt", 101), at(101));
        assert_eq!(seen.link, shown("mqtt", 101));
    }

    #[test]
    fn without_memory_the_answer_is_shown() {
        assert_eq!(Seen::next(None, &away(100), at(100)).link, Link::Away { since: Some(at(100)) });
        assert_eq!(Seen::next(None, &Answer::default(), at(100)).link.status(), None);
        let unknown = Seen::unknown("Unsupported", "no log");
        assert_eq!(unknown.link.said().truth, Truth::Unknown);
        assert_eq!(Seen::next(Some(&unknown), &connected("http", 9), at(9)).link, shown("http", 9));
    }

    #[test]
    fn the_reason_is_the_protocol() {
        let said = Link::of(&connected("mqtt", 0)).said();
        assert_eq!((said.truth, said.reason.as_str()), (Truth::True, "Mqtt"));
        assert_eq!(Link::of(&away(0)).said().reason, "Away");
    }
}
