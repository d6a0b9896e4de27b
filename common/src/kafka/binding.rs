//! The Kafka protocol binding of CloudEvents 1.0 in binary mode (section 3.2), on the SDK's serializer traits.
//!
//! Attributes are headers `ce_…`, the content type is the header `content-type`, the data is the value.

use cloudevents::event::SpecVersion;
use cloudevents::message::{BinaryDeserializer, BinarySerializer, Error, MessageAttributeValue, Result};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};

use crate::event::binding::{Assembler, DEFINED};
use crate::event::{Event, Malformed};
use crate::id::DeviceKey;
use crate::time::Timestamp;

const PREFIX: &str = "ce_";
const CONTENT_TYPE: &str = "content-type";
const SPEC_VERSION: &str = "ce_specversion";
const DATA_CONTENT_TYPE: &str = "datacontenttype";

/// How many headers our own events have.
const USUAL: usize = 12;

/// Headers and value of a record that is to be written.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) headers: OwnedHeaders,
    pub(super) value: Option<Vec<u8>>,
    /// The bytes that headers and value take.
    pub(super) size: usize,
    name: String,
}

impl Outgoing {
    /// Makes headers and value of an event. An event without data has a null value.
    ///
    /// # Errors
    /// Does not fail: our events are well formed.
    pub(super) fn of(event: &Event) -> Result<Self> {
        let headers = OwnedHeaders::new_with_capacity(USUAL);
        let name = String::with_capacity(32);
        event.deserialize_binary(Self { headers, value: None, size: 0, name })
    }
}

impl BinarySerializer<Self> for Outgoing {
    fn set_spec_version(mut self, version: SpecVersion) -> Result<Self> {
        let value = version.as_str();
        self.headers = self.headers.insert(Header { key: SPEC_VERSION, value: Some(value) });
        self.size += SPEC_VERSION.len() + value.len();
        Ok(self)
    }

    fn set_attribute(mut self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        let key = if name == DATA_CONTENT_TYPE {
            CONTENT_TYPE
        } else {
            self.name.clear();
            self.name.push_str(PREFIX);
            self.name.push_str(name);
            &self.name
        };
        let text = if let MessageAttributeValue::String(text) = value { text } else { value.to_string() };
        self.headers = self.headers.insert(Header { key, value: Some(&text) });
        self.size += key.len() + text.len();
        Ok(self)
    }

    fn set_extension(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        self.set_attribute(name, value)
    }

    fn end_with_data(mut self, bytes: Vec<u8>) -> Result<Self> {
        self.size += bytes.len();
        self.value = Some(bytes);
        Ok(self)
    }

    fn end(self) -> Result<Self> {
        Ok(self)
    }
}

/// A record that was read.
#[derive(Debug)]
struct Incoming<'a, M>(&'a M);

impl<M: Message> BinaryDeserializer for Incoming<'_, M> {
    fn deserialize_binary<R: Sized, V: BinarySerializer<R>>(self, mut target: V) -> Result<R> {
        let headers = || self.0.headers().into_iter().flat_map(Headers::iter);
        // A header without a value is as good as none.
        let version = headers().find(|header| header.key == SPEC_VERSION).and_then(|header| header.value);
        if let Some(version) = version {
            target = target.set_spec_version(SpecVersion::try_from(text(version)?.as_str())?)?;
        }
        for Header { key, value } in headers() {
            let Some(value) = value.filter(|_| key != SPEC_VERSION) else { continue };
            if key == CONTENT_TYPE {
                target =
                    target.set_attribute(DATA_CONTENT_TYPE, MessageAttributeValue::String(text(value)?))?;
            } else if let Some(name) = key.strip_prefix(PREFIX) {
                let value = MessageAttributeValue::String(text(value)?);
                let defined = DEFINED.contains(&name);
                target = if defined {
                    target.set_attribute(name, value)?
                } else {
                    target.set_extension(name, value)?
                };
            }
        }
        match self.0.payload() {
            Some(data) if !data.is_empty() => target.end_with_data(data.to_vec()),
            Some(_) | None => target.end(),
        }
    }
}

fn text(value: &[u8]) -> Result<String> {
    String::from_utf8(value.to_vec()).map_err(|error| Error::Other { source: error.into() })
}

