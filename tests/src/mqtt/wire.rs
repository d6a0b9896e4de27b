//! The bytes of MQTT 3.1.1 and 5: what a client sends and what a server answers.

use bytes::{Buf, Bytes, BytesMut};

use super::Version;
use crate::tenant::Device;

/// A PINGREQ.
pub const PINGREQ: [u8; 2] = [0xc0, 0];
/// A DISCONNECT without reason.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// The will of a client.
#[derive(Debug, Clone)]
pub struct Will {
    /// Where it goes.
    pub topic: String,
    /// What it says.
    pub payload: String,
    /// Its properties, encoded, without their length. 3.1.1 has none.
    pub properties: Vec<u8>,
}

/// A CONNECT.
#[derive(Debug, Clone)]
pub struct Connect {
    /// The version.
    pub version: Version,
    /// The client id.
    pub client_id: String,
    /// The user name, if one is sent.
    pub user: Option<String>,
    /// The password, if one is sent.
    pub password: Option<String>,
    /// Seconds; 0 is off.
    pub keep_alive: u16,
    /// The will, if there is one.
    pub will: Option<Will>,
    /// The properties, encoded, without their length. 3.1.1 has none.
    pub properties: Vec<u8>,
}

impl Connect {
    /// Returns the CONNECT of a device, with its name as client id.
    pub fn of(version: Version, device: &Device) -> Self {
        Self {
            version,
            client_id: device.name.clone(),
            user: Some(device.user()),
            password: Some(device.secret.clone()),
            keep_alive: 60,
            will: None,
            properties: Vec::new(),
        }
    }

    /// Encodes it with a clean start.
    pub fn encode(&self) -> Vec<u8> {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = 2
            | flag(self.will.is_some(), 0b0000_1100)
            | flag(self.password.is_some(), 0b0100_0000)
            | flag(self.user.is_some(), 0b1000_0000);
        let mut body = text(b"MQTT");
        body.extend([if self.version == Version::V5 { 5 } else { 4 }, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(properties(self.version, &self.properties));
        body.extend(text(self.client_id.as_bytes()));
        if let Some(will) = &self.will {
            body.extend(properties(self.version, &will.properties));
            body.extend(text(will.topic.as_bytes()));
            body.extend(text(will.payload.as_bytes()));
        }
        for field in [&self.user, &self.password].into_iter().flatten() {
            body.extend(text(field.as_bytes()));
        }
        packet(0x10, &body)
    }
}

/// Encodes a PUBLISH. At QoS 0 it has no packet id.
pub fn publish(version: Version, topic: &[u8], qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    publish_with(version, topic, qos, id, &[], payload)
}

/// Encodes a PUBLISH with properties, encoded, without their length.
pub fn publish_with(
    version: Version,
    topic: &[u8],
    qos: u8,
    id: u16,
    encoded_properties: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut body = text(topic);
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(properties(version, encoded_properties));
    body.extend(payload);
    packet(0x30 | qos << 1, &body)
}

/// Encodes a SUBSCRIBE.
pub fn subscribe(version: Version, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(properties(version, &[]));
    for (filter, qos) in filters {
        body.extend(text(filter.as_bytes()));
        body.push(*qos);
    }
    packet(0x82, &body)
}

/// Encodes an UNSUBSCRIBE.
pub fn unsubscribe(version: Version, id: u16, filter: &str) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(properties(version, &[]));
    body.extend(text(filter.as_bytes()));
    packet(0xa2, &body)
}

/// Encodes a PUBACK of success.
pub fn puback(id: u16) -> Vec<u8> {
    packet(0x40, &id.to_be_bytes())
}

/// Encodes a packet of a first byte and a body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend(variable(body.len()));
    packet.extend(body);
    packet
}

/// Encodes a text with its length.
///
/// # Panics
/// Panics if it has more than 65,535 bytes.
pub fn text(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("MQTT has no longer texts");
    [&length.to_be_bytes(), bytes].concat()
}

/// Encodes a Variable Byte Integer.
pub fn variable(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let seven = (number % 128) as u8;
        number /= 128;
        bytes.push(if number > 0 { seven | 128 } else { seven });
        if number == 0 {
            return bytes;
        }
    }
}

fn properties(version: Version, encoded: &[u8]) -> Vec<u8> {
    match version {
        Version::V311 => Vec::new(),
        Version::V5 => [variable(encoded.len()), encoded.to_vec()].concat(),
    }
}

/// The properties of a packet, in order; of 3.1.1 there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(pub Vec<(u8, Property)>);

/// The value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Property {
    /// A number of any width.
    Number(u32),
    /// A text or binary data.
    Text(Bytes),
    /// A User Property.
    Pair(String, String),
}

impl Properties {
    /// Returns the number of a property.
    pub fn number(&self, id: u8) -> Option<u32> {
        self.0.iter().find_map(|(of, value)| match value {
            Property::Number(number) if *of == id => Some(*number),
            Property::Number(_) | Property::Text(_) | Property::Pair(..) => None,
        })
    }

    /// Returns a User Property.
    pub fn user(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|(_, value)| match value {
            Property::Pair(key, value) if key == name => Some(value.as_str()),
            Property::Number(_) | Property::Text(_) | Property::Pair(..) => None,
        })
    }
}

