//! Who bears a token that another system gave out, and the seam to that system.

use std::collections::BTreeMap;
use std::fmt;

use common::BoxFuture;
use common::auth::Secret;
use common::id::DeviceId;

/// Who bears a token, as the cluster knows them (`UserInfo` of `authentication.k8s.io/v1`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The user's name, as `system:serviceaccount:heating:app`.
    pub user: String,
    /// Tells users apart that had the same name one after the other.
    pub uid: Option<String>,
    /// The groups that the user is in.
    pub groups: Vec<String>,
    /// What else is known of the user, for those who decide.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What is asked of those who decide.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Right {
    /// The namespace of the application's resource.
    pub namespace: String,
    /// What is to be done in it.
    pub action: Action,
}

/// What is to be done in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// To command a device: `create` on `devices/command`.
    Command(DeviceId),
    /// To see the resource of an application of this name: `get` on `applications`.
    SeeApplication(String),
}

impl fmt::Display for Right {
    /// Writes the right as RBAC spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Command(device) => write!(f, "create devices/command \"{device}\"")?,
            Action::SeeApplication(name) => write!(f, "get applications \"{name}\"")?,
        }
        write!(f, " in namespace \"{}\"", self.namespace)
    }
}

/// Says that nobody could be asked. Whoever asked is refused, and may come again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreviewed(pub String);

/// Knows who bears a token, and what they may do.
pub trait Reviewer: Send + Sync {
    /// Tells who bears a token; `None` if it is not good.
    ///
    /// # Errors
    /// Fails if that cannot be found out now. The reason does not hold the token.
    fn identify<'a>(&'a self, token: &'a Secret) -> BoxFuture<'a, Result<Option<Identity>, Unreviewed>>;

    /// Tells whether somebody has a right.
    ///
    /// # Errors
    /// Fails if that cannot be found out now.
    fn allows<'a>(
        &'a self,
        identity: &'a Identity,
        right: &'a Right,
    ) -> BoxFuture<'a, Result<bool, Unreviewed>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_spelled_as_in_rbac() {
        let right = |action| Right { namespace: "heating".to_owned(), action }.to_string();
        let command = right(Action::Command("d1".parse().unwrap()));
        assert_eq!(command, r#"create devices/command "d1" in namespace "heating""#);
        let see = right(Action::SeeApplication("house".to_owned()));
        assert_eq!(see, r#"get applications "house" in namespace "heating""#);
    }
}
