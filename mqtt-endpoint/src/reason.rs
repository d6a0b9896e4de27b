//! Reason strings of MQTT 5: what a person reads who looks for why a device was refused.
//!
//! A limit is named by the option that sets it. The texts say nothing that the device does not know. Like the codes in
//! [`crate::reply`] they are exhaustive, so that a new kind of failure must be given its own.

use common::error::ErrorKind;
use common::service::MessageKind;
use common::sessions::End;

use crate::reply::{Goodbye, Granted, Refusal};

impl Refusal {
    /// Returns the reason string of CONNACK (section 3.2.2.3.9).
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "the packet cannot be read",
            Self::ClientId => "the client id is longer than 256 bytes",
            Self::EnhancedAuth => "there is no enhanced authentication, use a user name and a password",
            Self::WillQos => "QoS 2 is not supported, ask for a will at QoS 0 or 1",
            Self::Failed(kind) => match kind {
                ErrorKind::Invalid => "the topic of the will is not one of telemetry",
                ErrorKind::Reserved => RESERVED,
                ErrorKind::Unauthenticated | ErrorKind::NotFound => {
                    "user name or password is wrong; the user name is device[@application]"
                }
                ErrorKind::Forbidden => "the device is not allowed to connect",
                ErrorKind::Conflict | ErrorKind::Gone => "the login failed",
                ErrorKind::TooLarge => "the will is too long (option --max-payload)",
                ErrorKind::Overloaded => {
                    "too many logins (option --max-pending-logins) or sessions (--max-device-connections)"
                }
                ErrorKind::Unavailable => {
                    "the login cannot be checked, or not within --login-timeout; try again later"
                }
                ErrorKind::Internal => INTERNAL,
            },
        }
    }
}

impl Goodbye {
    /// Returns the reason string of DISCONNECT (section 3.14.2.2.3).
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "a packet cannot be read",
            Self::ProtocolError => "a packet is out of place",
            Self::PacketTooLarge => "a packet is too long (option --mqtt-max-packet-size)",
            Self::AnswerTooLarge => "an answer is longer than the client's maximum packet size",
            Self::ReceiveMaximumExceeded => "too many messages are in flight (option --mqtt-max-in-flight)",
            Self::TopicAliasInvalid => {
                "the topic alias is not set, or above the maximum (option --mqtt-max-topic-aliases)"
            }
            Self::QosNotSupported => "QoS 2 is not supported, publish at QoS 0 or 1",
            Self::KeepAliveTimeout => {
                "nothing was heard for 1.5 times the keep alive (at most --mqtt-max-keep-alive)"
            }
            Self::NoAcknowledgement => "no command was acknowledged in time (option --mqtt-ack-timeout)",
            Self::Message(kind, error) => message(kind, error),
            Self::Session(end) => match end {
                End::TakenOver => "the device connected again with the same client id",
                End::Revoked => "the device was changed or deleted, log in again",
                End::Shutdown => "the server shuts down, try again later",
                End::Interrupted => "commands may have been missed, connect again",
            },
        }
    }
}

impl Granted {
    /// Returns the reason string of a SUBACK with this code (section 3.9.2.1.2).
    pub(crate) fn reason(self) -> Option<&'static str> {
        Some(match self {
            Self::At(_) => return None,
            Self::NotAllowed => "only commands can be subscribed to, by the filters cmd and cmd/#",
            Self::Shared => "there are no shared subscriptions",
            Self::Identified => "there are no subscription identifiers",
            Self::Failed(kind) => match kind {
                ErrorKind::Overloaded => {
                    "the device has too many connections (option --max-device-connections)"
                }
                ErrorKind::Unauthenticated | ErrorKind::Forbidden | ErrorKind::Reserved => {
                    "the device may not receive commands"
                }
                ErrorKind::Invalid
                | ErrorKind::NotFound
                | ErrorKind::Conflict
                | ErrorKind::Gone
                | ErrorKind::TooLarge
                | ErrorKind::Unavailable => "the subscription failed, try again later",
                ErrorKind::Internal => INTERNAL,
            },
        })
    }
}

/// Returns the reason string for a message that was refused, in PUBACK (section 3.4.2.2.2) or DISCONNECT.
pub(crate) fn message(kind: MessageKind, error: ErrorKind) -> &'static str {
    match kind {
        MessageKind::Telemetry => telemetry(error),
        MessageKind::Reply => reply(error),
    }
}

fn reply(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => {
            "a reply goes to reply/{id} or reply/{id}/{status}, status 100 to 599, content type printable ASCII"
        }
        ErrorKind::NotFound => {
            "no such command was sent to this device, or the correlation data is of another"
        }
        ErrorKind::Conflict => "the command has a reply already, or came to another end",
        ErrorKind::Unavailable => {
            "the channel or the store of commands is not available, or not within --publish-timeout; try again later"
        }
        ErrorKind::Reserved
        | ErrorKind::Unauthenticated
        | ErrorKind::Forbidden
        | ErrorKind::Gone
        | ErrorKind::TooLarge
        | ErrorKind::Overloaded
        | ErrorKind::Internal => telemetry(kind),
    }
}

fn telemetry(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => {
            "the topic has to be levels of A-Z a-z 0-9 . _ ~ - : and the content type printable ASCII"
        }
        ErrorKind::Reserved => RESERVED,
        ErrorKind::Unauthenticated => "the session was ended, log in again",
        ErrorKind::Forbidden => "the device is not allowed to publish",
        ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Gone => "the message cannot be taken",
        ErrorKind::TooLarge => "the payload is too long (option --max-payload)",
        ErrorKind::Overloaded => "the queue to the channel is full, try again later",
        ErrorKind::Unavailable => {
            "the channel is not available, or not within --publish-timeout; try again later"
        }
        ErrorKind::Internal => INTERNAL,
    }
}

const RESERVED: &str = "topics that begin with 'commands', 'cmd' or 'reply' are the system's own";
const INTERNAL: &str = "the server is misconfigured or has a defect";
