//! A client that writes and reads packets byte by byte, so that nothing of the server's codec judges itself.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use common::testing::PATIENCE;

use crate::fixture::{Fixture, PASSWORD};

/// A version of the protocol: the level that CONNECT names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V3 = 4,
    V5 = 5,
}

pub(crate) const BOTH: [Version; 2] = [Version::V3, Version::V5];

/// The types of packets that a server sends.
pub(crate) const CONNACK: u8 = 2;
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const SUBACK: u8 = 9;
pub(crate) const UNSUBACK: u8 = 11;
pub(crate) const PINGRESP: u8 = 13;
pub(crate) const DISCONNECT: u8 = 14;

/// A packet of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) body: Vec<u8>,
}

impl Packet {
    /// Returns the properties of an answer or DISCONNECT of MQTT 5 as they are on the wire, without their length.
    pub(crate) fn properties(&self) -> &[u8] {
        let head = match self.kind {
            CONNACK | SUBACK => 2,
            PUBACK => 3,
            DISCONNECT => 1,
            kind => panic!("the properties of packet type {kind} are not read here"),
        };
        let mut rest = &self.body[head..];
        let length = take(&mut rest, 1)[0];
        assert!(length < 0x80, "a longer length is not read here");
        take(&mut rest, length.into())
    }

    /// Returns the reason string, which this server puts last.
    pub(crate) fn reason(&self) -> Option<&str> {
        let properties = self.properties();
        (0..properties.len()).find_map(|at| match &properties[at..] {
            [0x1f, high, low, reason @ ..]
                if usize::from(u16::from_be_bytes([*high, *low])) == reason.len() =>
            {
                std::str::from_utf8(reason).ok()
            }
            _ => None,
        })
    }
}

/// The parts of a PUBLISH of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) qos: u8,
    pub(crate) topic: String,
    pub(crate) id: Option<u16>,
    /// The properties as they are on the wire, without their length.
    pub(crate) properties: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// What a CONNECT says.
#[derive(Debug, Clone)]
pub(crate) struct Connect {
    pub(crate) client_id: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<Will>,
    pub(crate) properties: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) properties: Vec<u8>,
}

impl Will {
    pub(crate) fn new(topic: &str) -> Self {
        let (topic, payload) = (topic.to_owned(), b"gone".to_vec());
        Self { topic, payload, qos: 1, retain: false, properties: Vec::new() }
    }
}

impl Connect {
    pub(crate) fn new(user: &str) -> Self {
        Self {
            client_id: "client".into(),
            user: Some(user.into()),
            password: Some(PASSWORD.into()),
            clean: true,
            keep_alive: 60,
            will: None,
            properties: Vec::new(),
        }
    }

    pub(crate) fn packet(&self, version: Version) -> Vec<u8> {
        let will = self.will.as_ref();
        let flags = u8::from(self.user.is_some()) << 7
            | u8::from(self.password.is_some()) << 6
            | will.map_or(0, |will| 1 << 2 | will.qos << 3 | u8::from(will.retain) << 5)
            | u8::from(self.clean) << 1;
        let mut body = b"\0\x04MQTT".to_vec();
        body.extend([version as u8, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(properties(version, &self.properties));
        body.extend(text(&self.client_id));
        if let Some(will) = will {
            body.extend(properties(version, &will.properties));
            body.extend(text(&will.topic));
            body.extend(binary(&will.payload));
        }
        body.extend(self.user.iter().flat_map(|user| text(user)));
        body.extend(self.password.iter().flat_map(|password| binary(password)));
        packet(0x10, &body)
    }
}

/// A connection to the endpoint.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) version: Version,
}

impl Client {
    /// Connects the socket and nothing more.
    pub(crate) fn open(fixture: &Fixture, version: Version) -> Self {
        let stream = TcpStream::connect(fixture.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, version }
    }

    /// Connects and logs in, and expects to be let in.
    pub(crate) fn connect(fixture: &Fixture, version: Version, connect: &Connect) -> Self {
        let (client, connack) = Self::try_connect(fixture, version, connect);
        assert_eq!((connack.kind, &connack.body[..2]), (CONNACK, [0, 0].as_slice()));
        client
    }

    /// Connects as a device with its own name as the client id.
    pub(crate) fn device(fixture: &Fixture, version: Version, user: &str) -> Self {
        Self::connect(fixture, version, &Connect { client_id: user.into(), ..Connect::new(user) })
    }

    /// Connects and returns CONNACK.
    pub(crate) fn try_connect(fixture: &Fixture, version: Version, connect: &Connect) -> (Self, Packet) {
        let mut client = Self::open(fixture, version);
        client.send(&connect.packet(version));
        let connack = client.read();
        (client, connack)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn publish(&mut self, topic: &str, qos: u8, id: u16, payload: &[u8]) {
        self.publish_with(topic, qos, id, &[], payload);
    }

    pub(crate) fn publish_with(&mut self, topic: &str, qos: u8, id: u16, extra: &[u8], payload: &[u8]) {
        self.send(&publish(self.version, topic, qos, id, extra, payload));
    }

    /// Subscribes and returns the codes of SUBACK.
    pub(crate) fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        self.subscribe_with(&[], filters)
    }

