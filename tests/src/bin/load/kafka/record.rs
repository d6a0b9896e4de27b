//! The records of a figure: the same for the adapter, as events, and for bare clients, as ready bytes.

use std::collections::BTreeSet;

use anyhow::ensure;
use common::command::{Command, DEFAULT_LIFETIME};
use common::event::{Event, TELEMETRY_TYPE};
use common::id::DeviceKey;
use common::service::{Clock, new_event_id};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use crate::fleet::APPLICATION;

/// Makes telemetry of a device, with 64 bytes of data as devices of the load tool send it.
pub(super) fn telemetry(device: &str, clock: &Clock) -> anyhow::Result<Event> {
    let time = clock.wall();
    Ok(Event {
        id: new_event_id(time),
        kind: TELEMETRY_TYPE.into(),
        source: None,
        device: key(device)?,
        subject: "temperature".to_owned(),
        time,
        content_type: "application/json".into(),
        extensions: Vec::new(),
        data: format!("{{\"temp\":42,\"pad\":\"{:x<44}\"}}", "").into(),
    })
}

/// Makes a command to a device.
pub(super) fn command(device: &str, payload: String, clock: &Clock) -> anyhow::Result<Event> {
    let time = clock.wall();
    let command = Command {
        id: new_event_id(time),
        device: key(device)?,
        name: "load".parse()?,
        expires: time.saturating_add(DEFAULT_LIFETIME),
        kept: false,
        content_type: "application/json".to_owned(),
        payload: payload.into(),
    };
    Ok(command.into_event(time, None))
}

fn key(device: &str) -> anyhow::Result<DeviceKey> {
    Ok(DeviceKey::new(&APPLICATION.parse()?, &device.parse()?))
}

/// A record of which every byte is ready.
#[derive(Debug, Clone)]
pub(super) struct Bare {
    key: String,
    headers: Vec<(String, String)>,
    pub(super) payload: Vec<u8>,
}

impl Bare {
    /// Makes the record that the adapter makes of an event: the Kafka binding of CloudEvents, in binary mode.
    pub(super) fn of(event: &Event) -> Self {
        let attributes = [
            ("specversion", "1.0"),
            ("id", event.id.as_str()),
            ("type", &event.kind),
            ("source", &event.source()),
            ("subject", &event.subject),
            ("time", &event.time.to_string()),
            ("application", event.device.application()),
            ("device", event.device.device()),
            ("partitionkey", event.device.as_str()),
        ]
        .map(|(name, value)| (format!("ce_{name}"), value.to_owned()));
        let extensions = event.extensions.iter().map(|(name, value)| (format!("ce_{name}"), value.clone()));
        let content_type = ("content-type".to_owned(), event.content_type.clone().into_owned());
        let headers = attributes.into_iter().chain(extensions).chain([content_type]).collect();
        Self { key: event.device.as_str().to_owned(), headers, payload: event.data.to_vec() }
    }

    /// Makes what the client library takes.
    pub(super) fn to<'a>(&'a self, topic: &'a str) -> BaseRecord<'a, str, [u8]> {
        let headers = OwnedHeaders::new_with_capacity(self.headers.len());
        let headers = self.headers.iter().fold(headers, |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value.as_str()) })
        });
        BaseRecord::to(topic).key(&*self.key).headers(headers).payload(&self.payload)
    }
}

/// Fails unless two records have the same headers and as many bytes of value.
pub(super) fn ensure_same(one: &BorrowedMessage<'_>, other: &BorrowedMessage<'_>) -> anyhow::Result<()> {
    let (ours, bare) = (shape(one), shape(other));
    ensure!(ours == bare, "the records are not the same: {ours:?}, and bare {bare:?}");
    Ok(())
}

/// Returns the headers with the lengths of their values, and the length of the value.
fn shape(message: &BorrowedMessage<'_>) -> (BTreeSet<(String, usize)>, usize) {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let headers = headers.map(|header| (header.key.to_owned(), header.value.map_or(0, <[u8]>::len)));
    (headers.collect(), message.payload_len())
}
