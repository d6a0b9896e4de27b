//! The HTTP protocol binding of CloudEvents 1.0 (section 3): binary mode is written; binary, structured and batched mode are
//! read.
//!
//! Attributes are headers `ce-…` with percent-encoded values (section 3.1.3.2), the content type is the header
//! `content-type`, the data is the body.

use actix_web::http::header::{self as received, HeaderMap as ReceivedHeaders};
use bytes::Bytes;
use cloudevents::event::SpecVersion;
use cloudevents::message::{BinaryDeserializer, BinarySerializer, Error, MessageAttributeValue, Result};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::event::{Event, Foreign, Malformed};

const PREFIX: &str = "ce-";
const DATA_CONTENT_TYPE: &str = "datacontenttype";
const STRUCTURED: &str = "application/cloudevents+json";
const BATCHED: &str = "application/cloudevents-batch+json";

/// What is encoded in a header's value, beside what is no printable ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Headers and body of a request that carries an event.
#[derive(Debug, Clone, Default)]
pub(super) struct Outgoing {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Outgoing {
    /// Makes headers and body of an event.
    ///
    /// # Errors
    /// Fails if an attribute cannot be a header, which none of ours is known to be.
    pub(super) fn of(event: &Event) -> Result<Self> {
        event.deserialize_binary(Self::default())
    }

    /// Returns the bytes that headers and body take.
    pub(super) fn size(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        headers.sum::<usize>() + self.body.len()
    }

    /// Sets an attribute; one that is there is replaced.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let other = |error: reqwest::header::InvalidHeaderValue| Error::Other { source: error.into() };
        if name == DATA_CONTENT_TYPE {
            self.headers.insert(CONTENT_TYPE, HeaderValue::from_str(value).map_err(other)?);
            return Ok(());
        }
        let name = HeaderName::try_from(format!("{PREFIX}{name}"))
            .map_err(|error| Error::Other { source: error.into() })?;
        let value = utf8_percent_encode(value, ENCODED).to_string();
        self.headers.insert(name, HeaderValue::try_from(value).map_err(other)?);
        Ok(())
    }
}

impl BinarySerializer<Self> for Outgoing {
    fn set_spec_version(mut self, version: SpecVersion) -> Result<Self> {
        self.set("specversion", version.as_str())?;
        Ok(self)
    }

    fn set_attribute(mut self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        self.set(name, &value.to_string())?;
        Ok(self)
    }

    fn set_extension(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        self.set_attribute(name, value)
    }

    fn end_with_data(mut self, bytes: Vec<u8>) -> Result<Self> {
        self.body = bytes.into();
        Ok(self)
    }

    fn end(self) -> Result<Self> {
        Ok(self)
    }
}

