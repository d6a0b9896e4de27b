//! How a device can be reached, for people who ask.

use crate::id::ConnectionRef;
use crate::time::Timestamp;

/// A way to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The connection; its incarnation names the replica.
    pub id: ConnectionRef,
    /// The protocol by which the device came.
    pub protocol: Box<str>,
    /// When it began.
    pub since: Timestamp,
    /// When its replica will end it, if that is known.
    pub until: Option<Timestamp>,
}

/// How a device can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// Its live connections, the newest first: commands go to the first.
    pub ways: Vec<Way>,
    /// When its last connection ended, if it has none.
    pub away_since: Option<Timestamp>,
    /// When it is expected, by the pattern of its past connections, if it has none and there were enough of them.
    pub expected: Option<Timestamp>,
}
