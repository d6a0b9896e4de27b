//! What a device is told: outcomes and kinds of failure as codes of MQTT 3.1.1 and 5.
//! [`crate::reason`] has the words for them.
//!
//! The matches on [`ErrorKind`] and [`End`] are exhaustive, so that a new kind must be given its codes here.

use common::error::ErrorKind;
use common::service::MessageKind;
use common::sessions::End;
use ntex_mqtt::QoS;
use ntex_mqtt::error::DecodeError;
use ntex_mqtt::{v3, v5};

use crate::messages::Receipt;
use crate::packet::Version;

/// Why a CONNECT is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The packet cannot be read.
    Malformed,
    /// The client id is too long, or may not be left to the server.
    ClientId,
    /// There is no exchange of AUTH packets.
    EnhancedAuth,
    /// The will asks for QoS 2.
    WillQos,
    /// The login failed, or the will is no telemetry.
    Failed(ErrorKind),
}

impl Refusal {
    /// Returns the return code of 3.1.1's CONNACK (section 3.2.2.3). Without one the connection closes at once.
    pub(crate) fn v3(self) -> Option<v3::codec::ConnectAckReason> {
        use v3::codec::ConnectAckReason as Code;
        Some(match self {
            Self::ClientId => Code::IdentifierRejected,
            Self::Malformed | Self::EnhancedAuth | Self::WillQos => return None,
            Self::Failed(kind) => match kind {
                ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Internal => {
                    Code::ServiceUnavailable
                }
                ErrorKind::Invalid
                | ErrorKind::Reserved
                | ErrorKind::Unauthenticated
                | ErrorKind::Forbidden
                | ErrorKind::NotFound
                | ErrorKind::Conflict
                | ErrorKind::Gone
                | ErrorKind::TooLarge => Code::NotAuthorized,
            },
        })
    }

    /// Returns the reason code of 5's CONNACK (section 3.2.2.2).
    pub(crate) fn v5(self) -> v5::codec::ConnectAckReason {
        use v5::codec::ConnectAckReason as Code;
        match self {
            Self::Malformed => Code::MalformedPacket,
            Self::ClientId => Code::ClientIdentifierNotValid,
            Self::EnhancedAuth => Code::BadAuthenticationMethod,
            Self::WillQos => Code::QosNotSupported,
            Self::Failed(kind) => match kind {
                ErrorKind::Invalid => Code::TopicNameInvalid,
                ErrorKind::Reserved | ErrorKind::Forbidden => Code::NotAuthorized,
                ErrorKind::Unauthenticated | ErrorKind::NotFound => Code::BadUserNameOrPassword,
                ErrorKind::Conflict | ErrorKind::Gone => Code::UnspecifiedError,
                ErrorKind::TooLarge => Code::PacketTooLarge,
                ErrorKind::Overloaded => Code::QuotaExceeded,
                ErrorKind::Unavailable => Code::ServerUnavailable,
                ErrorKind::Internal => Code::ImplementationSpecificError,
            },
        }
    }
}

/// Why the server ends a session. Only MQTT 5 can be told; 3.1.1 sees the connection close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// A packet cannot be read.
    Malformed,
    /// A packet is out of place.
    ProtocolError,
    /// A packet is longer than may be.
    PacketTooLarge,
    /// An answer is longer than the device takes.
    AnswerTooLarge,
    /// More messages are in flight than Receive Maximum.
    ReceiveMaximumExceeded,
    /// A topic alias is unknown or above the maximum.
    TopicAliasInvalid,
    /// A PUBLISH at QoS 2.
    QosNotSupported,
    /// Nothing was heard for one and a half times the keep-alive.
    KeepAliveTimeout,
    /// The device acknowledges no commands any more.
    NoAcknowledgement,
    /// Telemetry or a reply was refused.
    Message(MessageKind, ErrorKind),
    /// The session was ended from elsewhere.
    Session(End),
}

impl From<DecodeError> for Goodbye {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::MaxSizeExceeded { .. } => Self::PacketTooLarge,
            DecodeError::UnsupportedPacketType | DecodeError::UnexpectedPayload => Self::ProtocolError,
            DecodeError::InvalidProtocol
            | DecodeError::InvalidLength
            | DecodeError::MalformedPacket
            | DecodeError::UnsupportedProtocolLevel
            | DecodeError::ConnectReservedFlagSet
            | DecodeError::ConnAckReservedFlagSet
            | DecodeError::InvalidClientId
            | DecodeError::PacketIdRequired
            | DecodeError::Utf8Error => Self::Malformed,
        }
    }
}

