//! Failures, and what they are on the wire: problems of RFC 9457.

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use common::auth::AuthError;
use common::channel::{PublishError, SourceError};
use common::error::ErrorKind;
use common::id::{AppId, DeviceKey, EventId, InvalidId};
use common::ingest::Rejected;
use common::ledger::LedgerError;
use common::registry::{RegistryError, Scope};
use common::web::{BodyError, Challenge, HeaderError, Problem, QueryError};

use crate::access::Right;
use crate::commands::View;

/// Says why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("a token is needed, as in 'authorization: Bearer TOKEN'")]
    NoToken,
    #[error("the token is not known; it may have been revoked")]
    UnknownToken,
    #[error("tokens cannot be checked now, try again later")]
    Unchecked(ErrorKind),
    #[error("the token lacks the scope '{0}'")]
    NoScope(Scope),
    #[error("the caller may not {0}")]
    NoRight(Right),
    #[error("this is for the operator's token")]
    OperatorOnly,
    #[error("there is no application '{0}'")]
    NoApplication(AppId),
    #[error("there is no device '{}' in application '{}'", .0.device(), .0.application())]
    NoDevice(DeviceKey),
    #[error(transparent)]
    Id(#[from] InvalidId),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("{0}")]
    Parameter(String),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("the body is not as expected: {0}")]
    Json(String),
    #[error("devices in bulk come as application/x-ndjson, one JSON object a line")]
    NotNdjson,
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(
        "the channels of this cloud only push, and what becomes of commands is not followed: commands cannot be kept (ttl), \
         waited for (wait), made once (idempotency-key), superseded, listed or cancelled, and nobody knows who is connected"
    )]
    NoLog,
    #[error("the device has no command '{0}'")]
    NoCommand(EventId),
    #[error("another request was made with this idempotency-key: another name, parameter or body")]
    KeyConflict,
    #[error(
        "{0} commands wait for the device already, try again when some were delivered (option --max-pending)"
    )]
    TooManyPending(u32),
    #[error("only a command that waits can be cancelled; this one {}", .0.said())]
    NotPending(Box<View>),
    #[error("the command {}", .0.said())]
    NotReached(Box<View>),
    #[error("{0} streams are open already, try again later (option --api-max-streams)")]
    TooManyStreams(u16),
}

impl From<AuthError> for ApiError {
    /// Says it in the words of tokens.
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Denied => Self::UnknownToken,
            AuthError::Busy | AuthError::Unavailable => Self::Unchecked(error.kind()),
        }
    }
}

impl ApiError {
    /// Returns the kind of the failure.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NoToken | Self::UnknownToken => ErrorKind::Unauthenticated,
            Self::Unchecked(kind) => *kind,
            Self::NoScope(_) | Self::NoRight(_) | Self::OperatorOnly => ErrorKind::Forbidden,
            Self::NoApplication(_) | Self::NoDevice(_) => ErrorKind::NotFound,
            Self::Id(_) | Self::Parameter(_) | Self::Json(_) | Self::NotNdjson => ErrorKind::Invalid,
            Self::Query(error) => error.kind(),
            Self::Header(error) => error.kind(),
            Self::Body(error) => error.kind(),
            Self::Rejected(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Publish(error) => error.kind(),
            Self::Source(error) => error.kind(),
            Self::Ledger(error) => error.kind(),
            Self::NoLog => ErrorKind::Unavailable,
            Self::NoCommand(_) => ErrorKind::NotFound,
            Self::KeyConflict | Self::NotPending(_) | Self::NotReached(_) => ErrorKind::Conflict,
            Self::TooManyStreams(_) | Self::TooManyPending(_) => ErrorKind::Overloaded,
        }
    }

    /// Returns the status, where HTTP has a better one than that of the kind.
    fn special_status(&self) -> Option<StatusCode> {
        if matches!(self, Self::NotNdjson) {
            return Some(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        // Only who made that a condition is told.
        if matches!(self, Self::Registry(RegistryError::ApplicationExists(_))) {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
        // This will not become possible by waiting.
        matches!(self, Self::NoLog | Self::Source(SourceError::Unsupported))
            .then_some(StatusCode::NOT_IMPLEMENTED)
    }

    fn problem(&self) -> Problem {
        if let Self::Body(error) = self {
            return error.clone().into();
        }
        if let Self::NotPending(command) | Self::NotReached(command) = self {
            return Problem::new(self.kind(), self.to_string()).members(command.members());
        }
        match self.special_status() {
            Some(status) => Problem::with_status(status, self.to_string()),
            None => Problem::new(self.kind(), self.to_string()).challenge(Challenge::Bearer),
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.problem().status_code()
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        self.problem().error_response()
    }
}
