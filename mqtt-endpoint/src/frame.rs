//! Guards the codecs: only whole packets reach them, and only such whose inner lengths fit.
//!
//! ntex-mqtt's codecs reserve the length that a packet announces, hand out payloads in pieces, and subtract the length
//! of a PUBLISH's head from that of the packet unchecked. Behind this guard none of it happens: a buffer grows by what
//! has come, and not beyond the limit. Reserved bits that they pass over are refused here too.

use crate::packet::Version;
use crate::reply::Goodbye;

/// The first byte of CONNECT.
const CONNECT: u8 = 0x10;

/// The types of the packets that are looked into, as the upper half of the first byte has them.
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;

/// The longest CONNECT: one will of the greatest length, and names.
const MAX_CONNECT: u32 = 72 * 1024;

/// Tells whether a whole packet is in the buffer.
///
/// # Errors
/// Fails if the packet is longer than `limit` or cannot be read, as soon as that shows.
pub(crate) fn is_complete(buffer: &[u8], limit: u32, version: Version) -> Result<bool, Goodbye> {
    let Some((&first, rest)) = buffer.split_first() else { return Ok(false) };
    let Some((length, size)) = variable_length(rest)? else { return Ok(false) };
    if 1 + size + length as usize > limit as usize {
        return Err(Goodbye::PacketTooLarge);
    }
    let Some(body) = rest[size..].get(..length as usize) else { return Ok(false) };
    match first >> 4 {
        PUBLISH => check_publish(first, body, version)?,
        SUBSCRIBE => check_subscribe(body, version)?,
        _ => {}
    }
    Ok(true)
}

/// Reads a variable byte integer (section 1.5.5) and its size. Returns `None` if it is cut off.
fn variable_length(bytes: &[u8]) -> Result<Option<(u32, usize)>, Goodbye> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Goodbye::Malformed) }
}

/// Checks that topic, packet identifier and properties of a PUBLISH are within the packet.
fn check_publish(first: u8, body: &[u8], version: Version) -> Result<(), Goodbye> {
    let [high, low, ..] = *body else { return Err(Goodbye::Malformed) };
    let identifier = if first & 0b0110 == 0 { 0 } else { 2 };
    let head = 2 + usize::from(u16::from_be_bytes([high, low])) + identifier;
    let rest = body.get(head..).ok_or(Goodbye::Malformed)?;
    after_properties(rest, version).map(drop)
}

/// Checks that no filter of a SUBSCRIBE has reserved bits in its options (section 3.8.3): the codecs pass over them.
fn check_subscribe(body: &[u8], version: Version) -> Result<(), Goodbye> {
    let reserved = match version {
        Version::V3 => 0b1111_1100,
        Version::V5 => 0b1100_0000,
    };
    let mut rest = after_properties(body.get(2..).ok_or(Goodbye::Malformed)?, version)?;
    while let [high, low, filter @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let options = filter.get(length).ok_or(Goodbye::Malformed)?;
        if options & reserved != 0 {
            return Err(Goodbye::Malformed);
        }
        rest = &filter[length + 1..];
    }
    Ok(())
}

/// Returns what follows the properties that these bytes begin with, in MQTT 5.
fn after_properties(bytes: &[u8], version: Version) -> Result<&[u8], Goodbye> {
    match version {
        Version::V3 => Ok(bytes),
        Version::V5 => {
            let (length, size) = variable_length(bytes)?.ok_or(Goodbye::Malformed)?;
            bytes[size..].get(length as usize..).ok_or(Goodbye::Malformed)
        }
    }
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// A whole CONNECT of a version that is spoken here.
    Connect(Version),
    /// A CONNECT of another version.
    OtherVersion,
    /// No CONNECT, or one that is too long.
    NotMqtt,
}

