//! The records by which all replicas agree who delivers a command: `docs/events.md`, "Who delivers".
//!
//! They lie in the channel that has the commands, and the order of its partitions decides: most under the key of a
//! device, between its commands; those that concern a whole partition under [`DeviceKey::all`].

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::channel::Place;
use crate::command::Command;
use crate::event::{Event, Malformed, is_content_type};
use crate::id::{CommandName, ConnectionRef, DeviceKey, EventId};
use crate::outcome::Reason;
use crate::sessions::SessionId;
use crate::time::Timestamp;

const JSON: &str = "application/json";

/// How many commands a connection takes, as its record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takes {
    /// One, which ends it: a request that waits.
    One,
    /// One, or at most so many that were pending, which ends it: a request that takes a batch.
    Batch(u32),
    /// Any number: an MQTT session.
    Many,
}

/// A connection begins: commands reach the device by it from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// The connection.
    #[serde(flatten)]
    pub id: ConnectionRef,
    /// Its session on its replica.
    pub session: SessionId,
    /// The client id of the session, if its protocol has such; it belongs to the device alone. A connection of the same
    /// client that began before is ended by this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The protocol by which the device came.
    pub protocol: String,
    /// How many commands it takes.
    pub takes: Takes,
    /// When its replica will end it, in milliseconds since the Unix epoch. For people: no decision depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// Set where this repeats a record, because somebody asked by [`Announce`]: the place of that record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Place>,
}

/// A connection ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnected {
    /// The connection.
    #[serde(flatten)]
    pub id: ConnectionRef,
}

/// A connection gives back a command that it owned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// The connection.
    #[serde(flatten)]
    pub id: ConnectionRef,
    /// The command, and which attempt this was.
    pub given: Given,
    /// Why. `None`: for certain nothing of it was written to the device. Only commands that are kept have a reason here; of
    /// others, an outcome tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// Gives commands, in order, to a connection. Without effect if that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The epoch of the tracker that wrote it. One of a lower epoch than an earlier record's is ignored.
    pub epoch: u64,
    /// The connection.
    #[serde(flatten)]
    pub id: ConnectionRef,
    /// The commands.
    pub commands: Vec<Given>,
}

/// A command as a record carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The command's id.
    pub command: EventId,
    /// Which connection gets it: the first, the second.
    pub attempt: u32,
    /// Its name.
    pub name: CommandName,
    /// When it lapses, in milliseconds since the Unix epoch.
    pub expires: i64,
    /// Whether it is kept while the device is away.
    #[serde(default)]
    pub kept: bool,
    /// The content type of the payload.
    pub content_type: String,
    /// The payload.
    #[serde(with = "base64_bytes")]
    pub payload: Bytes,
}

/// A replica lives. In every partition, every second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// The start of the replica.
    pub incarnation: EventId,
}

/// A replica is dead, or has nothing more to say: its connections in this partition end here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lapsed {
    /// The start of the replica.
    pub incarnation: EventId,
    /// The epoch of the tracker that says so. `None`: the replica itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// A tracker takes charge of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// Its epoch: higher than those of all trackers of this partition before.
    pub epoch: u64,
    /// Whether it lacks what came before: every replica then repeats the records of its connections in this partition,
    /// and writes [`Announced`] behind them.
    pub repeat: bool,
}

/// A replica has repeated the records of all its connections in this partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// The start of the replica.
    pub incarnation: EventId,
    /// The epoch of the [`Announce`] that this answers.
    pub epoch: u64,
}

/// Any of the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderRecord {
    /// A connection begins.
    Connected(Connected),
    /// A connection ends.
    Disconnected(Disconnected),
    /// A connection gives a command back.
    Released(Released),
    /// A tracker gives commands to a connection.
    Handover(Handover),
    /// A replica lives.
    Alive(Alive),
    /// A replica's connections end.
    Lapsed(Lapsed),
    /// A tracker takes charge.
    Announce(Announce),
    /// A replica has repeated its records.
    Announced(Announced),
}

