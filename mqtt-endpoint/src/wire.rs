//! The codec of a connection: one for both versions.

use std::fmt;

use bytes::Bytes;
use ntex::codec::{Decoder, Encoder};
use ntex::util::{BytePages, ByteString, BytesMut};
use ntex_mqtt::QoS;
use ntex_mqtt::error::EncodeError;

use crate::packet::{CommandPublish, Inbound, Outbound, Version};
use crate::reply::Goodbye;
use crate::{frame, v3, v5};

/// Reads and writes the packets of one connection.
pub(crate) struct Wire {
    codec: Codec,
    /// The longest packet that the device may send, in bytes.
    limit: u32,
}

enum Codec {
    V3(ntex_mqtt::v3::codec::Codec),
    V5(ntex_mqtt::v5::codec::Codec),
}

impl Wire {
    /// Makes the codec of a version, for packets of at most `limit` bytes.
    pub(crate) fn new(version: Version, limit: u32) -> Self {
        let codec = match version {
            Version::V3 => Codec::V3(ntex_mqtt::v3::codec::Codec::new()),
            Version::V5 => Codec::V5(ntex_mqtt::v5::codec::Codec::new()),
        };
        Self { codec, limit }
    }

    /// Changes the limit: CONNECT has one of its own.
    pub(crate) fn limit_to(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Returns the version.
    pub(crate) fn version(&self) -> Version {
        match &self.codec {
            Codec::V3(_) => Version::V3,
            Codec::V5(_) => Version::V5,
        }
    }
}

impl Decoder for Wire {
    type Item = Inbound;
    type Error = Goodbye;

    fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Inbound>, Goodbye> {
        if !frame::is_complete(buffer, self.limit, self.version())? {
            return Ok(None);
        }
        match &self.codec {
            Codec::V3(codec) => Ok(codec.decode(buffer)?.map(v3::inbound)),
            Codec::V5(codec) => {
                let Some(decoded) = codec.decode(buffer)? else { return Ok(None) };
                if let Some(size) = v5::outbound_limit(&decoded) {
                    codec.set_max_outbound_size(size);
                }
                Ok(Some(v5::inbound(decoded)))
            }
        }
    }
}

impl Encoder for Wire {
    type Item = Outbound;
    type Error = EncodeError;

    fn encodev(&self, packet: Outbound, buffer: &mut BytePages) -> Result<(), EncodeError> {
        match &self.codec {
            Codec::V3(codec) => v3::outbound(packet).map_or(Ok(()), |packet| codec.encodev(packet, buffer)),
            Codec::V5(codec) => codec.encodev(v5::outbound(packet), buffer),
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("version", &self.version()).finish_non_exhaustive()
    }
}

/// What the PUBLISH of a command says in either version.
pub(crate) struct CommandFields {
    pub(crate) qos: QoS,
    pub(crate) topic: ByteString,
    pub(crate) payload: ntex::util::Bytes,
    pub(crate) name: ByteString,
    pub(crate) id: ByteString,
}

impl CommandFields {
    pub(crate) fn new(publish: &CommandPublish) -> Self {
        let command = &publish.command;
        let (name, id) = (command.name.as_str(), command.id.as_str());
        Self {
            qos: if publish.id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce },
            topic: match publish.named {
                true => format!("cmd/{name}/{id}").into(),
                false => ByteString::from_static("cmd"),
            },
            payload: ntex::util::Bytes::copy_from_slice(&command.payload),
            name: name.into(),
            id: id.into(),
        }
    }
}

/// Copies what a device sent out of the connection's buffer, which would else live as long as the message.
pub(crate) fn to_bytes(payload: &ntex::util::Bytes) -> Bytes {
    Bytes::copy_from_slice(payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_codec_panic(first: u8, body in prop::collection::vec(any::<u8>(), 0..120)) {
            for version in [Version::V3, Version::V5] {
                let wire = Wire::new(version, 1000);
                let mut buffer = BytesMut::copy_from_slice([&[first, body.len() as u8], body.as_slice()].concat());
                while let Ok(Some(_)) = wire.decode(&mut buffer) {}
            }
        }

        #[test]
        fn no_connect_makes_the_codec_panic(level in 4_u8..=5, body in prop::collection::vec(any::<u8>(), 0..110)) {
            let version = if level == 4 { Version::V3 } else { Version::V5 };
            let head = [0x10, body.len() as u8 + 7, 0, 4, b'M', b'Q', b'T', b'T', level];
            let mut buffer = BytesMut::copy_from_slice([&head, body.as_slice()].concat());
            drop(Wire::new(version, 1000).decode(&mut buffer));
        }
    }
}
