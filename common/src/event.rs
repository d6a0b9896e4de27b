//! Events: CloudEvents 1.0 with the attributes of `docs/events.md`.

pub mod binding;
mod foreign;
pub mod json;

use std::borrow::Cow;

use bytes::Bytes;

use crate::id::{DeviceKey, EventId};
use crate::time::Timestamp;

pub use foreign::Foreign;

/// The `type` of telemetry.
pub const TELEMETRY_TYPE: &str = "io.drogue.telemetry.v1";
/// The `type` of a command.
pub const COMMAND_TYPE: &str = "io.drogue.command.v1";
/// The content type of data whose sender named none.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// The names of the extension attributes that this system reads or writes.
pub mod extension {
    /// Seconds that the device waits for a command, as `30` or `2.5`.
    pub const TTD: &str = "ttd";
    /// When a command lapses, in RFC 3339.
    pub const EXPIRY_TIME: &str = "expirytime";
    /// `true` for a command that is kept while its device is away.
    pub const KEPT: &str = "kept";
    /// Of an outcome: the id of its command.
    pub const CORRELATION_ID: &str = "correlationid";
    /// Of an outcome: the id of the event that caused it.
    pub const CAUSATION_ID: &str = "causationid";
    /// Of an outcome: how often the command had been given to a connection.
    pub const ATTEMPT: &str = "attempt";
    /// Of an outcome: why.
    pub const REASON: &str = "reason";
    /// Of an outcome: how it is known that the device has the command.
    pub const CONFIRMATION: &str = "confirmation";
    /// Of a reply: the device's status, 100 to 599.
    pub const STATUS: &str = "status";
    /// W3C trace context.
    pub const TRACEPARENT: &str = "traceparent";
    /// The application; derived from the event's key.
    pub const APPLICATION: &str = "application";
    /// The device; derived from the event's key.
    pub const DEVICE: &str = "device";
    /// The partition key; derived from the event's key.
    pub const PARTITION_KEY: &str = "partitionkey";

    /// All of them.
    pub(super) const ALL: [&str; 13] = [
        TTD,
        EXPIRY_TIME,
        KEPT,
        CORRELATION_ID,
        CAUSATION_ID,
        ATTEMPT,
        REASON,
        CONFIRMATION,
        STATUS,
        TRACEPARENT,
        APPLICATION,
        DEVICE,
        PARTITION_KEY,
    ];
}

/// A CloudEvent of a device: telemetry, a command, or an outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `id`.
    pub id: EventId,
    /// `type`, as [`TELEMETRY_TYPE`].
    pub kind: Cow<'static, str>,
    /// `source`, where it is another one than [`Event::canonical_source`].
    pub source: Option<String>,
    /// Whose event it is: `application`, `device` and `partitionkey`.
    pub device: DeviceKey,
    /// `subject`: what kind of telemetry, or the command's name.
    pub subject: String,
    /// `time`: received or accepted.
    pub time: Timestamp,
    /// `datacontenttype`; [`OCTET_STREAM`] where the sender named none.
    pub content_type: Cow<'static, str>,
    /// All other attributes, in the order in which they were set.
    pub extensions: Vec<(Cow<'static, str>, String)>,
    /// The data, byte for byte as sent.
    pub data: Bytes,
}

impl Event {
    /// Returns the `source` that the events of a device have here: `drogue://{application}/{device}`.
    pub fn canonical_source(device: &DeviceKey) -> String {
        format!("drogue://{device}")
    }

    /// Returns `source`.
    pub fn source(&self) -> Cow<'_, str> {
        match &self.source {
            Some(source) => Cow::Borrowed(source),
            None => Cow::Owned(Self::canonical_source(&self.device)),
        }
    }

    /// Returns an extension attribute that is not derived from the key.
    pub fn extension(&self, name: &str) -> Option<&str> {
        self.extensions.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Says what is wrong with a record that somebody else wrote. Such a record is counted and skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A required attribute is not there.
    #[error("attribute '{0}' is missing")]
    Missing(&'static str),
    /// An attribute has a value that it must not have.
    #[error("attribute '{0}' has an unusable value")]
    Invalid(&'static str),
    /// The attributes name another device than the record's key.
    #[error("the attributes name another device than the key")]
    KeyMismatch,
    /// The record lies where nobody who writes by the rules puts it.
    #[error("the record is in another partition than its key says; partition by murmur2_random")]
    WrongPartition,
    /// The record is no CloudEvent.
    #[error("the record is no CloudEvent 1.0")]
    NoEvent,
}

/// Tells whether a content type can be carried as an attribute and as a header: printable ASCII, 1 to 256 bytes.
pub fn is_content_type(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Tells whether an attribute may have a name (CloudEvents 1.0, "Naming conventions"); `data` is a member of the JSON.
pub fn is_attribute_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty() && name.bytes().all(is_legal) && name != "data"
}

/// Tells whether an attribute has a meaning for CloudEvents or for this system, so that nobody else may set it.
pub fn is_reserved(name: &str) -> bool {
    let known = [&binding::DEFINED[..], &["specversion", "datacontenttype"], &extension::ALL].concat();
    known.contains(&name)
}

/// Tells whether a text is a W3C `traceparent` of version 00.
pub fn is_traceparent(text: &str) -> bool {
    let lengths = [2, 32, 16, 2];
    let mut parts = text.split('-');
    lengths.iter().all(|length| {
        parts.next().is_some_and(|part| {
            part.len() == *length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    }) && parts.next().is_none()
        && text.starts_with("00-")
}

#[cfg(test)]
pub(crate) fn example() -> Event {
    Event {
        id: "0190a1b2-0000-7000-8000-000000000001".parse().unwrap(),
        kind: COMMAND_TYPE.into(),
        source: None,
        device: DeviceKey::from_bytes(b"default/d1").unwrap(),
        subject: "set-temp".into(),
        time: Timestamp::from_millis(1_700_000_000_123),
        content_type: "application/json".into(),
        extensions: vec![(extension::EXPIRY_TIME.into(), "2023-11-14T22:14:00.000Z".into())],
        data: Bytes::from_static(b"{ \"set-temp\": 40 }"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_fit_into_a_header() {
        assert!(is_content_type("application/json; charset=utf-8"));
        assert!(!is_content_type(""));
        assert!(!is_content_type("text/plain\r\nx: y"));
        assert!(!is_content_type(&"x".repeat(257)));
    }

    #[test]
    fn traceparents_are_checked() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(!is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"));
        assert!(!is_traceparent("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"));
        assert!(!is_traceparent("x"));
    }
}
