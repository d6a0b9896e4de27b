//! The JSON event format and batch format, CloudEvents 1.0 JSON sections 3 and 4.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::{Event, extension};
use crate::time::Timestamp;

impl Serialize for Event {
    /// Writes the event in structured form. `data` of a JSON payload is its own text, neither parsed into values nor
    /// printed again; any other payload is `data_base64`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.write(Some(self.time), serializer)
    }
}

/// Says that events cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the events cannot be written as JSON: {0}")]
pub struct Unwritable(#[from] serde_json::Error);

/// Writes events as a batch, without the `time` of each: for who does not know it.
///
/// # Errors
/// Fails if an event cannot be written, which none of ours is known to do.
pub fn batch_without_time(events: &[Event]) -> Result<Vec<u8>, Unwritable> {
    let timeless: Vec<_> = events.iter().map(WithoutTime).collect();
    Ok(serde_json::to_vec(&timeless)?)
}

struct WithoutTime<'a>(&'a Event);

impl Serialize for WithoutTime<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(None, serializer)
    }
}

impl Event {
    fn write<S: Serializer>(&self, time: Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", "1.0")?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("type", &self.kind)?;
        map.serialize_entry("source", &self.source())?;
        map.serialize_entry("subject", &self.subject)?;
        if let Some(time) = time {
            map.serialize_entry("time", &time.to_string())?;
        }
        map.serialize_entry("datacontenttype", &self.content_type)?;
        map.serialize_entry(extension::APPLICATION, self.device.application())?;
        map.serialize_entry(extension::DEVICE, self.device.device())?;
        map.serialize_entry(extension::PARTITION_KEY, self.device.as_str())?;
        for (name, value) in &self.extensions {
            map.serialize_entry(name, value)?;
        }
        if !self.data.is_empty() {
            match self.json_data() {
                Some(json) => map.serialize_entry("data", json)?,
                None => map.serialize_entry("data_base64", &BASE64_STANDARD.encode(&self.data))?,
            }
        }
        map.end()
    }

    fn json_data(&self) -> Option<&RawValue> {
        if is_json(&self.content_type) { serde_json::from_slice(&self.data).ok() } else { None }
    }
}

/// Tells whether a content type is that of JSON (RFC 6838, section 4.2.8, for `+json`).
pub(super) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let subtype = essence.split_once('/').map(|(_, subtype)| subtype.to_ascii_lowercase());
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::event::example;

    #[test]
    fn json_data_is_its_own_text() {
        let text = serde_json::to_string(&example()).unwrap();
        assert!(text.contains(r#""data":{ "set-temp": 40 }"#), "{text}");
        assert!(text.contains(r#""partitionkey":"default/d1""#), "{text}");
        assert!(text.contains(r#""expirytime":"2023-11-14T22:14:00.000Z""#), "{text}");
    }

    #[test]
    fn other_data_is_base64() {
        for (content_type, data) in [("text/plain", "hi"), ("application/json", "{broken"), ("x", "1")] {
            let mut event = example();
            event.content_type = content_type.into();
            event.data = Bytes::from_static(data.as_bytes());
            let value = serde_json::to_value(&event).unwrap();
            assert!(value["data_base64"].is_string(), "{content_type}");
            assert!(value.get("data").is_none());
        }
    }

    #[test]
    fn a_batch_is_an_array_in_order() {
        let mut second = example();
        second.id = "2".parse().unwrap();
        let batch = super::batch_without_time(&[example(), second]).unwrap();
        let batch: Vec<serde_json::Value> = serde_json::from_slice(&batch).unwrap();
        let mut whole = serde_json::to_value(example()).unwrap();
        whole.as_object_mut().unwrap().remove("time");
        assert_eq!((&batch[0], &batch[1]["id"], batch.len()), (&whole, &"2".into(), 2));
        assert_eq!(super::batch_without_time(&[]).unwrap(), b"[]");
    }

    #[test]
    fn the_sdk_reads_what_we_write() {
        let text = serde_json::to_string(&example()).unwrap();
        let event: cloudevents::Event = serde_json::from_str(&text).unwrap();
        let ours = crate::event::binding::to_sdk(&example()).unwrap();
        assert_eq!(event.id_type_subject(), ours.id_type_subject());
    }

    trait Essence {
        fn id_type_subject(&self) -> (String, String, Option<String>);
    }

    impl Essence for cloudevents::Event {
        fn id_type_subject(&self) -> (String, String, Option<String>) {
            use cloudevents::AttributesReader;
            (self.id().into(), self.ty().into(), self.subject().map(Into::into))
        }
    }
}
