//! Why the registry refuses.

use super::address::FORMS;
use super::spec::InvalidSpec;
use crate::error::ErrorKind;
use crate::id::{AppId, DeviceKey};

/// The length of an SQLSTATE, as PostgreSQL's codes of errors are.
const SQLSTATE_LEN: usize = 5;
/// How those begin that are about a value.
const DATA_EXCEPTION: &str = "22";

/// Says why the registry did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The address names no registry that could be opened.
    #[error("the registry's address {url} is not good: {reason}; write {FORMS}")]
    Address {
        /// Where the registry should be, without a password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The cost of passwords is none that argon2 could have.
    #[error("passwords cannot have that cost: {0}")]
    PasswordCost(String),
    /// The registry cannot be opened.
    #[error("the registry {url} cannot be opened: {reason}")]
    Open {
        /// Where the registry should be, without a password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operator's token is too easily guessed.
    #[error("the operator's token must have {min} characters or more, this one has {len}")]
    WeakAdminToken {
        /// The fewest characters that do.
        min: usize,
        /// The characters of the given one.
        len: usize,
    },
    /// There is an application of the id that was to be a new one's.
    #[error("there is an application '{0}' already")]
    ApplicationExists(AppId),
    /// There is no such application.
    #[error("there is no application '{0}'")]
    NoApplication(AppId),
    /// There is no such device.
    #[error("there is no device '{}' in application '{}'", .0.device(), .0.application())]
    NoDevice(DeviceKey),
    /// The application has no such token.
    #[error("the application has no token of this id")]
    NoToken,
    /// What was to be written has a wrong shape.
    #[error(transparent)]
    Invalid(#[from] InvalidSpec),
    /// The application has as many tokens as it may have.
    #[error("an application has {0} tokens at most; delete one first")]
    TooManyTokens(usize),
    /// More passwords wait to be hashed or checked than the replica admits.
    #[error("too many passwords are being hashed, try again later (option --max-pending-logins)")]
    Busy,
    /// The store cannot be reached, or holds what cannot be read; the log says more.
    #[error("the registry is not available")]
    Unavailable,
}

impl RegistryError {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { .. } | Self::Unavailable => ErrorKind::Unavailable,
            Self::Address { .. } | Self::PasswordCost(_) | Self::WeakAdminToken { .. } | Self::Invalid(_) => {
                ErrorKind::Invalid
            }
            Self::NoApplication(_) | Self::NoDevice(_) | Self::NoToken => ErrorKind::NotFound,
            Self::TooManyTokens(_) | Self::ApplicationExists(_) => ErrorKind::Conflict,
            Self::Busy => ErrorKind::Overloaded,
        }
    }
}

impl From<sqlx::Error> for RegistryError {
    /// Keeps what the store says to the log: it is not for clients. sqlx puts no values of parameters into it, but
    /// PostgreSQL repeats a value that it cannot take.
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error().and_then(|error| error.code()) {
            Some(code) if code.len() == SQLSTATE_LEN && code.starts_with(DATA_EXCEPTION) => {
                tracing::error!(%code, "the registry's store cannot take a value");
            }
            Some(_) | None => tracing::error!(%error, "the registry's store failed"),
        }
        Self::Unavailable
    }
}
