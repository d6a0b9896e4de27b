//! The packets of MQTT 5.

use std::num::NonZeroU16;

use common::event::extension::{STATUS, TRACEPARENT};
use ntex::util::{ByteString, Bytes};
use ntex_mqtt::QoS;
use ntex_mqtt::v5::codec::{
    Connect, ConnectAck, ConnectAckReason, Decoded, Disconnect, DisconnectReasonCode, Encoded, LastWill,
    Packet, Publish, PublishAck, PublishProperties, SubscribeAck, UnsubscribeAck, UnsubscribeAckReason,
    UserProperties,
};

use crate::packet::{self, Inbound, Outbound};
use crate::reply::{Goodbye, Granted, puback};
use crate::wire::{CommandFields, to_bytes};
use crate::{reason, replies};

/// The user property that holds a command's name.
const COMMAND: ByteString = ByteString::from_static("command");
/// The user property that holds a command's id.
const COMMAND_ID: ByteString = ByteString::from_static("command-id");
/// From this reason code on a packet says that something failed.
const FAILURE: u8 = 0x80;

/// Translates what a device sent.
pub(crate) fn inbound(decoded: Decoded) -> Inbound {
    match decoded {
        Decoded::Publish(publish, payload, _) => {
            // [MQTT-3.3.4-6]: a subscription identifier is the server's to send.
            if !publish.properties.subscription_ids.is_empty() {
                return Inbound::Violation(Goodbye::ProtocolError);
            }
            Inbound::Publish(self::publish(publish, &payload))
        }
        Decoded::Packet(packet, _) => match packet {
            Packet::Connect(connect) => Inbound::Connect(Box::new(self::connect(*connect))),
            Packet::PublishAck(ack) => {
                Inbound::Acknowledge { id: ack.packet_id, accepted: u8::from(ack.reason_code) < FAILURE }
            }
            Packet::Subscribe(subscribe) => Inbound::Subscribe(packet::Subscribe {
                id: subscribe.packet_id,
                filters: subscribe.topic_filters.into_iter().map(|(topic, o)| (topic, o.qos)).collect(),
                identified: subscribe.id.is_some(),
            }),
            Packet::Unsubscribe(unsubscribe) => Inbound::Unsubscribe(packet::Unsubscribe {
                id: unsubscribe.packet_id,
                filters: unsubscribe.topic_filters,
            }),
            Packet::PingRequest => Inbound::Ping,
            Packet::Disconnect(disconnect) => {
                let will = disconnect.reason_code != DisconnectReasonCode::NormalDisconnection;
                Inbound::Disconnect { will }
            }
            Packet::ConnectAck(_)
            | Packet::PublishReceived(_)
            | Packet::PublishRelease(_)
            | Packet::PublishComplete(_)
            | Packet::SubscribeAck(_)
            | Packet::UnsubscribeAck(_)
            | Packet::PingResponse
            | Packet::Auth(_) => Inbound::Violation(Goodbye::ProtocolError),
        },
        Decoded::PayloadChunk(..) => Inbound::Violation(Goodbye::ProtocolError),
    }
}

/// Returns the longest packet that the device takes, where this is a CONNECT that says so.
pub(crate) fn outbound_limit(decoded: &Decoded) -> Option<u32> {
    let Decoded::Packet(Packet::Connect(connect), _) = decoded else { return None };
    connect.max_packet_size.map(Into::into)
}

fn connect(connect: Connect) -> packet::Connect {
    packet::Connect {
        client_id: connect.client_id,
        user: connect.username,
        password: connect.password,
        keep_alive: connect.keep_alive,
        will: connect.last_will.map(will),
        receive_maximum: connect.receive_max.map_or(u16::MAX, Into::into),
        enhanced_auth: connect.auth_method.is_some(),
    }
}

fn will(will: LastWill) -> packet::Publish {
    message(will.qos, will.topic, will.content_type, &will.user_properties, &will.message)
}

fn publish(publish: Publish, payload: &Bytes) -> packet::Publish {
    let PublishProperties { topic_alias, content_type, user_properties, correlation_data, .. } =
        publish.properties;
    packet::Publish {
        id: publish.packet_id,
        alias: topic_alias,
        correlation: correlation_data,
        status: user_property(&user_properties, STATUS).cloned(),
        ..message(publish.qos, publish.topic, content_type, &user_properties, payload)
    }
}