impl OrderRecord {
    /// Returns the `type` of its event.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connected(_) => "io.drogue.connection.connected.v1",
            Self::Disconnected(_) => "io.drogue.connection.disconnected.v1",
            Self::Released(_) => "io.drogue.connection.released.v1",
            Self::Handover(_) => "io.drogue.connection.handover.v1",
            Self::Alive(_) => "io.drogue.replica.alive.v1",
            Self::Lapsed(_) => "io.drogue.replica.lapsed.v1",
            Self::Announce(_) => "io.drogue.tracker.announce.v1",
            Self::Announced(_) => "io.drogue.replica.announced.v1",
        }
    }

    /// Makes the record's event. `device` is [`DeviceKey::all`] for what concerns a whole partition.
    pub fn into_event(self, id: EventId, device: DeviceKey, now: Timestamp) -> Event {
        let kind = self.kind();
        // Texts and numbers always have a JSON form. A client id is any text, and so no attribute.
        let data = match &self {
            Self::Connected(record) => serde_json::to_vec(record),
            Self::Disconnected(record) => serde_json::to_vec(record),
            Self::Released(record) => serde_json::to_vec(record),
            Self::Handover(record) => serde_json::to_vec(record),
            Self::Alive(record) => serde_json::to_vec(record),
            Self::Lapsed(record) => serde_json::to_vec(record),
            Self::Announce(record) => serde_json::to_vec(record),
            Self::Announced(record) => serde_json::to_vec(record),
        };
        Event {
            id,
            kind: kind.into(),
            source: None,
            device,
            subject: kind.split('.').rev().nth(1).unwrap_or_default().to_owned(),
            time: now,
            content_type: JSON.into(),
            extensions: Vec::new(),
            data: data.unwrap_or_default().into(),
        }
    }

    /// Reads a record; an event of another type is none.
    ///
    /// # Errors
    /// Fails if the event's data has another form than its type says.
    pub fn from_event(event: &Event) -> Result<Option<Self>, Malformed> {
        Ok(Some(match event.kind.as_ref() {
            "io.drogue.connection.connected.v1" => Self::Connected(read(event)?),
            "io.drogue.connection.disconnected.v1" => Self::Disconnected(read(event)?),
            "io.drogue.connection.released.v1" => Self::Released(read(event)?),
            "io.drogue.connection.handover.v1" => Self::Handover(read(event)?),
            "io.drogue.replica.alive.v1" => Self::Alive(read(event)?),
            "io.drogue.replica.lapsed.v1" => Self::Lapsed(read(event)?),
            "io.drogue.tracker.announce.v1" => Self::Announce(read(event)?),
            "io.drogue.replica.announced.v1" => Self::Announced(read(event)?),
            _ => return Ok(None),
        }))
    }
}

fn read<T: DeserializeOwned>(event: &Event) -> Result<T, Malformed> {
    serde_json::from_slice(&event.data).map_err(|_| Malformed::Invalid("data"))
}

impl Given {
    /// Makes the record's form of a command.
    pub fn of(command: &Command, attempt: u32) -> Self {
        Self {
            command: command.id.clone(),
            attempt,
            name: command.name.clone(),
            expires: command.expires.as_millis(),
            kept: command.kept,
            content_type: command.content_type.clone(),
            payload: command.payload.clone(),
        }
    }

    /// Returns the command, which is for the device whose record this is.
    ///
    /// # Errors
    /// Fails if the content type is none.
    pub fn into_command(self, device: DeviceKey) -> Result<Command, Malformed> {
        if !is_content_type(&self.content_type) {
            return Err(Malformed::Invalid("data"));
        }
        Ok(Command {
            id: self.command,
            device,
            name: self.name,
            expires: Timestamp::from_millis(self.expires),
            kept: self.kept,
            content_type: self.content_type,
            payload: self.payload,
        })
    }
}

/// Bytes as base64, in JSON.
mod base64_bytes {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use bytes::Bytes;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::example;
    use crate::id::ConnectionId;

    fn all() -> Vec<OrderRecord> {
        let incarnation: EventId = "i1".parse().unwrap();
        let id = ConnectionRef { incarnation: incarnation.clone(), connection: ConnectionId(2) };
        let command = Command::from_event(example(), crate::command::DEFAULT_LIFETIME).unwrap();
        let given = Given::of(&command, 3);
        assert_eq!(given.clone().into_command(command.device.clone()), Ok(command));
        vec![
            OrderRecord::Connected(Connected {
                id: id.clone(),
                session: SessionId(1),
                client: Some("any text: ü/#+ ".into()),
                protocol: "mqtt".to_owned(),
                takes: Takes::Batch(7),
                until: Some(5),
                repeats: Some(Place(4)),
            }),
            OrderRecord::Disconnected(Disconnected { id: id.clone() }),
            OrderRecord::Released(Released {
                id: id.clone(),
                given: given.clone(),
                reason: Some(Reason::NoAck),
            }),
            OrderRecord::Handover(Handover { epoch: 1, id, commands: vec![given] }),
            OrderRecord::Alive(Alive { incarnation: incarnation.clone() }),
            OrderRecord::Lapsed(Lapsed { incarnation: incarnation.clone(), epoch: None }),
            OrderRecord::Announce(Announce { epoch: 2, repeat: true }),
            OrderRecord::Announced(Announced { incarnation, epoch: 2 }),
        ]
    }

    #[test]
    fn a_record_survives_its_event() {
        for record in all() {
            let mut event =
                record.clone().into_event("e1".parse().unwrap(), example().device, example().time);
            assert_eq!(OrderRecord::from_event(&event), Ok(Some(record)));
            event.data = Bytes::from_static(b"[]");
            assert_eq!(OrderRecord::from_event(&event), Err(Malformed::Invalid("data")));
        }
        assert_eq!(OrderRecord::from_event(&example()), Ok(None));
    }
}
