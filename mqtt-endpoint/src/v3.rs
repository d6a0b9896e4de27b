//! The packets of MQTT 3.1.1.

use ntex::util::{ByteString, Bytes};
use ntex_mqtt::QoS;
use ntex_mqtt::v3::codec::{
    Connect, ConnectAck, ConnectAckReason, Decoded, Encoded, LastWill, Packet, Publish,
};

use crate::packet::{self, Inbound, Outbound};
use crate::reply::Goodbye;
use crate::wire::{CommandFields, to_bytes};

/// Translates what a device sent.
pub(crate) fn inbound(decoded: Decoded) -> Inbound {
    match decoded {
        Decoded::Publish(publish, payload, _) => Inbound::Publish(self::publish(publish, &payload)),
        Decoded::Packet(packet, _) => match packet {
            Packet::Connect(connect) => Inbound::Connect(Box::new(self::connect(*connect))),
            Packet::PublishAck { packet_id } => Inbound::Acknowledge { id: packet_id, accepted: true },
            Packet::Subscribe { packet_id, topic_filters } => Inbound::Subscribe(packet::Subscribe {
                id: packet_id,
                filters: topic_filters,
                identified: false,
            }),
            Packet::Unsubscribe { packet_id, topic_filters } => {
                Inbound::Unsubscribe(packet::Unsubscribe { id: packet_id, filters: topic_filters })
            }
            Packet::PingRequest => Inbound::Ping,
            Packet::Disconnect => Inbound::Disconnect { will: false },
            Packet::ConnectAck(_)
            | Packet::PublishReceived { .. }
            | Packet::PublishRelease { .. }
            | Packet::PublishComplete { .. }
            | Packet::SubscribeAck { .. }
            | Packet::UnsubscribeAck { .. }
            | Packet::PingResponse => Inbound::Violation(Goodbye::ProtocolError),
        },
        Decoded::PayloadChunk(..) => Inbound::Violation(Goodbye::ProtocolError),
    }
}

fn connect(connect: Connect) -> packet::Connect {
    packet::Connect {
        client_id: connect.client_id,
        user: connect.username,
        password: connect.password,
        keep_alive: connect.keep_alive,
        will: connect.last_will.map(will),
        receive_maximum: u16::MAX,
        enhanced_auth: false,
    }
}

fn will(will: LastWill) -> packet::Publish {
    message(will.qos, will.topic, &will.message)
}

fn publish(publish: Publish, payload: &Bytes) -> packet::Publish {
    packet::Publish { id: publish.packet_id, ..message(publish.qos, publish.topic, payload) }
}

fn message(qos: QoS, topic: ByteString, payload: &Bytes) -> packet::Publish {
    packet::Publish {
        qos,
        id: None,
        topic,
        alias: None,
        content_type: None,
        traceparent: None,
        correlation: None,
        status: None,
        payload: to_bytes(payload),
    }
}

/// Translates what a device is sent. Returns `None` for what 3.1.1 has no words for.
pub(crate) fn outbound(packet: Outbound) -> Option<Encoded> {
    let packet = match packet {
        Outbound::Accept(_) => connack(ConnectAckReason::ConnectionAccepted),
        Outbound::Refuse(refusal) => connack(refusal.v3()?),
        // It has one word, also for what is dropped.
        Outbound::Acknowledge { id, .. } => Packet::PublishAck { packet_id: id },
        Outbound::Disconnect(_) => return None,
        Outbound::SubAck { id, granted } => Packet::SubscribeAck {
            packet_id: id,
            status: granted.into_iter().map(crate::reply::Granted::v3).collect(),
        },
        Outbound::UnsubAck { id, .. } => Packet::UnsubscribeAck { packet_id: id },
        Outbound::Pong => Packet::PingResponse,
        Outbound::Command(publish) => return Some(command(&publish)),
    };
    Some(Encoded::Packet(packet))
}

fn connack(return_code: ConnectAckReason) -> Packet {
    Packet::ConnectAck(ConnectAck { return_code, session_present: false })
}

fn command(publish: &packet::CommandPublish) -> Encoded {
    let CommandFields { qos, topic, payload, .. } = CommandFields::new(publish);
    let payload_size = payload.len() as u32;
    let publish = Publish { dup: false, retain: false, qos, topic, packet_id: publish.id, payload_size };
    Encoded::Publish(publish, Some(payload))
}

/// CONNACK with return code 1, for versions that are not spoken here (section 3.1.2.2).
pub(crate) const UNACCEPTABLE_VERSION: [u8; 4] = [0x20, 2, 0, 1];
