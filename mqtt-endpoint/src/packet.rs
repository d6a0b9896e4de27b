//! Packets as the session knows them, whatever the version of the protocol.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use common::command::Command;
use common::error::ErrorKind;
use common::service::MessageKind;
use ntex::util::ByteString;
use ntex_mqtt::QoS;

use crate::reply::{Goodbye, Granted, Refusal};

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

/// What a device sends.
pub(crate) enum Inbound {
    Connect(Box<Connect>),
    Publish(Publish),
    /// PUBACK; `accepted` is false where the device said that it refuses the command.
    Acknowledge {
        id: NonZeroU16,
        accepted: bool,
    },
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    Ping,
    /// DISCONNECT; `will` says that the will is to be published nevertheless.
    Disconnect {
        will: bool,
    },
    /// A packet that breaks the protocol where it stands.
    Violation(Goodbye),
}

impl fmt::Debug for Inbound {
    /// Names the kind of the packet only: what devices send is not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect(_) => "CONNECT",
            Self::Publish(_) => "PUBLISH",
            Self::Acknowledge { .. } => "PUBACK",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::Ping => "PINGREQ",
            Self::Disconnect { .. } => "DISCONNECT",
            Self::Violation(_) => "violation",
        })
    }
}

/// CONNECT.
pub(crate) struct Connect {
    pub(crate) client_id: ByteString,
    pub(crate) user: Option<ByteString>,
    pub(crate) password: Option<ntex::util::Bytes>,
    /// Seconds; 0 asks for none.
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<Publish>,
    /// How many PUBLISH packets at QoS 1 the device takes at once.
    pub(crate) receive_maximum: u16,
    /// Whether the device wants an exchange of AUTH packets, which there is not.
    pub(crate) enhanced_auth: bool,
}

/// PUBLISH, or a will.
pub(crate) struct Publish {
    pub(crate) qos: QoS,
    pub(crate) id: Option<NonZeroU16>,
    pub(crate) topic: ByteString,
    pub(crate) alias: Option<NonZeroU16>,
    pub(crate) content_type: Option<String>,
    pub(crate) traceparent: Option<String>,
    /// Correlation data, in MQTT 5: the id of the command that is replied to.
    pub(crate) correlation: Option<ntex::util::Bytes>,
    /// The user property of MQTT 5 with the status of a reply.
    pub(crate) status: Option<ByteString>,
    pub(crate) payload: Bytes,
}

/// SUBSCRIBE.
pub(crate) struct Subscribe {
    pub(crate) id: NonZeroU16,
    pub(crate) filters: Vec<(ByteString, QoS)>,
    /// Whether the packet has a subscription identifier.
    pub(crate) identified: bool,
}

/// UNSUBSCRIBE.
pub(crate) struct Unsubscribe {
    pub(crate) id: NonZeroU16,
    pub(crate) filters: Vec<ByteString>,
}

/// What a device is sent.
pub(crate) enum Outbound {
    Accept(Accept),
    Refuse(Refusal),
    /// PUBACK. A failure can be told in MQTT 5 only.
    Acknowledge {
        id: NonZeroU16,
        kind: MessageKind,
        result: Result<(), ErrorKind>,
    },
    SubAck {
        id: NonZeroU16,
        granted: Vec<Granted>,
    },
    /// UNSUBACK, with whether each filter was subscribed to.
    UnsubAck {
        id: NonZeroU16,
        existed: Vec<bool>,
    },
    Pong,
    Command(Box<CommandPublish>),
    /// DISCONNECT, which the server says in MQTT 5 only.
    Disconnect(Goodbye),
}

/// CONNACK of a session.
pub(crate) struct Accept {
    /// The client id, where the device left it to the server.
    pub(crate) assigned_client_id: Option<ByteString>,
    /// Seconds, where it is not what the device asked for.
    pub(crate) keep_alive: Option<u16>,
    pub(crate) receive_maximum: NonZeroU16,
    pub(crate) max_packet_size: u32,
    pub(crate) topic_aliases: u16,
}

/// A command on its way to the device.
pub(crate) struct CommandPublish {
    /// Set at QoS 1.
    pub(crate) id: Option<NonZeroU16>,
    /// Whether the topic names the command.
    pub(crate) named: bool,
    pub(crate) command: Command,
    /// The rest of the command's life in seconds.
    pub(crate) expiry: NonZeroU32,
}