    pub(crate) fn subscribe_with(&mut self, extra: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
        let mut body = vec![0, 7];
        body.extend(properties(self.version, extra));
        for (filter, qos) in filters {
            body.extend(text(filter));
            body.push(*qos);
        }
        self.send(&packet(0x82, &body));
        let suback = self.read();
        assert_eq!((suback.kind, &suback.body[..2]), (SUBACK, [0, 7].as_slice()));
        let head = match self.version {
            Version::V3 => 2,
            Version::V5 => 3 + suback.properties().len(),
        };
        suback.body[head..].to_vec()
    }

    pub(crate) fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let mut body = vec![0, 8];
        body.extend(properties(self.version, &[]));
        body.extend(filters.iter().flat_map(|filter| text(filter)));
        self.send(&packet(0xa2, &body));
        let unsuback = self.read();
        assert_eq!((unsuback.kind, &unsuback.body[..2]), (UNSUBACK, [0, 8].as_slice()));
        unsuback.body[2..].to_vec()
    }

    pub(crate) fn acknowledge(&mut self, id: u16) {
        self.send(&packet(0x40, &id.to_be_bytes()));
    }

    /// Makes sure that the server has read everything so far, and sent nothing else since.
    pub(crate) fn ping(&mut self) {
        self.send(&[0xc0, 0]);
        assert_eq!(self.read().kind, PINGRESP);
    }

    /// Reads PUBACK and returns its packet identifier and code, 0 in 3.1.1.
    pub(crate) fn puback(&mut self) -> (u16, u8) {
        let puback = self.read();
        assert_eq!(puback.kind, PUBACK, "{puback:?}");
        let code = puback.body.get(2).copied().unwrap_or(0);
        (u16::from_be_bytes([puback.body[0], puback.body[1]]), code)
    }

    /// Reads a PUBLISH.
    pub(crate) fn receive(&mut self) -> Received {
        let packet = self.read();
        assert_eq!(packet.kind, PUBLISH, "{packet:?}");
        let mut rest = packet.body.as_slice();
        let topic = take(&mut rest, 2);
        let topic = take(&mut rest, u16::from_be_bytes([topic[0], topic[1]]).into());
        let qos = packet.flags >> 1 & 3;
        let id = (qos > 0).then(|| take(&mut rest, 2)).map(|id| u16::from_be_bytes([id[0], id[1]]));
        let properties = match self.version {
            Version::V3 => &[],
            Version::V5 => {
                let mut length = usize::from(take(&mut rest, 1)[0]);
                if length >= 0x80 {
                    length += (usize::from(take(&mut rest, 1)[0]) << 7) - 0x80;
                    assert!(length < 0x80 << 7, "a longer length is not read here");
                }
                take(&mut rest, length)
            }
        };
        let topic = String::from_utf8(topic.to_vec()).unwrap();
        Received { qos, topic, id, properties: properties.to_vec(), payload: rest.to_vec() }
    }

    pub(crate) fn read(&mut self) -> Packet {
        self.try_read().unwrap().expect("the server closed the connection")
    }

    /// Reads a packet. Returns `None` if the server closed the connection.
    pub(crate) fn try_read(&mut self) -> io::Result<Option<Packet>> {
        let mut head = [0];
        match self.stream.read(&mut head) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            // Closed while we were still sending.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Some(Packet { kind: head[0] >> 4, flags: head[0] & 0xf, body }))
    }

    /// Expects that the server ends the session: with this code in MQTT 5, without a word in 3.1.1.
    pub(crate) fn expect_end(&mut self, code: u8) {
        if self.version == Version::V5 {
            let packet = self.read();
            assert_eq!((packet.kind, packet.body.first()), (DISCONNECT, Some(&code)), "{packet:?}");
        }
        self.expect_close();
    }

    /// Expects that the server closes the connection without another packet.
    pub(crate) fn expect_close(&mut self) {
        if self.version == Version::V5 {
            // A client that was told to go closes its side.
            drop(self.stream.shutdown(std::net::Shutdown::Write));
        }
        assert_eq!(self.try_read().unwrap(), None);
    }

    /// Hangs up without DISCONNECT.
    pub(crate) fn vanish(self) {}

    /// Sends DISCONNECT, with a reason code in MQTT 5.
    pub(crate) fn disconnect(mut self, code: u8) {
        match self.version {
            Version::V3 => self.send(&[0xe0, 0]),
            Version::V5 => self.send(&[0xe0, 1, code]),
        }
        self.expect_close();
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

pub(crate) fn publish(
    version: Version,
    topic: &str,
    qos: u8,
    id: u16,
    extra: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut body = text(topic);
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(properties(version, extra));
    body.extend(payload);
    packet(0x30 | qos << 1, &body)
}

/// Makes a packet of a first byte and a body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend(variable_length(body.len()));
    packet.extend(body);
    packet
}

pub(crate) fn variable_length(mut length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = length > 0x7f;
        bytes.push((length & 0x7f) as u8 | u8::from(more) << 7);
        length >>= 7;
        if !more {
            return bytes;
        }
    }
}

/// Makes the properties of a packet: nothing in 3.1.1.
fn properties(version: Version, properties: &[u8]) -> Vec<u8> {
    match version {
        Version::V3 => Vec::new(),
        Version::V5 => [variable_length(properties.len()), properties.to_vec()].concat(),
    }
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    binary(text.as_bytes())
}

pub(crate) fn binary(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [length.to_be_bytes().as_slice(), bytes].concat()
}

/// Makes a user property.
pub(crate) fn user_property(name: &str, value: &str) -> Vec<u8> {
    [vec![0x26], text(name), text(value)].concat()
}