/// Decodes the event of a record under the key of a device. `recorded` stands in for a missing `time`.
///
/// # Errors
/// Says what makes the record malformed.
pub(super) fn decode(
    message: &impl Message,
    device: DeviceKey,
    recorded: Timestamp,
) -> std::result::Result<Event, Malformed> {
    let assembler = Assembler::new(device, recorded);
    Incoming(message).deserialize_binary(assembler).unwrap_or(Err(Malformed::NoEvent))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rdkafka::Timestamp as KafkaTimestamp;
    use rdkafka::message::OwnedMessage;

    use super::*;
    use crate::event::{OCTET_STREAM, example};

    fn message(headers: OwnedHeaders, value: Option<Vec<u8>>) -> OwnedMessage {
        OwnedMessage::new(value, None, "t".into(), KafkaTimestamp::NotAvailable, 0, 0, Some(headers))
    }

    fn read(message: &OwnedMessage) -> std::result::Result<Event, Malformed> {
        decode(message, example().device, Timestamp::from_millis(7))
    }

    #[test]
    fn an_event_survives_its_record() {
        let mut event = example();
        event.extensions.push(("traceparent".into(), "x".into()));
        event.extensions.push(("custom".into(), "!\"#~".into()));
        for data in [event.data.clone(), Bytes::new(), Bytes::from_static(b"\xff\0")] {
            let event = Event { data, ..event.clone() };
            let Outgoing { headers, value, .. } = Outgoing::of(&event).unwrap();
            assert_eq!(read(&message(headers, value)), Ok(event));
        }
    }

    #[test]
    fn the_size_is_that_of_headers_and_value() {
        let Outgoing { headers, value, size, .. } = Outgoing::of(&example()).unwrap();
        let lengths = headers.as_borrowed().iter().map(|each| each.key.len() + each.value.unwrap().len());
        assert_eq!(size, lengths.sum::<usize>() + value.unwrap().len());
    }

    #[test]
    fn the_headers_are_those_of_the_binding() {
        let Outgoing { headers, .. } = Outgoing::of(&example()).unwrap();
        let headers: Vec<_> = headers
            .as_borrowed()
            .iter()
            .map(|header| (header.key, std::str::from_utf8(header.value.unwrap()).unwrap()))
            .collect();
        for expected in [
            ("ce_specversion", "1.0"),
            ("ce_type", "io.drogue.command.v1"),
            ("ce_subject", "set-temp"),
            ("ce_partitionkey", "default/d1"),
            ("ce_expirytime", "2023-11-14T22:14:00.000Z"),
            ("content-type", "application/json"),
        ] {
            assert!(headers.contains(&expected), "{expected:?} in {headers:?}");
        }
        assert!(headers.iter().all(|(name, _)| *name != "ce_datacontenttype"));
    }

    fn foreign(headers: &[(&str, Option<&[u8]>)]) -> OwnedMessage {
        let required: [(&str, Option<&[u8]>); 5] = [
            ("ce_specversion", Some(b"1.0")),
            ("ce_id", Some(b"1")),
            ("ce_type", Some(b"t")),
            ("ce_source", Some(b"s")),
            ("ce_subject", Some(b"reboot")),
        ];
        let kept = required.iter().filter(|(name, _)| headers.iter().all(|(other, _)| other != name));
        let all = kept
            .chain(headers)
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value }));
        message(all, None)
    }

    #[test]
    fn a_foreign_event_needs_no_more_than_what_is_required() {
        let event = read(&foreign(&[("other", Some(b"x")), ("ce_time", None)])).unwrap();
        assert_eq!((event.subject.as_str(), event.content_type.as_ref()), ("reboot", OCTET_STREAM));
        assert_eq!((event.time, event.data.len()), (Timestamp::from_millis(7), 0));
    }

    #[test]
    fn what_is_no_event_is_malformed_and_no_null_or_byte_panics() {
        assert_eq!(read(&message(OwnedHeaders::new(), Some(b"{}".to_vec()))), Err(Malformed::NoEvent));
        for (header, value, expected) in [
            ("ce_specversion", Some(&b"0.3"[..]), Malformed::NoEvent),
            ("ce_specversion", None, Malformed::NoEvent),
            ("ce_specversion", Some(b"\xff"), Malformed::NoEvent),
            ("ce_id", None, Malformed::Missing("id")),
            ("ce_id", Some(b"\xff\xfe"), Malformed::NoEvent),
            ("ce_time", Some(b"soon"), Malformed::Invalid("time")),
            ("ce_device", Some(b"d2"), Malformed::KeyMismatch),
            ("ce_data", Some(b"x"), Malformed::NoEvent),
            ("ce_Upper", Some(b"x"), Malformed::NoEvent),
        ] {
            assert_eq!(read(&foreign(&[(header, value)])), Err(expected), "{header} {value:?}");
        }
    }
}
