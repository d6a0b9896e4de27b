//! What the registry shows: nothing in here is secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use crate::auth::Secret;
use crate::id::{AppId, DeviceId, EventId, InvalidId};
use crate::time::Timestamp;

/// Labels of a device or an application, for the application's own use.
pub type Labels = BTreeMap<String, String>;

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// What was written did not exist before.
    Created,
    /// What was written existed; it may be as it was.
    Changed,
}

/// An application as it is shown. Its JSON is also an [`ApplicationSpec`](super::ApplicationSpec).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// The application's id.
    pub name: AppId,
    /// Labels for the application's own use.
    pub labels: Labels,
}

/// A device as it is shown. Its JSON is also a [`DeviceSpec`](crate::device::DeviceSpec) that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The device's id.
    pub name: DeviceId,
    /// Whether the device may log in.
    pub enabled: bool,
    /// Labels for the application's own use.
    pub labels: Labels,
}

/// A device that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct PutDevice {
    /// Whether it is new.
    pub put: Put,
    /// The device as it is now.
    pub device: Device,
    /// The tokens made for it, in the order in which they were asked for. They are shown this once.
    pub tokens: Vec<Secret>,
}

/// What a token of an application is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To send commands.
    Command,
    /// To read events.
    Events,
    /// To read and write devices and tokens.
    Registry,
}

impl Scope {
    /// All scopes there are.
    pub const ALL: [Self; 3] = [Self::Command, Self::Events, Self::Registry];

    /// Returns the scope's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Events => "events",
            Self::Registry => "registry",
        }
    }
}

/// Says that a text names no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a scope is 'command', 'events' or 'registry'")]
pub struct InvalidScope;

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or(InvalidScope)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Identifies a token, and is no secret: it does not let anybody in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(EventId);

impl TokenId {
    pub(super) fn new(now: Timestamp) -> Self {
        Self(crate::process::new_event_id(now))
    }

    /// Borrows the text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for TokenId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.parse().map(Self)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A token of an application as it is shown, which is without the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    /// By which the token is revoked.
    pub id: TokenId,
    /// What it is good for.
    pub scopes: BTreeSet<Scope>,
    /// What it is for, in its maker's words.
    pub description: String,
    /// When it was made, as RFC 3339.
    #[serde(serialize_with = "as_text")]
    pub created: Timestamp,
}

fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

/// What the bearer of a token may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Everything: the bearer operates the cloud.
    Operator,
    /// What the scopes say, in one application.
    Application {
        /// The application.
        app: AppId,
        /// What may be done in it.
        scopes: BTreeSet<Scope>,
    },
}

impl Grant {
    /// Tells whether the bearer may know that the application exists.
    pub fn covers(&self, application: &AppId) -> bool {
        match self {
            Self::Operator => true,
            Self::Application { app, .. } => app == application,
        }
    }

    /// Tells whether the bearer may do what `scope` stands for in the application.
    pub fn permits(&self, application: &AppId, scope: Scope) -> bool {
        match self {
            Self::Operator => true,
            Self::Application { app, scopes } => app == application && scopes.contains(&scope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceSpec;

    #[test]
    fn a_grant_holds_in_its_application_and_for_its_scopes_only() {
        let app = |text: &str| text.parse::<AppId>().unwrap();
        let grant = Grant::Application { app: app("a"), scopes: [Scope::Events].into() };
        assert!(grant.covers(&app("a")) && !grant.covers(&app("b")));
        assert!(grant.permits(&app("a"), Scope::Events));
        assert!(!grant.permits(&app("a"), Scope::Command));
        assert!(!grant.permits(&app("b"), Scope::Events));
        assert!(Grant::Operator.permits(&app("b"), Scope::Registry));
    }

    #[test]
    fn scopes_are_spelled_alike_in_json_and_text() {
        for scope in Scope::ALL {
            assert_eq!(serde_json::to_string(&scope).unwrap(), format!("\"{scope}\""));
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert_eq!("admin".parse::<Scope>(), Err(InvalidScope));
    }

    #[test]
    fn what_is_shown_of_a_device_is_a_spec_without_credentials() {
        let labels = [("a".to_owned(), "b".to_owned())].into();
        let device = Device { name: "d".parse().unwrap(), enabled: false, labels };
        let spec: DeviceSpec = serde_json::from_str(&serde_json::to_string(&device).unwrap()).unwrap();
        assert_eq!((spec.name, spec.enabled), (Some(device.name), Some(false)));
        assert_eq!((spec.labels, spec.credentials), (Some(device.labels), None));
    }

    #[test]
    fn a_token_is_shown_with_its_time_as_text() {
        let token = Token {
            id: "x".parse().unwrap(),
            scopes: [Scope::Registry, Scope::Command].into(),
            description: "ci".to_owned(),
            created: Timestamp::from_millis(0),
        };
        let json = serde_json::to_string(&token).unwrap();
        let expected = r#"{"id":"x","scopes":["command","registry"],"description":"ci","created":"1970-01-01T00:00:00.000Z"}"#;
        assert_eq!(json, expected);
    }
}
