//! Failures of the controller. All of them may pass: what was asked for is tried again.

use std::time::Duration;

use common::error::ErrorKind;
use common::id::AppId;
use common::kubernetes::ClusterError;
use reqwest::StatusCode;

use crate::client::Refused;

/// The wait after the first failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often to look whether devices that are in the way are gone.
const DEVICES_PAUSE: Duration = Duration::from_secs(2);

/// Says why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The API server did not do it.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The registry refused it.
    #[error("the registry refuses: {0}")]
    Refused(Refused),
    /// The registry was not reached.
    #[error("{0}")]
    Unreachable(String),
    /// Others make and delete an application of the same name.
    #[error("others make and delete the application '{0}' at the same time")]
    Contended(AppId),
    /// An application cannot go before its devices.
    #[error("devices that belong to the application are in the way: {0}; delete them first")]
    DevicesRemain(usize),
    /// A finalizer was not set or taken away.
    #[error("cannot change the finalizer: {0}")]
    Finalizer(String),
    /// The definitions have no form in YAML.
    #[error("cannot write the definitions: {0}")]
    Definition(String),
    /// A password could not be hashed.
    #[error("a password cannot be hashed")]
    Hash,
}

impl ControllerError {
    /// Reads what a request to the registry failed with.
    pub(super) fn of_registry(error: &anyhow::Error) -> Self {
        match error.downcast_ref::<Refused>() {
            Some(refused) => Self::Refused(refused.clone()),
            None => Self::Unreachable(format!("{error:#}")),
        }
    }

    /// Returns the status that the registry answered with, if it was that.
    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(refused) => Some(refused.status),
            Self::Cluster(_)
            | Self::Unreachable(_)
            | Self::Contended(_)
            | Self::DevicesRemain(_)
            | Self::Finalizer(_)
            | Self::Definition(_)
            | Self::Hash => None,
        }
    }

    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cluster(error) => error.kind(),
            Self::Refused(refused) => match refused.status {
                StatusCode::UNAUTHORIZED => ErrorKind::Unauthenticated,
                StatusCode::FORBIDDEN => ErrorKind::Forbidden,
                StatusCode::NOT_FOUND => ErrorKind::NotFound,
                StatusCode::CONFLICT => ErrorKind::Conflict,
                StatusCode::PAYLOAD_TOO_LARGE => ErrorKind::TooLarge,
                StatusCode::TOO_MANY_REQUESTS => ErrorKind::Overloaded,
                status if status.is_client_error() => ErrorKind::Invalid,
                _ => ErrorKind::Unavailable,
            },
            Self::Unreachable(_) => ErrorKind::Unavailable,
            Self::Contended(_) | Self::DevicesRemain(_) | Self::Finalizer(_) => ErrorKind::Conflict,
            Self::Definition(_) | Self::Hash => ErrorKind::Internal,
        }
    }

    /// Tells whether the registry will say the same until the resource is changed.
    pub(super) fn is_of_the_resource(&self) -> bool {
        matches!(self, Self::Refused(_)) && matches!(self.kind(), ErrorKind::Invalid | ErrorKind::TooLarge)
    }

    /// Returns the reason of the condition that tells it.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Cluster(_) | Self::Finalizer(_) => "KubernetesFailed",
            Self::Refused(_) | Self::Contended(_) => "Refused",
            Self::Unreachable(_) => "Unreachable",
            Self::DevicesRemain(_) => "DevicesRemain",
            Self::Definition(_) | Self::Hash => "Internal",
        }
    }

    /// Returns when to try again, after so many failures in a row before this.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        match self {
            Self::DevicesRemain(_) => DEVICES_PAUSE,
            Self::Cluster(_)
            | Self::Refused(_)
            | Self::Unreachable(_)
            | Self::Contended(_)
            | Self::Finalizer(_)
            | Self::Definition(_)
            | Self::Hash => (FIRST_PAUSE * 2_u32.saturating_pow(failures.min(16))).min(LONGEST_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute() {
        let pause = |failures| ControllerError::Unreachable(String::new()).pause(failures).as_secs();
        assert_eq!([0, 1, 5, 6, u32::MAX].map(pause), [1, 2, 32, 60, 60]);
        assert_eq!(ControllerError::DevicesRemain(1).pause(9), DEVICES_PAUSE);
    }
}
