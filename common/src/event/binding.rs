//! The seam to the CloudEvents SDK: an [`Event`] is read and written by every protocol binding that uses the SDK's
//! serializer traits.

use bytes::Bytes;
use cloudevents::event::SpecVersion;
use cloudevents::message::{BinaryDeserializer, BinarySerializer, MessageAttributeValue, Result};

use super::{Event, Malformed, OCTET_STREAM, extension, is_attribute_name};
use crate::id::DeviceKey;
use crate::time::Timestamp;

/// The attributes that CloudEvents defines, but for the version and the content type; all others are extensions.
pub(crate) const DEFINED: [&str; 6] = ["id", "type", "source", "subject", "time", "dataschema"];

impl BinaryDeserializer for &Event {
    /// Hands the event's attributes and data to a binding, as binary mode.
    fn deserialize_binary<R: Sized, V: BinarySerializer<R>>(self, target: V) -> Result<R> {
        let text = |value: &str| MessageAttributeValue::String(value.to_owned());
        let mut target = target
            .set_spec_version(SpecVersion::V10)?
            .set_attribute("id", text(self.id.as_str()))?
            .set_attribute("type", text(&self.kind))?
            .set_attribute("source", text(&self.source()))?
            .set_attribute("subject", text(&self.subject))?
            .set_attribute("time", text(&self.time.to_string()))?
            .set_attribute("datacontenttype", text(&self.content_type))?
            .set_extension(extension::APPLICATION, text(self.device.application()))?
            .set_extension(extension::DEVICE, text(self.device.device()))?
            .set_extension(extension::PARTITION_KEY, text(self.device.as_str()))?;
        for (name, value) in &self.extensions {
            target = target.set_extension(name, text(value))?;
        }
        if self.data.is_empty() { target.end() } else { target.end_with_data(self.data.to_vec()) }
    }
}

/// Converts to the SDK's own event.
#[cfg(test)]
pub(super) fn to_sdk(event: &Event) -> Result<cloudevents::Event> {
    BinaryDeserializer::into_event(event)
}

/// Collects the attributes of a foreign record and judges at the end whether they make an [`Event`].
#[derive(Debug)]
pub struct Assembler {
    key: DeviceKey,
    recorded: Timestamp,
    attributes: Vec<(String, String)>,
    version: Option<SpecVersion>,
    /// An attribute has a name that CloudEvents does not allow.
    misnamed: bool,
}

impl Assembler {
    /// Begins an event of the device that the record's key names. `recorded` stands in for a missing `time`.
    pub fn new(key: DeviceKey, recorded: Timestamp) -> Self {
        Self { key, recorded, attributes: Vec::new(), version: None, misnamed: false }
    }

    /// Judges the attributes.
    ///
    /// # Errors
    /// Names the attribute because of which the record is malformed.
    pub fn finish(mut self, data: Bytes) -> std::result::Result<Event, Malformed> {
        if self.version != Some(SpecVersion::V10) || self.misnamed {
            return Err(Malformed::NoEvent);
        }
        let mut take = |name: &'static str| {
            let at = self.attributes.iter().position(|(key, _)| key == name)?;
            // The others keep their order.
            Some(self.attributes.remove(at).1)
        };
        let parts = [
            (extension::APPLICATION, self.key.application()),
            (extension::DEVICE, self.key.device()),
            (extension::PARTITION_KEY, self.key.as_str()),
        ];
        for (name, expected) in parts {
            if take(name).is_some_and(|value| value != expected) {
                return Err(Malformed::KeyMismatch);
            }
        }
        let mut required = |name| take(name).ok_or(Malformed::Missing(name));
        let (id, kind) = (required("id")?, required("type")?);
        let (source, subject) = (required("source")?, required("subject")?);
        let time = match take("time") {
            Some(time) => time.parse().map_err(|_| Malformed::Invalid("time"))?,
            None => self.recorded,
        };
        let content_type = take("datacontenttype");
        Ok(Event {
            id: id.parse().map_err(|_| Malformed::Invalid("id"))?,
            kind: kind.into(),
            source: (source != Event::canonical_source(&self.key)).then_some(source),
            subject,
            time,
            content_type: content_type.map_or(OCTET_STREAM.into(), Into::into),
            extensions: self.attributes.into_iter().map(|(key, value)| (key.into(), value)).collect(),
            device: self.key,
            data,
        })
    }
}

impl BinarySerializer<std::result::Result<Event, Malformed>> for Assembler {
    fn set_spec_version(mut self, version: SpecVersion) -> Result<Self> {
        self.version = Some(version);
        Ok(self)
    }

    fn set_attribute(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        self.set_extension(name, value)
    }

    fn set_extension(mut self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        self.misnamed |= !is_attribute_name(name);
        self.attributes.push((name.to_owned(), value.to_string()));
        Ok(self)
    }

    fn end_with_data(self, bytes: Vec<u8>) -> Result<std::result::Result<Event, Malformed>> {
        Ok(self.finish(bytes.into()))
    }

    fn end(self) -> Result<std::result::Result<Event, Malformed>> {
        Ok(self.finish(Bytes::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::example;

    fn assemble(event: &Event, key: &[u8]) -> std::result::Result<Event, Malformed> {
        let assembler = Assembler::new(DeviceKey::from_bytes(key).unwrap(), Timestamp::from_millis(7));
        event.deserialize_binary(assembler).unwrap()
    }

    #[test]
    fn an_event_survives_its_binding() {
        let mut event = example();
        assert_eq!(assemble(&event, b"default/d1"), Ok(event.clone()));
        event.source = Some("urn:other".into());
        event.data = Bytes::new();
        assert_eq!(assemble(&event, b"default/d1"), Ok(event));
    }

    #[test]
    fn a_record_under_another_key_is_malformed() {
        assert_eq!(assemble(&example(), b"default/d2"), Err(Malformed::KeyMismatch));
    }

    #[test]
    fn only_the_required_attributes_are_required() {
        let key = DeviceKey::from_bytes(b"default/d1").unwrap();
        let text = |value: &str| MessageAttributeValue::String(value.to_owned());
        let required = [("id", "1"), ("type", "t"), ("source", "s"), ("subject", "reboot")];
        for left_out in 0..=required.len() {
            let mut assembler = Assembler::new(key.clone(), Timestamp::from_millis(7))
                .set_spec_version(SpecVersion::V10)
                .unwrap();
            for (at, (name, value)) in required.iter().enumerate() {
                if at != left_out {
                    assembler = assembler.set_attribute(name, text(value)).unwrap();
                }
            }
            let result = assembler.finish(Bytes::new());
            match required.get(left_out) {
                Some((name, _)) => assert_eq!(result, Err(Malformed::Missing(name))),
                None => assert_eq!(result.unwrap().time, Timestamp::from_millis(7)),
            }
        }
        assert_eq!(
            Assembler::new(key, Timestamp::from_millis(7)).finish(Bytes::new()),
            Err(Malformed::NoEvent)
        );
    }
}