/// Judges the first bytes of a connection. Returns `None` while too few have come.
pub(crate) fn opening(buffer: &[u8]) -> Option<Opening> {
    let (&first, rest) = buffer.split_first()?;
    if first != CONNECT {
        return Some(Opening::NotMqtt);
    }
    let (length, size) = match variable_length(rest) {
        Ok(found) => found?,
        Err(_) => return Some(Opening::NotMqtt),
    };
    if length > MAX_CONNECT {
        return Some(Opening::NotMqtt);
    }
    let body = &rest[size..];
    let version = match body.get(..7) {
        Some(b"\0\x04MQTT\x04") => Version::V3,
        Some(b"\0\x04MQTT\x05") => Version::V5,
        Some(b"\0\x06MQIsd") => return Some(Opening::OtherVersion),
        Some(head) if head.starts_with(b"\0\x04MQTT") => return Some(Opening::OtherVersion),
        Some(_) => return Some(Opening::NotMqtt),
        None if length < 7 => return Some(Opening::NotMqtt),
        None => return None,
    };
    (body.len() >= length as usize).then_some(Opening::Connect(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_complete_with_its_last_byte() {
        let publish = b"\x30\x05\0\x01ahi";
        for cut in 0..publish.len() {
            assert_eq!(is_complete(&publish[..cut], 100, Version::V3), Ok(false), "{cut}");
        }
        assert_eq!(is_complete(publish, 100, Version::V3), Ok(true));
    }

    #[test]
    fn a_length_above_the_limit_is_refused_at_once() {
        let promise = b"\x30\x80\x80\x80\x80";
        assert_eq!(is_complete(promise, 100, Version::V5), Err(Goodbye::Malformed));
        assert_eq!(is_complete(b"\x30\xff\xff\xff\x7f", 100, Version::V5), Err(Goodbye::PacketTooLarge));
        assert_eq!(is_complete(b"\x30\x63", 100, Version::V5), Err(Goodbye::PacketTooLarge));
        assert_eq!(is_complete(b"\x30\x62", 100, Version::V5), Ok(false));
    }

    #[test]
    fn the_head_of_a_publish_stays_within_the_packet() {
        for (packet, version) in [
            (b"\x30\x01\0".as_slice(), Version::V3),
            (b"\x30\x03\0\x02a", Version::V3),
            (b"\x32\x04\0\x01a\0", Version::V3),
            (b"\x30\x03\0\x01a", Version::V5),
            (b"\x30\x04\0\x01a\x01", Version::V5),
            (b"\x30\x05\0\x01a\x80\x80", Version::V5),
        ] {
            assert_eq!(is_complete(packet, 100, version), Err(Goodbye::Malformed), "{packet:x?}");
        }
        assert_eq!(is_complete(b"\x30\x04\0\x01a\0", 100, Version::V5), Ok(true));
    }

    #[test]
    fn reserved_bits_of_a_subscription_are_zero() {
        let subscribe = |version, options: [u8; 2]| {
            let [one, two] = options;
            let properties: &[u8] = if version == Version::V3 { &[] } else { &[2, 0x0b, 1] };
            let body = [&[0, 1], properties, &[0, 1, b'a', one, 0, 2, b'b', b'c', two]].concat();
            is_complete(&[&[0x82, body.len() as u8], body.as_slice()].concat(), 100, version)
        };
        assert_eq!(subscribe(Version::V3, [0, 2]), Ok(true));
        assert_eq!(subscribe(Version::V5, [0x2d, 0x1e]), Ok(true));
        for (version, reserved) in [
            (Version::V3, 4),
            (Version::V3, 8),
            (Version::V3, 0x80),
            (Version::V5, 0x40),
            (Version::V5, 0x80),
        ] {
            assert_eq!(subscribe(version, [1 | reserved, 0]), Err(Goodbye::Malformed), "{reserved:x}");
            assert_eq!(subscribe(version, [0, 1 | reserved]), Err(Goodbye::Malformed), "{reserved:x}");
        }
        for cut in [b"\x82\x01\0".as_slice(), b"\x82\x05\0\x01\0\x01a", b"\x82\x04\0\x01\0\x09"] {
            assert_eq!(is_complete(cut, 100, Version::V3), Err(Goodbye::Malformed), "{cut:x?}");
        }
        assert_eq!(is_complete(b"\x82\x04\0\x01\x02\0", 100, Version::V5), Err(Goodbye::Malformed));
    }

    #[test]
    fn a_connection_opens_with_connect() {
        let connect = b"\x10\x0d\0\x04MQTT\x05\x02\0\x1e\0\0\0";
        for cut in 0..connect.len() {
            assert_eq!(opening(&connect[..cut]), None, "{cut}");
        }
        assert_eq!(opening(connect), Some(Opening::Connect(Version::V5)));
        assert_eq!(opening(b"\x10\x0c\0\x04MQTT\x03"), Some(Opening::OtherVersion));
        assert_eq!(opening(b"\x10\x10\0\x06MQIsdp\x03"), Some(Opening::OtherVersion));
        let others =
            [b"GET / HTTP/1.1".as_slice(), b"\x30", b"\x10\x02\0\0", b"\x10\xff\xff\xff\x7f", b"\x16\x03"];
        for other in others {
            assert_eq!(opening(other), Some(Opening::NotMqtt), "{other:x?}");
        }
    }
}
