//! What becomes of a command: its states, and the events that tell of them (`docs/events.md`, "Outcomes").

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::{Event, Malformed, OCTET_STREAM, extension, is_content_type};
use crate::id::{CommandName, DeviceKey, EventId};
use crate::time::Timestamp;

/// What became of a command at a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The device has it, as far as the protocol can tell.
    Delivered(Confirmation),
    /// The device did not get it, or that is unknown.
    Undelivered(Reason),
    /// It lapsed before it could be delivered.
    Expired,
}

/// How it is known that a command was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confirmation {
    /// The device acknowledged it: MQTT QoS 1.
    Puback,
    /// It was handed to the transport of a connection that was not known to be closed: HTTP, MQTT QoS 0.
    Written,
}

/// Why a command was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The device held no connection. It never saw the command.
    NotConnected,
    /// The queue of its connection was full. It never saw the command.
    Overflow,
    /// It did not acknowledge the command in time. It may have seen it.
    NoAck,
    /// Its connection ended while the command was under way. It may have seen it.
    ConnectionLost,
}

/// What is known of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The channel has it.
    Accepted,
    /// It waits for its device.
    Pending,
    /// The device has it. Final, unless a reply follows.
    Delivered,
    /// The device replied. Final.
    Replied,
    /// The device did not get it, or that is unknown. Final.
    Undelivered,
    /// It lapsed. Final; the device never saw it.
    Expired,
    /// It was cancelled while it waited. Final; the device never saw it.
    Cancelled,
    /// Another took its place while it waited. Final; the device never saw it.
    Superseded,
}

/// A device's reply to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What the device says of it: 100 to 599, with the meanings of HTTP.
    pub status: u16,
    /// The content type of the payload.
    pub content_type: String,
    /// The payload.
    pub payload: Bytes,
}

/// The change of a command from one state to another, as an event tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The command.
    pub command: EventId,
    /// Its device.
    pub device: DeviceKey,
    /// Its name.
    pub name: CommandName,
    /// How often it had been given to a connection.
    pub attempt: u32,
    /// The new state.
    pub state: State,
    /// Why: of what is undelivered, and of what is pending again.
    pub reason: Option<Reason>,
    /// How it is known that it was delivered.
    pub confirmation: Option<Confirmation>,
    /// When.
    pub time: Timestamp,
    /// The event that caused it.
    pub cause: EventId,
    /// The reply, of what was replied.
    pub reply: Option<Reply>,
}

const PREFIX: &str = "io.drogue.command.";
const VERSION: &str = ".v1";

impl Transition {
    /// Returns the id of its event, the same for all who tell of it: readers drop repeats.
    pub fn id(&self) -> EventId {
        let text = format!("{}.{}.{}", self.command, self.state, self.attempt);
        // Within the length of an event's id by the length of a command's, and of the same characters.
        text.parse().unwrap_or_else(|_| self.command.clone())
    }

    /// Makes its event, of the channel `outcomes`.
    pub fn into_event(self) -> Event {
        let id = self.id();
        let mut extensions = vec![
            (extension::CORRELATION_ID.into(), self.command.to_string()),
            (extension::CAUSATION_ID.into(), self.cause.to_string()),
            (extension::ATTEMPT.into(), self.attempt.to_string()),
        ];
        extensions.extend(self.reason.map(|reason| (extension::REASON.into(), reason.to_string())));
        let confirmation = self.confirmation.map(|how| (extension::CONFIRMATION.into(), how.to_string()));
        extensions.extend(confirmation);
        let (content_type, data) = match self.reply {
            Some(reply) => {
                extensions.push((extension::STATUS.into(), reply.status.to_string()));
                (reply.content_type.into(), reply.payload)
            }
            None => (OCTET_STREAM.into(), Bytes::new()),
        };
        Event {
            id,
            kind: format!("{PREFIX}{}{VERSION}", self.state).into(),
            source: None,
            device: self.device,
            subject: self.name.as_str().to_owned(),
            time: self.time,
            content_type,
            extensions,
            data,
        }
    }

    /// Reads an outcome; an event of another type is none.
    ///
    /// # Errors
    /// Names the attribute that is missing or has no such value.
    pub fn from_event(event: Event) -> Result<Option<Self>, Malformed> {
        let state = event.kind.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(VERSION));
        let Some(state) = state.and_then(State::from_name) else { return Ok(None) };
        let text = |name| event.extension(name).ok_or(Malformed::Missing(name));
        let id = |name| text(name)?.parse().map_err(|_| Malformed::Invalid(name));
        let attempt = text(extension::ATTEMPT)?;
        let reason = event.extension(extension::REASON).map(Reason::from_name);
        let confirmation = event.extension(extension::CONFIRMATION).map(Confirmation::from_name);
        let reply = match state {
            State::Replied => {
                let status = text(extension::STATUS)?;
                let status = parse_status(status).ok_or(Malformed::Invalid(extension::STATUS))?;
                if !is_content_type(&event.content_type) {
                    return Err(Malformed::Invalid("datacontenttype"));
                }
                let content_type = event.content_type.clone().into_owned();
                Some(Reply { status, content_type, payload: event.data.clone() })
            }
            State::Accepted
            | State::Pending
            | State::Delivered
            | State::Undelivered
            | State::Expired
            | State::Cancelled
            | State::Superseded => None,
        };
        Ok(Some(Self {
            command: id(extension::CORRELATION_ID)?,
            cause: id(extension::CAUSATION_ID)?,
            name: event.subject.parse().map_err(|_| Malformed::Invalid("subject"))?,
            attempt: attempt.parse().map_err(|_| Malformed::Invalid(extension::ATTEMPT))?,
            state,
            reason: known(reason, extension::REASON)?,
            confirmation: known(confirmation, extension::CONFIRMATION)?,
            time: event.time,
            reply,
            device: event.device,
        }))
    }
}