/// Reads the events of a request, in whichever mode it has.
///
/// # Errors
/// Fails if the request carries no CloudEvent.
pub(super) fn read(headers: &ReceivedHeaders, body: Bytes) -> std::result::Result<Vec<Foreign>, Malformed> {
    let content_type = headers.get(received::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(BATCHED)) {
        return Foreign::batch_from_json(&body);
    }
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(STRUCTURED)) {
        return Ok(vec![Foreign::from_json(&body)?]);
    }
    let mut attributes = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(PREFIX) {
            let value = std::str::from_utf8(value.as_bytes()).map_err(|_| Malformed::NoEvent)?;
            let value = percent_decode_str(value).decode_utf8().map_err(|_| Malformed::NoEvent)?;
            attributes.push((name.to_owned(), value.into_owned()));
        }
    }
    if attributes.is_empty() {
        return Err(Malformed::NoEvent);
    }
    if let Some(content_type) = content_type {
        attributes.push((DATA_CONTENT_TYPE.to_owned(), content_type.to_owned()));
    }
    Ok(vec![Foreign { attributes, data: body }])
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName as ReceivedName, HeaderValue as ReceivedValue};

    use super::*;
    use crate::event::{OCTET_STREAM, example};
    use crate::time::Timestamp;

    /// What a server gets of a request.
    fn received(outgoing: &Outgoing) -> ReceivedHeaders {
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            let name = ReceivedName::from_bytes(name.as_str().as_bytes()).unwrap();
            (name, ReceivedValue::from_bytes(value.as_bytes()).unwrap())
        };
        outgoing.headers.iter().map(header).collect()
    }

    fn judged(events: &[Foreign]) -> Vec<std::result::Result<Event, Malformed>> {
        events.iter().map(|event| event.judge(b"default/d1", Timestamp::from_millis(7))).collect()
    }

    #[test]
    fn an_event_survives_its_request() {
        let mut event = example();
        event.extensions.push(("custom".into(), "a \"b\" 100% ü".into()));
        for data in [event.data.clone(), Bytes::new(), Bytes::from_static(b"\xff\0")] {
            let event = Event { data, ..event.clone() };
            let outgoing = Outgoing::of(&event).unwrap();
            let read = read(&received(&outgoing), outgoing.body.clone()).unwrap();
            let mut read = judged(&read);
            // Headers have no order.
            read[0].as_mut().unwrap().extensions.sort();
            let mut expected = event;
            expected.extensions.sort();
            assert_eq!(read, [Ok(expected)]);
        }
    }

    #[test]
    fn the_headers_are_those_of_the_binding() {
        let mut outgoing = Outgoing::of(&example()).unwrap();
        outgoing.set("note", "50 %").unwrap();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-subject", "set-temp"),
            ("ce-partitionkey", "default/d1"),
            ("ce-note", "50%20%25"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(
                outgoing.headers.get(name).map(HeaderValue::as_bytes),
                Some(value.as_bytes()),
                "{name}"
            );
        }
        assert!(!outgoing.headers.contains_key("ce-datacontenttype"));
        assert!(outgoing.set("a b", "x").is_err());
    }

    #[test]
    fn every_mode_is_read() {
        let event = example();
        let json = serde_json::to_vec(&event).unwrap();
        let batch = serde_json::to_vec(&[event.clone(), event.clone()]).unwrap();
        for (content_type, body, count) in [
            ("application/cloudevents+json; charset=utf-8", json, 1),
            ("Application/CloudEvents-Batch+JSON", batch, 2),
            (BATCHED, b"[]".to_vec(), 0),
        ] {
            let mut headers = ReceivedHeaders::new();
            headers.insert(received::CONTENT_TYPE, ReceivedValue::from_static(content_type));
            let read = read(&headers, body.into()).unwrap();
            assert_eq!(judged(&read), vec![Ok(event.clone()); count], "{content_type}");
        }
    }

    #[test]
    fn what_carries_no_event_is_malformed() {
        let headers = |pairs: &[(&'static str, &'static [u8])]| {
            let pairs = pairs.iter();
            pairs
                .map(|(name, value)| {
                    (ReceivedName::from_static(name), ReceivedValue::from_bytes(value).unwrap())
                })
                .collect::<ReceivedHeaders>()
        };
        for bad in [
            headers(&[]),
            headers(&[("content-type", b"application/json")]),
            headers(&[("content-type", b"application/cloudevents+json")]),
            headers(&[("ce-id", b"%ff")]),
            headers(&[("ce-id", b"\xff")]),
        ] {
            assert_eq!(read(&bad, Bytes::from_static(b"[1]")), Err(Malformed::NoEvent), "{bad:?}");
        }
        let bare = headers(&[
            ("ce-specversion", b"1.0"),
            ("ce-id", b"1"),
            ("ce-type", b"t"),
            ("ce-source", b"s"),
            ("ce-subject", b"x"),
        ]);
        let event = judged(&read(&bare, Bytes::new()).unwrap()).remove(0).unwrap();
        assert_eq!(event.content_type, OCTET_STREAM);
    }
}