fn message(
    qos: QoS,
    topic: ByteString,
    content_type: Option<ByteString>,
    properties: &UserProperties,
    payload: &Bytes,
) -> packet::Publish {
    let traceparent = user_property(properties, TRACEPARENT);
    packet::Publish {
        qos,
        id: None,
        topic,
        alias: None,
        content_type: content_type.map(|text| text.as_str().to_owned()),
        traceparent: traceparent.map(|value| value.as_str().to_owned()),
        correlation: None,
        status: None,
        payload: to_bytes(payload),
    }
}

/// Returns the first user property of a name.
fn user_property<'a>(properties: &'a UserProperties, name: &str) -> Option<&'a ByteString> {
    properties.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
}

/// Translates what a device is sent.
///
/// The codec leaves out reason strings that the device did not ask for (section 3.1.2.11.7), or that make the packet
/// longer than it takes (section 3.1.2.11.4).
pub(crate) fn outbound(packet: Outbound) -> Encoded {
    let packet = match packet {
        Outbound::Accept(accept) => self::accept(accept).into(),
        Outbound::Refuse(refusal) => {
            let reason_string = Some(ByteString::from_static(refusal.reason()));
            ConnectAck { reason_string, ..connack(refusal.v5()) }.into()
        }
        Outbound::Acknowledge { id, kind, result } => {
            let reason = result.err().map(|error| reason::message(kind, error));
            let reason_string = reason.map(ByteString::from_static);
            let reason_code = puback(result);
            PublishAck { packet_id: id, reason_code, reason_string, ..PublishAck::default() }.into()
        }
        Outbound::SubAck { id, granted } => suback(id, &granted),
        Outbound::UnsubAck { id, existed } => Packet::UnsubscribeAck(UnsubscribeAck {
            packet_id: id,
            properties: UserProperties::new(),
            reason_string: None,
            status: existed.into_iter().map(unsubscribed).collect(),
        }),
        Outbound::Pong => Packet::PingResponse,
        Outbound::Command(publish) => return command(*publish),
        Outbound::Disconnect(goodbye) => {
            let reason_string = ByteString::from_static(goodbye.reason());
            Disconnect::new(goodbye.v5()).reason_string(Some(reason_string)).into()
        }
    };
    Encoded::Packet(packet)
}

/// Answers SUBSCRIBE. There is one reason string for all filters: that of the first that was refused.
fn suback(id: NonZeroU16, granted: &[Granted]) -> Packet {
    let reason = granted.iter().find_map(|granted| granted.reason());
    Packet::SubscribeAck(SubscribeAck {
        packet_id: id,
        properties: UserProperties::new(),
        reason_string: reason.map(ByteString::from_static),
        status: granted.iter().map(|granted| granted.v5()).collect(),
    })
}

fn unsubscribed(existed: bool) -> UnsubscribeAckReason {
    match existed {
        true => UnsubscribeAckReason::Success,
        false => UnsubscribeAckReason::NoSubscriptionExisted,
    }
}

fn connack(reason_code: ConnectAckReason) -> ConnectAck {
    ConnectAck { reason_code, ..ConnectAck::default() }
}

/// Says in the protocol's own words what this server is not (section 3.2.2.3).
fn accept(accept: packet::Accept) -> ConnectAck {
    ConnectAck {
        session_expiry_interval_secs: Some(0),
        receive_max: accept.receive_maximum,
        max_qos: QoS::AtLeastOnce,
        max_packet_size: Some(accept.max_packet_size),
        assigned_client_id: accept.assigned_client_id,
        topic_alias_max: accept.topic_aliases,
        retain_available: false,
        subscription_identifiers_available: false,
        shared_subscription_available: false,
        server_keepalive_sec: accept.keep_alive,
        ..connack(ConnectAckReason::Success)
    }
}

fn command(publish: packet::CommandPublish) -> Encoded {
    let CommandFields { qos, topic, payload, name, id } = CommandFields::new(&publish);
    let properties = PublishProperties {
        message_expiry_interval: Some(publish.expiry),
        content_type: Some(publish.command.content_type.into()),
        response_topic: Some(replies::response_topic(&publish.command.id).into()),
        correlation_data: Some(id.clone().into_bytes()),
        user_properties: vec![(COMMAND, name), (COMMAND_ID, id)],
        ..PublishProperties::default()
    };
    let payload_size = payload.len() as u32;
    let packet_id = publish.id;
    let publish = Publish { dup: false, retain: false, qos, packet_id, topic, payload_size, properties };
    Encoded::Publish(publish, Some(payload))
}
