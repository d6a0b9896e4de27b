//! Rules for what devices send: the same for every protocol.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::error::ErrorKind;
use crate::event::{Event, OCTET_STREAM, TELEMETRY_TYPE, extension, is_content_type, is_traceparent};
use crate::id::{DeviceKey, EventId};
use crate::subject::{InvalidSubject, Subject};
use crate::time::Timestamp;

/// Time till disconnect: how long a device waits for a command after its telemetry. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttd(Duration);

impl Ttd {
    /// Parses seconds: digits with an optional fraction. Zero is no wait; what is below a millisecond is rounded up.
    ///
    /// # Errors
    /// Fails for anything else: signs, exponents, `NaN`, an empty text.
    pub fn parse(text: &str) -> Result<Option<Self>, Rejected> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(Rejected::Ttd);
        }
        let seconds: u64 = whole.parse().unwrap_or(u64::MAX);
        let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
        let below: u64 = thousandths.parse().unwrap_or(0);
        let rest = fraction.bytes().skip(3).any(|digit| digit != b'0');
        let wait =
            Duration::from_secs(seconds).saturating_add(Duration::from_millis(below + u64::from(rest)));
        Ok((!wait.is_zero()).then_some(Self(wait)))
    }

    /// Returns the wait, or `maximum` if that is shorter.
    pub fn at_most(self, maximum: Duration) -> Self {
        Self(self.0.min(maximum))
    }

    /// Returns the length of the wait.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Ttd {
    /// Writes seconds, as `30` or `2.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs())?;
        match self.0.subsec_millis() {
            0 => Ok(()),
            millis => f.write_str(format!(".{millis:03}").trim_end_matches('0')),
        }
    }
}

/// Says why what a device sent was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The path or topic is no subject.
    #[error(transparent)]
    Subject(#[from] InvalidSubject),
    /// The wait is no number of seconds.
    #[error("ttd is a number of seconds: digits with an optional fraction, as in ttd=30 or ttd=2.5")]
    Ttd,
    /// The status of a reply is none.
    #[error("a status is a number from 100 to 599, three digits, as in status=200")]
    Status,
    /// The content type cannot be carried.
    #[error("a content type is 1 to 256 characters of printable ASCII")]
    ContentType,
    /// The payload is longer than the limit.
    #[error("the payload has more than {limit} bytes (option --max-payload)")]
    TooLarge {
        /// The most bytes that a payload may have.
        limit: usize,
    },
}

impl Rejected {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Subject(InvalidSubject::Reserved) => ErrorKind::Reserved,
            Self::Subject(InvalidSubject::Shape) | Self::Ttd | Self::Status | Self::ContentType => {
                ErrorKind::Invalid
            }
            Self::TooLarge { .. } => ErrorKind::TooLarge,
        }
    }
}

/// What a device sent, before it is an event.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// What kind of data it is.
    pub subject: Subject,
    /// The content type, if the device named one.
    pub content_type: Option<String>,
    /// W3C trace context, if the device sent one; an unusable one is dropped.
    pub traceparent: Option<String>,
    /// The data.
    pub payload: Bytes,
}

impl Telemetry {
    /// Makes the event of telemetry that is received now. `ttd` is the wait that was granted.
    ///
    /// # Errors
    /// Fails if the payload is longer than `max_payload` bytes or the content type cannot be carried.
    pub fn into_event(
        self,
        id: EventId,
        device: DeviceKey,
        received: Timestamp,
        ttd: Option<Ttd>,
        max_payload: usize,
    ) -> Result<Event, Rejected> {
        check_message(self.content_type.as_deref(), &self.payload, max_payload)?;
        let mut extensions = Vec::new();
        if let Some(ttd) = ttd {
            extensions.push((extension::TTD.into(), ttd.to_string()));
        }
        if let Some(traceparent) = self.traceparent.filter(|text| is_traceparent(text)) {
            extensions.push((extension::TRACEPARENT.into(), traceparent));
        }
        Ok(Event {
            id,
            kind: TELEMETRY_TYPE.into(),
            source: None,
            device,
            subject: self.subject.as_str().to_owned(),
            time: received,
            content_type: self.content_type.map_or(OCTET_STREAM.into(), Into::into),
            extensions,
            data: self.payload,
        })
    }
}

/// Checks the parts of a message that devices fill in freely.
pub(crate) fn check_message(
    content_type: Option<&str>,
    payload: &Bytes,
    max_payload: usize,
) -> Result<(), Rejected> {
    if payload.len() > max_payload {
        return Err(Rejected::TooLarge { limit: max_payload });
    }
    if content_type.is_some_and(|text| !is_content_type(text)) {
        return Err(Rejected::ContentType);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttd_is_digits_with_an_optional_fraction() {
        let parsed = |text| Ttd::parse(text).unwrap().map(|ttd| ttd.to_string());
        assert_eq!(parsed("30"), Some("30".into()));
        assert_eq!(parsed("2.50"), Some("2.5".into()));
        assert_eq!(parsed("0.0001"), Some("0.001".into()));
        assert_eq!(parsed("007.125"), Some("7.125".into()));
        assert_eq!(parsed("0"), None);
        assert_eq!(parsed("0.000"), None);
        for bad in ["", "-1", "+1", "NaN", "inf", "1e3", "1.", ".5", "1.2.3", "0x10", " 1", "٣"] {
            assert_eq!(Ttd::parse(bad), Err(Rejected::Ttd), "{bad:?}");
        }
    }

    #[test]
    fn a_huge_ttd_is_the_maximum() {
        let huge = Ttd::parse("999999999999999999999999").unwrap().unwrap();
        assert_eq!(huge.at_most(Duration::from_secs(60)).to_string(), "60");
    }

    #[test]
    fn telemetry_becomes_an_event() {
        let telemetry = Telemetry {
            subject: "temperature".parse().unwrap(),
            content_type: None,
            traceparent: Some("nonsense".into()),
            payload: Bytes::from_static(b"42"),
        };
        let make = |max_payload| {
            telemetry.clone().into_event(
                "1".parse().unwrap(),
                DeviceKey::from_bytes(b"a/d").unwrap(),
                Timestamp::from_millis(0),
                Ttd::parse("2.5").unwrap(),
                max_payload,
            )
        };
        let event = make(2).unwrap();
        assert_eq!(event.content_type, OCTET_STREAM);
        assert_eq!(event.extensions, [("ttd".into(), "2.5".to_owned())]);
        assert_eq!(make(1), Err(Rejected::TooLarge { limit: 1 }));
    }
}
