//! Why the ledger refuses.

use super::model::MAX_KEY_LEN;
use crate::error::ErrorKind;
use crate::registry::RegistryError;

/// Says why the ledger did not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// A key by which commands are compared has another form.
    #[error("{0} must have 1 to {MAX_KEY_LEN} printable ASCII characters")]
    Key(&'static str),
    /// Another tracker has had the lease since. Nothing was written.
    #[error("another tracker has taken the partition over")]
    Fenced,
    /// The store cannot be reached, or holds what cannot be read; the log says more.
    #[error("the ledger of commands is not available")]
    Unavailable,
}

impl LedgerError {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Key(_) => ErrorKind::Invalid,
            Self::Fenced => ErrorKind::Conflict,
            Self::Unavailable => ErrorKind::Unavailable,
        }
    }
}

impl From<RegistryError> for LedgerError {
    /// Of its store, the registry says no more than that it is not available.
    fn from(_: RegistryError) -> Self {
        Self::Unavailable
    }
}

impl From<sqlx::Error> for LedgerError {
    /// Keeps what the store says to the log, as the registry does.
    fn from(error: sqlx::Error) -> Self {
        RegistryError::from(error).into()
    }
}
