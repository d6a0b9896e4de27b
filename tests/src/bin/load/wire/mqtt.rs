//! MQTT 3.1.1, as far as a device of the load tool speaks it.

use std::time::Instant;

use anyhow::{Context, bail, ensure};

use super::{Answer, Wire};
use crate::fleet::Login;

/// Seconds after which an idle connection would have to say something; no measurement lasts so long.
const KEEP_ALIVE: u16 = 600;

/// A packet from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// CONNACK with its return code.
    ConnAck(u8),
    /// PUBACK of a packet id.
    PubAck(u16),
    /// SUBACK of one subscription with its return code.
    SubAck(u8),
    /// PUBLISH.
    Publish {
        /// The packet id, if it is to be acknowledged.
        id: Option<u16>,
        /// The topic.
        topic: &'a str,
        /// The payload.
        payload: &'a [u8],
    },
}

/// Parses the first packet in `input` and its length. Returns `None` if it is not complete.
///
/// # Errors
/// Fails on a packet that a server does not send here.
pub(crate) fn parse(input: &[u8]) -> anyhow::Result<Option<(usize, Packet<'_>)>> {
    let Some((head, body_len)) = lengths(input)? else { return Ok(None) };
    let Some(body) = input.get(head..head + body_len) else { return Ok(None) };
    let packet = match (input[0] >> 4, body) {
        (2, &[_, code]) => Packet::ConnAck(code),
        (4, &[high, low]) => Packet::PubAck(u16::from_be_bytes([high, low])),
        (9, &[_, _, code]) => Packet::SubAck(code),
        (3, _) => published(input[0], body)?,
        (kind, _) => bail!("unexpected MQTT packet of type {kind} with {body_len} bytes"),
    };
    Ok(Some((head + body_len, packet)))
}

/// Returns the lengths of the fixed header and of what follows.
fn lengths(input: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let mut len = 0;
    for (place, byte) in input.iter().skip(1).enumerate() {
        ensure!(place < 4, "MQTT packet with a malformed length");
        len |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((place + 2, len)));
        }
    }
    Ok(None)
}

fn published(first: u8, body: &[u8]) -> anyhow::Result<Packet<'_>> {
    let (len, rest) = body.split_first_chunk().context("malformed PUBLISH")?;
    let split = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)));
    let (topic, rest) = split.context("malformed PUBLISH")?;
    let topic = std::str::from_utf8(topic).context("a topic is no text")?;
    match (first >> 1 & 3, rest.split_first_chunk()) {
        (0, _) => Ok(Packet::Publish { id: None, topic, payload: rest }),
        (1, Some((id, payload))) => Ok(Packet::Publish { id: Some(u16::from_be_bytes(*id)), topic, payload }),
        _ => bail!("malformed PUBLISH"),
    }
}

/// Builds CONNECT.
pub(crate) fn connect(login: &Login) -> Vec<u8> {
    let mut flags = 0x02; // clean session
    let mut body = Vec::new();
    text(&mut body, &login.client_id);
    for (bit, value) in [(0x80, &login.user), (0x40, &login.password)] {
        if let Some(value) = value {
            flags |= bit;
            text(&mut body, value);
        }
    }
    let [high, low] = KEEP_ALIVE.to_be_bytes();
    let head = [0, 4, b'M', b'Q', b'T', b'T', 4, flags, high, low];
    packet(0x10, &[&head, &body])
}

/// Builds SUBSCRIBE to one filter at QoS 1.
pub(crate) fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    text(&mut body, filter);
    packet(0x82, &[&body, &[1]])
}

/// Builds PUBACK.
pub(crate) fn puback(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x40, 2, high, low]
}

