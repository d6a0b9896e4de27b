//! The kinds of failure that a client can tell apart. Each protocol maps them to its own codes, exhaustively.

/// What kind of failure an error is, whatever the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request has a wrong shape.
    Invalid,
    /// The request names something that belongs to the system.
    Reserved,
    /// The credentials are missing or wrong.
    Unauthenticated,
    /// The credentials are right, and what was asked is not allowed.
    Forbidden,
    /// What was named does not exist.
    NotFound,
    /// The state of what was named does not allow the request.
    Conflict,
    /// What was asked for is no longer kept.
    Gone,
    /// The request is longer than a limit.
    TooLarge,
    /// A limit of load is reached; the same request may succeed later.
    Overloaded,
    /// Something that is needed cannot be reached; the same request may succeed later.
    Unavailable,
    /// This replica is misconfigured or has a defect.
    Internal,
}

impl ErrorKind {
    /// Returns the name of the kind, as used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Reserved => "reserved",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::TooLarge => "too-large",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}
