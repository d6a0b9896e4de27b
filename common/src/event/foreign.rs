//! An event as somebody else wrote it, before it is judged.

use std::collections::HashMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use cloudevents::event::SpecVersion;
use cloudevents::message::{BinaryDeserializer, BinarySerializer, MessageAttributeValue, Result};
use serde_json::value::RawValue;

use super::binding::{Assembler, DEFINED};
use super::json::is_json;
use super::{Event, Malformed, extension};
use crate::id::DeviceKey;
use crate::time::Timestamp;

const SPEC_VERSION: &str = "specversion";
const DATA_CONTENT_TYPE: &str = "datacontenttype";
const DATA: &str = "data";
const DATA_BASE64: &str = "data_base64";

/// Attributes and data of an event that somebody else wrote, in whichever mode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Foreign {
    /// All attributes by their CloudEvents names, `specversion` included.
    pub attributes: Vec<(String, String)>,
    /// The data.
    pub data: Bytes,
}

impl Foreign {
    /// Reads an event in structured mode (CloudEvents 1.0 JSON format, section 3).
    ///
    /// # Errors
    /// Fails if the text is no JSON object of attributes and data.
    pub fn from_json(text: &[u8]) -> std::result::Result<Self, Malformed> {
        read(serde_json::from_slice(text).map_err(|_| Malformed::NoEvent)?)
    }

    /// Reads a batch of events (CloudEvents 1.0 JSON format, section 4).
    ///
    /// # Errors
    /// Fails if the text is no JSON array of such objects.
    pub fn batch_from_json(text: &[u8]) -> std::result::Result<Vec<Self>, Malformed> {
        let events: Vec<_> = serde_json::from_slice(text).map_err(|_| Malformed::NoEvent)?;
        events.into_iter().map(read).collect()
    }

    /// Returns an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns source and id, by which CloudEvents tells events apart; what is missing is empty.
    pub fn identity(&self) -> (String, String) {
        let part = |name| self.attribute(name).unwrap_or_default().to_owned();
        (part("source"), part("id"))
    }

    /// Returns the bytes that attributes and data take.
    pub fn size(&self) -> usize {
        let attributes = self.attributes.iter().map(|(name, value)| name.len() + value.len());
        attributes.sum::<usize>() + self.data.len()
    }

    /// Returns the key under which a log would have the event: `partitionkey`, or else application and device.
    pub fn key(&self) -> Option<String> {
        let attribute = |name| self.attribute(name);
        attribute(extension::PARTITION_KEY).map(str::to_owned).or_else(|| {
            Some(format!("{}/{}", attribute(extension::APPLICATION)?, attribute(extension::DEVICE)?))
        })
    }

    /// Judges the event under its key. `recorded` stands in for a missing `time`.
    ///
    /// # Errors
    /// Says what makes it malformed.
    pub fn judge(&self, key: &[u8], recorded: Timestamp) -> std::result::Result<Event, Malformed> {
        let device = DeviceKey::from_bytes(key).map_err(|_| Malformed::NoEvent)?;
        self.deserialize_binary(Assembler::new(device, recorded)).unwrap_or(Err(Malformed::NoEvent))
    }
}

impl BinaryDeserializer for &Foreign {
    fn deserialize_binary<R: Sized, V: BinarySerializer<R>>(self, mut target: V) -> Result<R> {
        if let Some(version) = self.attribute(SPEC_VERSION) {
            target = target.set_spec_version(SpecVersion::try_from(version)?)?;
        }
        for (name, value) in &self.attributes {
            let value = || MessageAttributeValue::String(value.clone());
            target = match name.as_str() {
                SPEC_VERSION => target,
                name if name == DATA_CONTENT_TYPE || DEFINED.contains(&name) => {
                    target.set_attribute(name, value())?
                }
                name => target.set_extension(name, value())?,
            };
        }
        if self.data.is_empty() { target.end() } else { target.end_with_data(self.data.to_vec()) }
    }
}

fn read(mut members: HashMap<String, Box<RawValue>>) -> std::result::Result<Foreign, Malformed> {
    let (data, base64) = (members.remove(DATA), members.remove(DATA_BASE64));
    let mut attributes = Vec::with_capacity(members.len() + 1);
    for (name, value) in members {
        if let Some(value) = attribute(&value)? {
            attributes.push((name, value));
        }
    }
    let mut event = Foreign { attributes, data: Bytes::new() };
    match (data, base64) {
        (None, None) => {}
        (None, Some(text)) => {
            let text: String =
                serde_json::from_str(text.get()).map_err(|_| Malformed::Invalid(DATA_BASE64))?;
            event.data = BASE64_STANDARD.decode(text).map_err(|_| Malformed::Invalid(DATA_BASE64))?.into();
        }
        (Some(data), None) => event.set_data(&data)?,
        (Some(_), Some(_)) => return Err(Malformed::Invalid(DATA)),
    }
    Ok(event)
}