/// Builds PUBLISH at QoS 1.
pub(crate) fn publish(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    text(&mut head, topic);
    packet(0x32, &[&head, &id.to_be_bytes(), payload])
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut len: usize = parts.iter().map(|part| part.len()).sum();
    let mut packet = vec![first];
    while len > 0x7f {
        packet.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    packet.push(len as u8);
    parts.iter().for_each(|part| packet.extend_from_slice(part));
    packet
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Telemetry at QoS 1, acknowledged in its order \[MQTT-4.6.0-2\].
#[derive(Debug)]
pub(crate) struct Telemetry {
    template: Vec<u8>,
    id_at: usize,
    last_sent: u16,
    last_acknowledged: u16,
}

impl Telemetry {
    /// Prepares a PUBLISH.
    pub(crate) fn new(topic: &str, payload: &[u8]) -> Self {
        let template = publish(topic, 0, payload);
        let id_at = template.len() - payload.len() - 2;
        Self { template, id_at, last_sent: 0, last_acknowledged: 0 }
    }
}

/// Packet ids go from 1 to 65,535 and around.
fn after(id: u16) -> u16 {
    id.checked_add(1).unwrap_or(1)
}

impl Wire for Telemetry {
    fn request(&mut self, _intended: Instant, out: &mut Vec<u8>) {
        self.last_sent = after(self.last_sent);
        let id_at = out.len() + self.id_at;
        out.extend_from_slice(&self.template);
        out[id_at..id_at + 2].copy_from_slice(&self.last_sent.to_be_bytes());
    }

    fn answer(&mut self, input: &[u8]) -> anyhow::Result<Option<Answer>> {
        let Some((len, packet)) = parse(input)? else { return Ok(None) };
        let expected = after(self.last_acknowledged);
        ensure!(packet == Packet::PubAck(expected), "expected PUBACK of {expected} and got {packet:?}");
        self.last_acknowledged = expected;
        Ok(Some(Answer { len, accepted: true }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_those_of_the_specification() {
        let login = Login { client_id: "c".into(), user: Some("u".into()), password: Some("p".into()) };
        assert_eq!(connect(&login), b"\x10\x13\0\x04MQTT\x04\xc2\x02\x58\0\x01c\0\x01u\0\x01p");
        assert_eq!(subscribe("cmd"), b"\x82\x08\0\x01\0\x03cmd\x01");
        assert_eq!(packet(0x30, &[&[0; 200]])[..3], [0x30, 0xc8, 0x01]);
    }

    #[test]
    fn telemetry_is_acknowledged_in_order() {
        let mut wire = Telemetry::new("t", b"42");
        let mut out = Vec::new();
        wire.request(crate::pace::now(), &mut out);
        wire.request(crate::pace::now(), &mut out);
        assert_eq!(out, b"\x32\x07\0\x01t\0\x0142\x32\x07\0\x01t\0\x0242");
        assert_eq!(wire.answer(&puback(1)[..3]).unwrap(), None);
        assert_eq!(wire.answer(&puback(1)).unwrap(), Some(Answer { len: 4, accepted: true }));
        assert!(wire.answer(&puback(3)).is_err());
    }

    #[test]
    fn what_the_server_sends_is_parsed() {
        let parsed = |input| parse(input).unwrap();
        assert_eq!(parsed(b"\x20\x02\0\0"), Some((4, Packet::ConnAck(0))));
        assert_eq!(parsed(b"\x90\x03\0\x01\x80"), Some((5, Packet::SubAck(0x80))));
        assert_eq!(
            parsed(b"\x32\x07\0\x01t\0\x0542"),
            Some((9, Packet::Publish { id: Some(5), topic: "t", payload: b"42" }))
        );
        assert_eq!(
            parsed(b"\x30\x05\0\x01t42"),
            Some((7, Packet::Publish { id: None, topic: "t", payload: b"42" }))
        );
        for incomplete in [&b""[..], b"\x30", b"\x30\x05\0\x01", b"\x30\x80"] {
            assert_eq!(parsed(incomplete), None);
        }
        for bad in [&b"\xe0\0"[..], b"\x32\x03\0\x05t", b"\x30\xff\xff\xff\xff\x01"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
