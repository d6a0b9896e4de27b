//! Why a device's request failed, for every protocol the same.

use std::time::Duration;

use crate::auth::AuthError;
use crate::channel::PublishError;
use crate::error::ErrorKind;
use crate::ingest::Rejected;
use crate::replies::ReplyRefused;
use crate::sessions::End;

/// Says why a device's request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The device was not let in.
    #[error(transparent)]
    Login(#[from] AuthError),
    /// What the device sent breaks a rule.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The device may not reply to the command.
    #[error(transparent)]
    Reply(#[from] ReplyRefused),
    /// The channel did not take the event.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The login was not checked in time.
    #[error("the login was not checked within {0:?}, try again later (option --login-timeout)")]
    LoginTimedOut(Duration),
    /// The device has as many connections as it may.
    #[error("the device has {0} connections already (option --max-device-connections)")]
    TooManyConnections(usize),
    /// The session was ended.
    #[error("{}", why_ended(*.0))]
    Ended(End),
}

impl ServiceError {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Login(error) => error.kind(),
            Self::Rejected(error) => error.kind(),
            Self::Reply(refused) => refused.kind(),
            Self::Publish(error) => error.kind(),
            Self::LoginTimedOut(_) => ErrorKind::Unavailable,
            Self::TooManyConnections(_) => ErrorKind::Overloaded,
            Self::Ended(End::Revoked | End::TakenOver) => ErrorKind::Unauthenticated,
            Self::Ended(End::Shutdown | End::Interrupted) => ErrorKind::Unavailable,
        }
    }
}

fn why_ended(end: End) -> &'static str {
    match end {
        End::TakenOver => "the device connected again with the same client id",
        End::Revoked => "the device was changed or deleted, log in again",
        End::Shutdown => "the server shuts down, try again later",
        End::Interrupted => "commands may have been missed, connect again",
    }
}