impl Goodbye {
    /// Returns the reason code of 5's DISCONNECT (section 3.14.2.1).
    pub(crate) fn v5(self) -> v5::codec::DisconnectReasonCode {
        use v5::codec::DisconnectReasonCode as Code;
        match self {
            Self::Malformed => Code::MalformedPacket,
            Self::ProtocolError => Code::ProtocolError,
            Self::PacketTooLarge | Self::AnswerTooLarge => Code::PacketTooLarge,
            Self::ReceiveMaximumExceeded => Code::ReceiveMaximumExceeded,
            Self::TopicAliasInvalid => Code::TopicAliasInvalid,
            Self::QosNotSupported => Code::QosNotSupported,
            Self::KeepAliveTimeout => Code::KeepAliveTimeout,
            Self::NoAcknowledgement => Code::ImplementationSpecificError,
            Self::Message(_, kind) => match kind {
                ErrorKind::Invalid => Code::TopicNameInvalid,
                ErrorKind::Reserved | ErrorKind::Unauthenticated | ErrorKind::Forbidden => {
                    Code::NotAuthorized
                }
                ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Gone | ErrorKind::Unavailable => {
                    Code::UnspecifiedError
                }
                ErrorKind::TooLarge => Code::PacketTooLarge,
                ErrorKind::Overloaded => Code::QuotaExceeded,
                ErrorKind::Internal => Code::ImplementationSpecificError,
            },
            Self::Session(end) => match end {
                End::TakenOver => Code::SessionTakenOver,
                End::Revoked => Code::NotAuthorized,
                End::Shutdown => Code::ServerShuttingDown,
                End::Interrupted => Code::UnspecifiedError,
            },
        }
    }
}

/// What follows a PUBLISH that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// PUBACK, which says so in MQTT 5.
    Acknowledge,
    /// Nothing: at QoS 0 a message may be lost for want of capacity. It is counted.
    Nothing,
    /// The session ends.
    End(Goodbye),
}

/// Decides what follows a PUBLISH that failed. 3.1.1 has no PUBACK that says no, and QoS 0 has none at all.
pub(crate) fn after_failure(version: Version, receipt: Receipt, kind: ErrorKind) -> AfterFailure {
    let (qos, end) = (receipt.qos, AfterFailure::End(Goodbye::Message(receipt.kind, kind)));
    match kind {
        ErrorKind::TooLarge => end,
        ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Internal => match (qos, version) {
            (QoS::AtMostOnce, _) => AfterFailure::Nothing,
            (QoS::AtLeastOnce | QoS::ExactlyOnce, Version::V3) => end,
            (QoS::AtLeastOnce | QoS::ExactlyOnce, Version::V5) => AfterFailure::Acknowledge,
        },
        // A reply that is not, or no longer, waited for is no fault of the session: it is dropped and counted.
        ErrorKind::NotFound | ErrorKind::Conflict => match qos {
            QoS::AtMostOnce => AfterFailure::Nothing,
            QoS::AtLeastOnce | QoS::ExactlyOnce => AfterFailure::Acknowledge,
        },
        ErrorKind::Invalid
        | ErrorKind::Reserved
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::Gone => match (qos, version) {
            (QoS::AtLeastOnce | QoS::ExactlyOnce, Version::V5) => AfterFailure::Acknowledge,
            (QoS::AtMostOnce, _) | (_, Version::V3) => end,
        },
    }
}

/// Returns the reason code of 5's PUBACK (section 3.4.2.1).
pub(crate) fn puback(result: Result<(), ErrorKind>) -> v5::codec::PublishAckReason {
    use v5::codec::PublishAckReason as Code;
    let Err(kind) = result else { return Code::Success };
    match kind {
        ErrorKind::Invalid => Code::TopicNameInvalid,
        // Who may not reply to a command is not told whether there is one.
        ErrorKind::Reserved | ErrorKind::Unauthenticated | ErrorKind::Forbidden | ErrorKind::NotFound => {
            Code::NotAuthorized
        }
        ErrorKind::TooLarge | ErrorKind::Overloaded => Code::QuotaExceeded,
        ErrorKind::Gone | ErrorKind::Unavailable => Code::UnspecifiedError,
        // In the words of the specification: valid, but the receiver is not willing to accept it.
        ErrorKind::Conflict | ErrorKind::Internal => Code::ImplementationSpecificError,
    }
}

/// What became of one filter of a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Granted {
    /// Commands come at this QoS.
    At(QoS),
    /// Only commands can be subscribed to.
    NotAllowed,
    /// There are no shared subscriptions.
    Shared,
    /// There are no subscription identifiers.
    Identified,
    /// The connection could not be registered.
    Failed(ErrorKind),
}