fn known<T>(value: Option<Option<T>>, name: &'static str) -> Result<Option<T>, Malformed> {
    value.map(|value| value.ok_or(Malformed::Invalid(name))).transpose()
}

/// Parses the status of a reply: three digits, 100 to 599.
pub fn parse_status(text: &str) -> Option<u16> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|status| digits && (100..=599).contains(status))
}

/// Names of an enumeration's values, as events and answers spell them.
macro_rules! names {
    ($type:ident { $($variant:ident => $name:literal,)* }) => {
        impl $type {
            /// All values.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Finds a value by its name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

names! { State {
    Accepted => "accepted",
    Pending => "pending",
    Delivered => "delivered",
    Replied => "replied",
    Undelivered => "undelivered",
    Expired => "expired",
    Cancelled => "cancelled",
    Superseded => "superseded",
} }

names! { Reason {
    NotConnected => "not-connected",
    Overflow => "overflow",
    NoAck => "no-ack",
    ConnectionLost => "connection-lost",
} }

names! { Confirmation {
    Puback => "puback",
    Written => "written",
} }

impl State {
    /// Tells whether the state may follow on `self`: of two final ones the first counts, but a reply may follow on a
    /// delivery, and a delivery that is learnt of late completes what waits again.
    pub fn admits(self, next: Self) -> bool {
        match self {
            Self::Accepted | Self::Pending => next != Self::Accepted,
            Self::Delivered => next == Self::Replied,
            Self::Replied | Self::Undelivered | Self::Expired | Self::Cancelled | Self::Superseded => false,
        }
    }

    /// Tells whether nothing follows, but for a reply to what was delivered.
    pub fn is_settled(self) -> bool {
        match self {
            Self::Accepted | Self::Pending => false,
            Self::Delivered
            | Self::Replied
            | Self::Undelivered
            | Self::Expired
            | Self::Cancelled
            | Self::Superseded => true,
        }
    }
}

impl Outcome {
    /// Returns the state.
    pub fn state(self) -> State {
        match self {
            Self::Delivered(_) => State::Delivered,
            Self::Undelivered(_) => State::Undelivered,
            Self::Expired => State::Expired,
        }
    }

    /// Returns why the command was not delivered, if that has a reason.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Undelivered(reason) => Some(reason),
            Self::Delivered(_) | Self::Expired => None,
        }
    }

    /// Returns how it is known that the command was delivered.
    pub fn confirmation(self) -> Option<Confirmation> {
        match self {
            Self::Delivered(confirmation) => Some(confirmation),
            Self::Undelivered(_) | Self::Expired => None,
        }
    }

    /// Returns what is known beside the state: the confirmation or the reason, else an empty text.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Delivered(confirmation) => confirmation.as_str(),
            Self::Undelivered(reason) => reason.as_str(),
            Self::Expired => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::example;

    fn transition() -> Transition {
        Transition {
            command: example().id,
            device: example().device,
            name: "set-temp".parse().unwrap(),
            attempt: 2,
            state: State::Pending,
            reason: Some(Reason::NoAck),
            confirmation: None,
            time: example().time,
            cause: "e2".parse().unwrap(),
            reply: None,
        }
    }

    #[test]
    fn a_transition_survives_its_event() {
        let reply = Reply { status: 403, content_type: "text/plain".into(), payload: "no".into() };
        let replied = Transition { state: State::Replied, reason: None, reply: Some(reply), ..transition() };
        for transition in [transition(), replied] {
            let event = transition.clone().into_event();
            assert_eq!(event.id.as_str(), format!("{}.{}.2", example().id, transition.state));
            assert_eq!(Transition::from_event(event), Ok(Some(transition)));
        }
        assert_eq!(Transition::from_event(example()), Ok(None));
        let longest = Transition { command: "x".repeat(128).parse().unwrap(), ..transition() };
        assert_ne!(longest.id(), longest.command);
    }

    #[test]
    fn a_transition_with_unknown_words_is_malformed() {
        for (at, attribute) in ["correlationid", "causationid", "attempt", "reason"].into_iter().enumerate() {
            let mut event = transition().into_event();
            event.extensions[at].1 = "%".into();
            assert_eq!(Transition::from_event(event), Err(Malformed::Invalid(attribute)));
        }
    }

    #[test]
    fn a_status_has_three_digits() {
        assert_eq!(["100", "200", "599"].map(parse_status), [Some(100), Some(200), Some(599)]);
        for bad in ["", "99", "600", "0200", "+20", "abc"] {
            assert_eq!(parse_status(bad), None, "{bad}");
        }
    }

    #[test]
    fn nothing_follows_on_a_final_state_but_a_reply_on_a_delivery() {
        assert!(State::Accepted.admits(State::Undelivered) && State::Pending.admits(State::Pending));
        assert!(State::Delivered.admits(State::Replied) && !State::Delivered.admits(State::Undelivered));
        assert!(!State::Undelivered.admits(State::Delivered) && !State::Replied.admits(State::Replied));
    }
}
