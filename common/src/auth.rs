//! Who a device is, and the seam to the registry that knows.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::BoxFuture;
use crate::error::ErrorKind;
use crate::id::{AppId, DEFAULT_APPLICATION, DeviceId, DeviceKey, InvalidId};

/// A password or token. It is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Gives the secret away; what gets it must not print it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a device presents to log in.
#[derive(Debug, Clone)]
pub struct Login {
    /// Who it says it is.
    pub device: DeviceKey,
    /// What proves it.
    pub secret: Secret,
}

impl Login {
    /// Parses a user name `device[@application]`.
    ///
    /// # Errors
    /// Fails if the user name has another form.
    pub fn parse(user: &str, secret: Secret) -> Result<Self, InvalidId> {
        let (device, application) = user.split_once('@').unwrap_or((user, DEFAULT_APPLICATION));
        let (device, application): (DeviceId, AppId) = (device.parse()?, application.parse()?);
        Ok(Self { device: DeviceKey::new(&application, &device), secret })
    }
}

/// Says why a device was not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The device does not exist, is disabled, or the secret is wrong. Which of these is not told.
    #[error("user name or password is wrong; the user name is device[@application]")]
    Denied,
    /// More logins wait than the replica admits.
    #[error("too many logins at once, try again later (option --max-pending-logins)")]
    Busy,
    /// The registry cannot be reached.
    #[error("the registry is not available")]
    Unavailable,
}

impl AuthError {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Denied => ErrorKind::Unauthenticated,
            Self::Busy => ErrorKind::Overloaded,
            Self::Unavailable => ErrorKind::Unavailable,
        }
    }
}

/// Whose entry in the registry has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A device was changed or deleted. A new one is no change: nobody holds anything of it that could be outdated.
    Device(DeviceKey),
    /// An application, with all its devices, was deleted.
    Application(AppId),
}

/// Takes each change of the registry. It must not block.
pub type ChangeObserver = Box<dyn Fn(&Change) + Send + Sync>;

/// Knows devices and their credentials.
pub trait Authenticator: Send + Sync {
    /// Checks a login.
    ///
    /// # Errors
    /// Fails closed: whatever is not known to be right is refused.
    fn authenticate<'a>(&'a self, login: &'a Login) -> BoxFuture<'a, Result<(), AuthError>>;

    /// Calls `observer` for each change, within 2 s of it, on whichever replica it was made.
    ///
    /// A login that is checked after the call sees the change.
    fn observe(&self, observer: ChangeObserver);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_device_and_perhaps_an_application() {
        let device = |user| Login::parse(user, Secret::new("x")).map(|login| login.device);
        assert_eq!(device("d1").unwrap().as_str(), "default/d1");
        assert_eq!(device("d1@app").unwrap().as_str(), "app/d1");
        for bad in ["", "@", "d1@", "@app", "d1@app@x", "a/b", "d1@a/b", "#", "+", "d1\0"] {
            assert!(device(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let login = Login::parse("d1", Secret::new("hunter2")).unwrap();
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
