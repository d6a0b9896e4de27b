//! Names of things, each of a type of its own. A value of one of these types is known to be well formed.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// The application that a user name without `@application` belongs to.
pub const DEFAULT_APPLICATION: &str = "default";

/// The longest id or name, in bytes.
pub const MAX_ID_LEN: usize = 128;

/// The longest id of an event, in bytes: that of an outcome is its command's id and more.
pub const MAX_EVENT_ID_LEN: usize = 160;

/// Says why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The text is empty or too long.
    #[error("{what} must have 1 to {max} characters, this one has {len}")]
    Length {
        /// What was parsed, as `device id`.
        what: &'static str,
        /// The most bytes that it may have.
        max: usize,
        /// The length of the text in bytes.
        len: usize,
    },
    /// The text has a character outside the allowed set, or is `.` or `..`.
    #[error("{what} may have only A-Z a-z 0-9 . _ ~ - and must not be '.' or '..'")]
    Character {
        /// What was parsed, as `device id`.
        what: &'static str,
    },
}

fn check(what: &'static str, max: usize, text: &str) -> Result<(), InvalidId> {
    if text.is_empty() || text.len() > max {
        return Err(InvalidId::Length { what, max, len: text.len() });
    }
    if !is_unreserved(text) || text == "." || text == ".." {
        return Err(InvalidId::Character { what });
    }
    Ok(())
}

/// Tells whether a text consists of the characters that ids are made of.
pub(crate) fn is_unreserved(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $max:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Borrows the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Parses one percent-encoded path segment, decoding it once.
            pub fn from_segment(segment: &str) -> Result<Self, InvalidId> {
                let decoded = percent_decode_str(segment)
                    .decode_utf8()
                    .map_err(|_| InvalidId::Character { what: $what })?;
                decoded.parse()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check($what, $max, text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    )*};
}

ids! {
    /// Names an application, the owner of devices.
    AppId, "application id", MAX_ID_LEN;
    /// Names a device within its application.
    DeviceId, "device id", MAX_ID_LEN;
    /// Names what a command asks for; the subject of a command event.
    CommandName, "command name", MAX_ID_LEN;
    /// Identifies an event; of a command, the command's id. Ours are UUIDv7.
    EventId, "event id", MAX_EVENT_ID_LEN;
}

impl EventId {
    /// Returns when an id was made that is a UUIDv7, in milliseconds since the Unix epoch.
    pub fn made_at(&self) -> Option<u64> {
        let (seconds, nanos) = self.as_str().parse::<uuid::Uuid>().ok()?.get_timestamp()?.to_unix();
        Some(seconds.saturating_mul(1000) + u64::from(nanos) / 1_000_000)
    }

    /// Makes an id of a UUID.
    pub fn from_uuid(uuid: uuid::Uuid) -> Self {
        let mut text = uuid::Uuid::encode_buffer();
        Self((&*uuid.hyphenated().encode_lower(&mut text)).into())
    }
}

/// What no device is called: the key of records that concern all of them.
const ALL: &str = "*/*";

/// Names a device in the whole cloud: `{application}/{device}`, which is also the partition key of all its events.
///
/// It compares and hashes like its bytes, so that a record's key is looked up without being parsed.
#[derive(Clone)]
pub struct DeviceKey {
    text: Arc<str>,
    slash: usize,
}

impl DeviceKey {
    /// Joins an application's and a device's id.
    pub fn new(application: &AppId, device: &DeviceId) -> Self {
        Self { slash: application.as_str().len(), text: format!("{application}/{device}").into() }
    }

    /// Returns the key of records that concern all devices of a partition. No device can have it.
    pub fn all() -> Self {
        Self { text: ALL.into(), slash: 1 }
    }

    /// Parses the key of a record.
    ///
    /// # Errors
    /// Fails if it names neither a device nor [all](Self::all).
    pub fn from_bytes(key: &[u8]) -> Result<Self, InvalidId> {
        if key == ALL.as_bytes() {
            return Ok(Self::all());
        }
        let what = "record key";
        let text = std::str::from_utf8(key).map_err(|_| InvalidId::Character { what })?;
        let (application, device) = text.split_once('/').ok_or(InvalidId::Character { what })?;
        Ok(Self::new(&application.parse()?, &device.parse()?))
    }

    /// Borrows the whole key.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Borrows the application's id.
    pub fn application(&self) -> &str {
        &self.text[..self.slash]
    }

    /// Borrows the device's id within its application.
    pub fn device(&self) -> &str {
        &self.text[self.slash + 1..]
    }
}

impl PartialEq for DeviceKey {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for DeviceKey {}

impl Hash for DeviceKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for DeviceKey {
    fn borrow(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.text)
    }
}

/// Identifies a connection within one incarnation of a replica: a counter, so the higher is the newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// Identifies a connection in the whole cloud.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConnectionRef {
    /// The start of the replica that holds it.
    pub incarnation: EventId,
    /// The connection there.
    pub connection: ConnectionId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_the_unreserved_characters_only() {
        assert_eq!("a.B_9~-".parse::<DeviceId>().unwrap().as_str(), "a.B_9~-");
        for bad in [".", "..", "a/b", "a b", "a#", "+", "ä", "a\0", "a%2e"] {
            assert_eq!(bad.parse::<DeviceId>(), Err(InvalidId::Character { what: "device id" }), "{bad:?}");
        }
        assert!("x".repeat(128).parse::<AppId>().is_ok());
        assert_eq!(
            "x".repeat(129).parse::<AppId>(),
            Err(InvalidId::Length { what: "application id", max: 128, len: 129 })
        );
        assert!("".parse::<CommandName>().is_err());
    }

    #[test]
    fn a_segment_is_decoded_once() {
        assert_eq!(DeviceId::from_segment("device%5Fid").unwrap().as_str(), "device_id");
        assert!(DeviceId::from_segment("a%252Fb").is_err());
        assert!(DeviceId::from_segment("%2e%2e").is_err());
        assert!(DeviceId::from_segment("a%2Fb").is_err());
    }

    #[test]
    fn an_id_that_is_a_uuid_of_version_7_tells_its_time() {
        let made_at = |id: &str| id.parse::<EventId>().unwrap().made_at();
        assert_eq!(made_at("018bcfe5-687b-7000-8000-000000000001"), Some(1_700_000_000_123));
        assert_eq!(made_at("018bcfe5-687b-4000-8000-000000000001"), None);
        assert_eq!(made_at("42"), None);
    }

    #[test]
    fn a_key_is_found_by_its_bytes() {
        let key = DeviceKey::new(&"default".parse().unwrap(), &"d1".parse().unwrap());
        assert_eq!((key.application(), key.device()), ("default", "d1"));
        let table = std::collections::HashMap::from([(key.clone(), 1)]);
        assert_eq!(table.get(b"default/d1".as_slice()), Some(&1));
        assert_eq!(DeviceKey::from_bytes(b"default/d1"), Ok(key));
        assert_eq!(DeviceKey::from_bytes(b"*/*"), Ok(DeviceKey::all()));
        assert_eq!((DeviceKey::all().application(), DeviceKey::all().device()), ("*", "*"));
        assert!(DeviceKey::from_bytes(b"*/d").is_err());
        assert!(DeviceKey::from_bytes(b"default").is_err());
        assert!(DeviceKey::from_bytes(b"a/b/c").is_err());
        assert!(DeviceKey::from_bytes(b"\xff/b").is_err());
    }
}
