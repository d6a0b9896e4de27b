//! How an event is kept: its key and data as columns, its other attributes as one JSON text.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::event::{Event, Malformed};
use crate::id::DeviceKey;
use crate::time::Timestamp;

/// An event as it is written. The publisher's thread encodes it, so that the writer only binds columns.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) channel: Channel,
    pub(super) key: DeviceKey,
    pub(super) attributes: String,
    pub(super) data: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Attributes<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    subject: Cow<'a, str>,
    /// Milliseconds since the Unix epoch.
    time: i64,
    #[serde(borrow)]
    datacontenttype: Cow<'a, str>,
    /// Pairs, since their order is kept.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl Row {
    pub(super) fn encode(channel: Channel, event: &Event) -> Self {
        let attributes = Attributes {
            id: event.id.as_str().into(),
            kind: event.kind.as_ref().into(),
            source: event.source.as_deref().map(Into::into),
            subject: event.subject.as_str().into(),
            time: event.time.as_millis(),
            datacontenttype: event.content_type.as_ref().into(),
            extensions: event
                .extensions
                .iter()
                .map(|(name, value)| (name.as_ref().into(), value.as_str().into()))
                .collect(),
        };
        // Texts and a number always have a JSON form.
        let attributes = serde_json::to_string(&attributes).unwrap_or_default();
        Self { channel, key: event.device.clone(), attributes, data: event.data.clone() }
    }

    /// Returns the bytes that the row takes, without SQLite's own.
    pub(super) fn size(&self) -> usize {
        self.key.as_str().len() + self.attributes.len() + self.data.len()
    }
}

/// Decodes an event from the columns of its row.
pub(super) fn decode(key: &[u8], attributes: &[u8], data: &[u8]) -> Result<Event, Malformed> {
    let device = DeviceKey::from_bytes(key).map_err(|_| Malformed::NoEvent)?;
    let attributes: Attributes<'_> = serde_json::from_slice(attributes).map_err(|_| Malformed::NoEvent)?;
    Ok(Event {
        id: attributes.id.parse().map_err(|_| Malformed::Invalid("id"))?,
        kind: attributes.kind.into_owned().into(),
        source: attributes.source.map(Cow::into_owned),
        device,
        subject: attributes.subject.into_owned(),
        time: Timestamp::from_millis(attributes.time),
        content_type: attributes.datacontenttype.into_owned().into(),
        extensions: attributes
            .extensions
            .into_iter()
            .map(|(name, value)| (name.into_owned().into(), value.into_owned()))
            .collect(),
        data: Bytes::copy_from_slice(data),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::example;

    fn round_trip(event: &Event) -> Result<Event, Malformed> {
        let row = Row::encode(Channel::Commands, event);
        decode(row.key.as_str().as_bytes(), row.attributes.as_bytes(), &row.data)
    }

    #[test]
    fn an_event_survives_its_row() {
        let mut event = example();
        assert_eq!(round_trip(&event), Ok(event.clone()));
        event.source = Some("urn:\"other\"\\".into());
        event.extensions = vec![("b".into(), "2".into()), ("a".into(), "\u{7f}\"".into())];
        event.data = Bytes::from_static(b"\xff\0\xfe");
        assert_eq!(round_trip(&event), Ok(event.clone()));
        event.extensions.clear();
        event.data = Bytes::new();
        assert_eq!(round_trip(&event), Ok(event));
    }

    #[test]
    fn what_is_no_event_is_malformed() {
        let row = Row::encode(Channel::Commands, &example());
        let attributes = row.attributes.as_bytes();
        assert_eq!(decode(b"nobody", attributes, b""), Err(Malformed::NoEvent));
        assert_eq!(decode(b"default/d1", b"{}", b""), Err(Malformed::NoEvent));
        let bad_id = row.attributes.replace("0190a1b2", "/");
        assert_eq!(decode(b"default/d1", bad_id.as_bytes(), b""), Err(Malformed::Invalid("id")));
    }
}