impl Granted {
    /// Returns the return code of 3.1.1's SUBACK (section 3.9.3).
    pub(crate) fn v3(self) -> v3::codec::SubscribeReturnCode {
        match self {
            Self::At(qos) => v3::codec::SubscribeReturnCode::Success(qos),
            Self::NotAllowed | Self::Shared | Self::Identified | Self::Failed(_) => {
                v3::codec::SubscribeReturnCode::Failure
            }
        }
    }

    /// Returns the reason code of 5's SUBACK (section 3.9.3).
    pub(crate) fn v5(self) -> v5::codec::SubscribeAckReason {
        use v5::codec::SubscribeAckReason as Code;
        match self {
            Self::At(QoS::AtMostOnce) => Code::GrantedQos0,
            Self::At(QoS::AtLeastOnce | QoS::ExactlyOnce) => Code::GrantedQos1,
            Self::NotAllowed => Code::NotAuthorized,
            Self::Shared => Code::SharedSubscriptionNotSupported,
            Self::Identified => Code::SubscriptionIdentifiersNotSupported,
            Self::Failed(kind) => match kind {
                ErrorKind::Overloaded => Code::QuotaExceeded,
                ErrorKind::Unauthenticated | ErrorKind::Forbidden | ErrorKind::Reserved => {
                    Code::NotAuthorized
                }
                ErrorKind::Invalid
                | ErrorKind::NotFound
                | ErrorKind::Conflict
                | ErrorKind::Gone
                | ErrorKind::TooLarge
                | ErrorKind::Unavailable => Code::UnspecifiedError,
                ErrorKind::Internal => Code::ImplementationSpecificError,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_codes_of_the_interface() {
        let codes = |refusal: Refusal| (refusal.v3().map(u8::from), u8::from(refusal.v5()));
        assert_eq!(codes(Refusal::Failed(ErrorKind::Unauthenticated)), (Some(5), 0x86));
        assert_eq!(codes(Refusal::Failed(ErrorKind::Overloaded)), (Some(3), 0x97));
        assert_eq!(codes(Refusal::Failed(ErrorKind::Unavailable)), (Some(3), 0x88));
        assert_eq!(codes(Refusal::ClientId), (Some(2), 0x85));
        assert_eq!(codes(Refusal::WillQos), (None, 0x9b));
        assert_eq!(codes(Refusal::Malformed), (None, 0x81));
    }

    #[test]
    fn failed_messages_have_the_codes_of_the_interface() {
        let code = |kind| u8::from(puback(Err(kind)));
        assert_eq!(code(ErrorKind::Invalid), 0x90);
        assert_eq!(code(ErrorKind::Reserved), 0x87);
        assert_eq!(code(ErrorKind::Overloaded), 0x97);
        assert_eq!(code(ErrorKind::Unavailable), 0x80);
        assert_eq!(code(ErrorKind::NotFound), 0x87);
        assert_eq!(code(ErrorKind::Conflict), 0x83);
        let goodbye = |kind| u8::from(Goodbye::Message(MessageKind::Telemetry, kind).v5());
        assert_eq!(goodbye(ErrorKind::TooLarge), 0x95);
        assert_eq!(goodbye(ErrorKind::Invalid), 0x90);
    }

    #[test]
    fn only_mqtt_5_at_qos_1_is_told_in_a_puback() {
        let kind = MessageKind::Telemetry;
        let after_error =
            |version, qos, error| after_failure(version, Receipt { kind, qos, id: None }, error);
        let after = |version, qos| after_error(version, qos, ErrorKind::Invalid);
        let end = AfterFailure::End(Goodbye::Message(kind, ErrorKind::Invalid));
        assert_eq!(after(Version::V5, QoS::AtLeastOnce), AfterFailure::Acknowledge);
        assert_eq!(after(Version::V5, QoS::AtMostOnce), end);
        assert_eq!(after(Version::V3, QoS::AtLeastOnce), end);
        let lost = after_error(Version::V3, QoS::AtMostOnce, ErrorKind::Overloaded);
        assert_eq!(lost, AfterFailure::Nothing);
    }

    #[test]
    fn an_ended_session_is_told_why() {
        let code = |end| u8::from(Goodbye::Session(end).v5());
        let ends = [End::TakenOver, End::Revoked, End::Shutdown, End::Interrupted];
        assert_eq!(ends.map(code), [0x8e, 0x87, 0x8b, 0x80]);
    }
}
