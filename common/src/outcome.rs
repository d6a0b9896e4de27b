//! What became of a command.

/// What became of a command at a device endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The device has it, as far as the protocol can tell.
    Delivered(Confirmation),
    /// The device did not get it, or that is unknown.
    Undelivered(Reason),
    /// It lapsed before it could be delivered.
    Expired,
}

/// How it is known that a command was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Confirmation {
    /// The device acknowledged it: MQTT QoS 1.
    Puback,
    /// It was handed to the transport of a connection that was not known to be closed: HTTP, MQTT QoS 0.
    Written,
}

/// Why a command was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The device held no connection. It never saw the command.
    NotConnected,
    /// The queue of its connection was full. It never saw the command.
    Overflow,
    /// It did not acknowledge the command in time. It may have seen it.
    NoAck,
    /// Its connection ended while the command was under way. It may have seen it.
    ConnectionLost,
}

impl Outcome {
    /// Returns the state's name.
    pub fn state(self) -> &'static str {
        match self {
            Self::Delivered(_) => "delivered",
            Self::Undelivered(_) => "undelivered",
            Self::Expired => "expired",
        }
    }

    /// Returns what is known beside the state: the confirmation or the reason, else an empty text.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Delivered(Confirmation::Puback) => "puback",
            Self::Delivered(Confirmation::Written) => "written",
            Self::Undelivered(Reason::NotConnected) => "not-connected",
            Self::Undelivered(Reason::Overflow) => "overflow",
            Self::Undelivered(Reason::NoAck) => "no-ack",
            Self::Undelivered(Reason::ConnectionLost) => "connection-lost",
            Self::Expired => "",
        }
    }
}