impl Foreign {
    /// Takes the member `data`: a JSON payload is its own text, of any other type it is a string.
    fn set_data(&mut self, data: &RawValue) -> std::result::Result<(), Malformed> {
        let content_type = self.attribute(DATA_CONTENT_TYPE);
        if content_type.is_none_or(is_json) {
            if content_type.is_none() {
                self.attributes.push((DATA_CONTENT_TYPE.to_owned(), "application/json".to_owned()));
            }
            self.data = Bytes::copy_from_slice(data.get().as_bytes());
        } else {
            let text: String = serde_json::from_str(data.get()).map_err(|_| Malformed::Invalid(DATA))?;
            self.data = text.into();
        }
        Ok(())
    }
}

/// Returns an attribute's value as text; `null` is as good as none.
fn attribute(value: &RawValue) -> std::result::Result<Option<String>, Malformed> {
    match value.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(value.get()).map(Some).map_err(|_| Malformed::NoEvent),
        Some(b'n') => Ok(None),
        Some(b't' | b'f' | b'-' | b'0'..=b'9') => Ok(Some(value.get().to_owned())),
        Some(_) | None => Err(Malformed::NoEvent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::example;

    fn judge(event: &Foreign) -> std::result::Result<Event, Malformed> {
        event.judge(event.key().unwrap().as_bytes(), Timestamp::from_millis(7))
    }

    #[test]
    fn what_we_write_as_json_is_read_back() {
        let mut event = example();
        for (content_type, data) in
            [("application/json", "{ \"a\":1.0 }"), ("text/plain", "hi"), ("application/octet-stream", "")]
        {
            event.content_type = content_type.into();
            event.data = Bytes::from_static(data.as_bytes());
            let text = serde_json::to_vec(&event).unwrap();
            let read = judge(&Foreign::from_json(&text).unwrap()).unwrap();
            assert_eq!(read, event, "{content_type}");
            let batch = Foreign::batch_from_json(&[b"[", &text[..], b"]"].concat()).unwrap();
            assert_eq!(batch.iter().map(judge).collect::<Vec<_>>(), [Ok(event.clone())]);
        }
    }

    #[test]
    fn data_is_what_its_type_says() {
        let with = |members: &str| {
            let text = format!(
                r#"{{"specversion":"1.0","id":"1","type":"t","source":"s","subject":"x","partitionkey":"a/d"{members}}}"#
            );
            Foreign::from_json(text.as_bytes()).and_then(|event| judge(&event))
        };
        let json = with(r#","data":{"a": 1}"#).unwrap();
        assert_eq!((json.content_type.as_ref(), &json.data[..]), ("application/json", &b"{\"a\": 1}"[..]));
        let text = with(r#","datacontenttype":"text/plain","data":"a\"b""#).unwrap();
        assert_eq!(&text.data[..], b"a\"b");
        assert_eq!(&with(r#","data_base64":"/wA=""#).unwrap().data[..], b"\xff\0");
        assert_eq!(with(r#","number":7,"flag":true,"none":null"#).unwrap().extensions.len(), 2);
        assert_eq!(with(r#","datacontenttype":"text/plain","data":{}"#), Err(Malformed::Invalid("data")));
        assert_eq!(with(r#","data":1,"data_base64":"""#), Err(Malformed::Invalid("data")));
        assert_eq!(with(r#","data_base64":"!""#), Err(Malformed::Invalid("data_base64")));
        assert_eq!(with(r#","nested":{}"#), Err(Malformed::NoEvent));
    }

    #[test]
    fn what_is_no_event_is_malformed() {
        for text in [&b""[..], b"[]", b"1", b"{\"id\":", b"\xff"] {
            assert_eq!(Foreign::from_json(text), Err(Malformed::NoEvent));
        }
        assert_eq!(Foreign::batch_from_json(b"{}"), Err(Malformed::NoEvent));
        assert_eq!(Foreign::from_json(b"{}").unwrap().key(), None);
        let other = Foreign { attributes: vec![("specversion".into(), "0.3".into())], data: Bytes::new() };
        assert_eq!(other.judge(b"a/d", Timestamp::from_millis(7)), Err(Malformed::NoEvent));
    }

    #[test]
    fn the_key_is_the_partition_key_or_the_device() {
        let of = |pairs: &[(&str, &str)]| {
            let attributes = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Foreign { attributes: attributes.collect(), data: Bytes::new() }.key()
        };
        assert_eq!(of(&[("application", "a"), ("device", "d")]).as_deref(), Some("a/d"));
        assert_eq!(of(&[("partitionkey", "b/e"), ("device", "d")]).as_deref(), Some("b/e"));
        assert_eq!(of(&[("device", "d")]), None);
    }
}