/// A PUBLISH from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The DUP flag.
    pub dup: bool,
    /// The quality of service.
    pub qos: u8,
    /// The RETAIN flag.
    pub retain: bool,
    /// The topic.
    pub topic: String,
    /// The packet id; QoS 0 has none.
    pub id: Option<u16>,
    /// The properties.
    pub properties: Properties,
    /// The payload.
    pub payload: Bytes,
}

/// A packet from the server. A code that is not sent is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Answers CONNECT.
    ConnAck {
        /// Whether an old session goes on.
        session_present: bool,
        /// The return or reason code.
        code: u8,
        /// The properties.
        properties: Properties,
    },
    /// A message.
    Publish(Publish),
    /// Answers PUBLISH.
    PubAck {
        /// Of which.
        id: u16,
        /// The reason code.
        code: u8,
        /// The properties.
        properties: Properties,
    },
    /// Answers SUBSCRIBE.
    SubAck {
        /// Of which.
        id: u16,
        /// A code for each filter.
        codes: Vec<u8>,
    },
    /// Answers UNSUBSCRIBE.
    UnsubAck {
        /// Of which.
        id: u16,
    },
    /// Answers PINGREQ.
    PingResp,
    /// Ends a connection of version 5.
    Disconnect {
        /// The reason code.
        code: u8,
        /// The properties.
        properties: Properties,
    },
}

/// Takes a whole packet off the buffer, if there is one.
///
/// # Panics
/// Panics if the server sends what is no packet.
pub fn decode(buffer: &mut BytesMut, version: Version) -> Option<Packet> {
    let (length, digits) = remaining_length(buffer.get(1..)?)?;
    if buffer.len() < 1 + digits + length {
        return None;
    }
    let first = buffer.get_u8();
    buffer.advance(digits);
    Some(decode_body(first, buffer.split_to(length).freeze(), version))
}

fn remaining_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (index, byte) in bytes.iter().enumerate() {
        assert!(index < 4, "the server sent a remaining length of more than four bytes");
        length |= usize::from(byte & 127) << (7 * index);
        if byte & 128 == 0 {
            return Some((length, index + 1));
        }
    }
    None
}

fn decode_body(first: u8, mut body: Bytes, version: Version) -> Packet {
    match first >> 4 {
        2 => {
            let session_present = body.get_u8() & 1 == 1;
            let code = body.get_u8();
            Packet::ConnAck { session_present, code, properties: take_properties(&mut body, version) }
        }
        3 => Packet::Publish(decode_publish(first, body, version)),
        4 => {
            let (id, code) = (body.get_u16(), take_code(&mut body));
            Packet::PubAck { id, code, properties: take_properties(&mut body, version) }
        }
        9 => {
            let id = body.get_u16();
            take_properties(&mut body, version);
            Packet::SubAck { id, codes: body.to_vec() }
        }
        11 => Packet::UnsubAck { id: body.get_u16() },
        13 => Packet::PingResp,
        14 => {
            let code = take_code(&mut body);
            Packet::Disconnect { code, properties: take_properties(&mut body, version) }
        }
        kind => panic!("a server does not send packets of type {kind}"),
    }
}

fn decode_publish(first: u8, mut body: Bytes, version: Version) -> Publish {
    let qos = first >> 1 & 3;
    let topic = String::from_utf8(take_text(&mut body).to_vec()).expect("a topic is UTF-8");
    let id = (qos > 0).then(|| body.get_u16());
    let properties = take_properties(&mut body, version);
    Publish { dup: first & 8 != 0, qos, retain: first & 1 != 0, topic, id, properties, payload: body }
}

fn take_code(body: &mut Bytes) -> u8 {
    if body.has_remaining() { body.get_u8() } else { 0 }
}

fn take_properties(body: &mut Bytes, version: Version) -> Properties {
    if version == Version::V311 || !body.has_remaining() {
        return Properties::default();
    }
    let (length, digits) = remaining_length(body).expect("a length");
    body.advance(digits);
    let mut encoded = body.split_to(length);
    let mut properties = Vec::new();
    while encoded.has_remaining() {
        let id = encoded.get_u8();
        properties.push((id, take_property(id, &mut encoded)));
    }
    Properties(properties)
}

/// The types are those of table 2-4 of MQTT 5.
fn take_property(id: u8, encoded: &mut Bytes) -> Property {
    match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Property::Number(encoded.get_u8().into()),
        0x13 | 0x21 | 0x22 | 0x23 => Property::Number(encoded.get_u16().into()),
        0x02 | 0x11 | 0x18 | 0x27 => Property::Number(encoded.get_u32()),
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => Property::Text(take_text(encoded)),
        0x26 => {
            let mut text =
                || String::from_utf8(take_text(encoded).to_vec()).expect("a User Property is UTF-8");
            Property::Pair(text(), text())
        }
        id => panic!("a server does not send property {id:#x}"),
    }
}

fn take_text(body: &mut Bytes) -> Bytes {
    let length = body.get_u16();
    body.split_to(length.into())
}
