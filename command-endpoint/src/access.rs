//! Who may do what.
//!
//! A token is one of the registry's or the operator's, or, with `--kube-access`, one of the cluster's: then it is good for
//! commands to devices, one by one as RBAC says, in applications that name their namespace by the label [`NAMESPACE_LABEL`],
//! and for nothing else.
//!
//! Without a right to an application its existence is not told: the answer is the same 404 as if it were not there. Only
//! a bearer of the cluster who may see the application's resource is told which right is missing.

mod identities;
mod identity;
pub(crate) mod jwt;
mod kubernetes;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use common::auth::{AuthError, Secret};
use common::error::ErrorKind;
use common::id::{AppId, DeviceId, DeviceKey};
use common::kubernetes::NAMESPACE_LABEL;
use common::registry::{Grant, Registry, RegistryError, Scope};
use common::web::single_header;

use crate::Api;
use crate::reply::ApiError;
use identities::Bearer;
pub use identities::Identities;
pub use identity::{Action, Identity, Reviewer, Right, Unreviewed};
pub(crate) use kubernetes::Kubernetes;

/// What the bearer of a request's token may do.
#[derive(Debug)]
pub(crate) struct Access {
    registry: Registry,
    token: Secret,
    caller: Caller,
}

/// Who calls.
#[derive(Debug)]
enum Caller {
    /// The bearer of a token of the registry, or the operator.
    Granted(Grant),
    /// Somebody whom the cluster knows.
    Known(Identities, Bearer),
}

impl Access {
    /// Finds out what the bearer of the request's token may do.
    pub(crate) async fn of(request: &HttpRequest, api: &Api) -> Result<Self, ApiError> {
        let header = single_header(request.headers(), &AUTHORIZATION).map_err(|_| ApiError::NoToken)?;
        let token = Secret::new(header.and_then(bearer).ok_or(ApiError::NoToken)?);
        let registry = api.backends.registry.clone();
        let caller = match (registry.grant(&token).await, &api.backends.identities) {
            (Ok(grant), _) => Caller::Granted(grant),
            (Err(AuthError::Denied), Some(identities)) => {
                let bearer = identities.bearer(&token).await?.ok_or(ApiError::UnknownToken)?;
                Caller::Known(identities.clone(), bearer)
            }
            (Err(error), _) => return Err(error.into()),
        };
        Ok(Self { registry, token, caller })
    }

    /// Returns what the bearer may do beyond what the cluster decides; `None` is nothing.
    pub(crate) fn grant(&self) -> Option<&Grant> {
        match &self.caller {
            Caller::Granted(grant) => Some(grant),
            Caller::Known(..) => None,
        }
    }

    /// Fails unless the bearer may know of the application.
    pub(crate) fn see(&self, application: &AppId) -> Result<(), ApiError> {
        self.seen(application).map(|_| ())
    }

    /// Fails unless the bearer may do in the application what the scope stands for.
    pub(crate) fn permit(&self, application: &AppId, scope: Scope) -> Result<(), ApiError> {
        let grant = self.seen(application)?;
        if grant.permits(application, scope) { Ok(()) } else { Err(ApiError::NoScope(scope)) }
    }

    /// Fails unless the bearer is the operator.
    pub(crate) fn operate(&self, application: &AppId) -> Result<(), ApiError> {
        match self.seen(application)? {
            Grant::Operator => Ok(()),
            Grant::Application { .. } => Err(ApiError::OperatorOnly),
        }
    }

    /// Returns the device of a segment of the path, or fails unless the bearer may command it.
    pub(crate) async fn command(&self, application: &AppId, device: &str) -> Result<DeviceKey, ApiError> {
        match &self.caller {
            Caller::Granted(_) => {
                self.permit(application, Scope::Command)?;
                Ok(DeviceKey::new(application, &DeviceId::from_segment(device)?))
            }
            Caller::Known(identities, bearer) => {
                let device = DeviceId::from_segment(device)?;
                self.ask(identities, bearer, application, &device).await?;
                Ok(DeviceKey::new(application, &device))
            }
        }
    }

    /// Fails unless the bearer still may do in the application what the scope stands for.
    pub(crate) async fn renew(&mut self, application: &AppId, scope: Scope) -> Result<(), ApiError> {
        self.caller = Caller::Granted(self.registry.grant(&self.token).await?);
        self.permit(application, scope)?;
        // The tokens of an application are deleted with it.
        if self.grant() == Some(&Grant::Operator) {
            self.registry.application(application).await?;
        }
        Ok(())
    }

    fn seen(&self, application: &AppId) -> Result<&Grant, ApiError> {
        self.grant()
            .filter(|grant| grant.covers(application))
            .ok_or_else(|| ApiError::NoApplication(application.clone()))
    }

    /// Asks the cluster whether a bearer may command a device.
    async fn ask(
        &self,
        identities: &Identities,
        bearer: &Bearer,
        application: &AppId,
        device: &DeviceId,
    ) -> Result<(), ApiError> {
        let namespace = self.namespace(application).await?;
        let namespace = namespace.ok_or_else(|| ApiError::NoApplication(application.clone()))?;
        let right = Right { namespace: namespace.clone(), action: Action::Command(device.clone()) };
        if identities.allows(bearer, &right).await? {
            return Ok(());
        }
        let see = Right { namespace, action: Action::SeeApplication(application.to_string()) };
        if identities.allows(bearer, &see).await? {
            Err(ApiError::NoRight(right))
        } else {
            Err(ApiError::NoApplication(application.clone()))
        }
    }

    /// Returns the namespace of the application's resource, if there is such an application and it names one.
    async fn namespace(&self, application: &AppId) -> Result<Option<String>, ApiError> {
        match self.registry.application(application).await {
            Ok(found) => Ok(found.labels.get(NAMESPACE_LABEL).filter(|name| is_namespace(name)).cloned()),
            Err(RegistryError::NoApplication(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl From<Unreviewed> for ApiError {
    /// The reason is the operator's to know.
    fn from(_: Unreviewed) -> Self {
        Self::Unchecked(ErrorKind::Unavailable)
    }
}

/// Tells whether a text can name a namespace (RFC 1123, a label). To RBAC, the empty one would stand for all.
fn is_namespace(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Returns the token of credentials of the scheme `Bearer` (RFC 6750, section 2.1).
fn bearer(credentials: &str) -> Option<&str> {
    let (scheme, token) = credentials.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_namespace_is_none() {
        assert!(is_namespace("heating") && is_namespace("a-1") && is_namespace(&"a".repeat(63)));
        for bad in ["", "*", "-a", "a-", "A", "a.b", "a/b", "ä", &"a".repeat(64)] {
            assert!(!is_namespace(bad), "{bad}");
        }
    }

    #[test]
    fn only_the_scheme_bearer_has_a_token() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc"), Some("abc"));
        for other in ["Basic abc", "Bearer", "Bearer ", "abc", ""] {
            assert_eq!(bearer(other), None, "{other:?}");
        }
    }
}
