//! Who may do what.
//!
//! Without a right to an application its existence is not told: the answer is the same 404 as if it were not there.

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use common::auth::Secret;
use common::id::AppId;
use common::registry::{Grant, Registry, Scope};
use common::web::single_header;

use crate::Api;
use crate::reply::ApiError;

/// What the bearer of a request's token may do.
#[derive(Debug)]
pub(crate) struct Access {
    registry: Registry,
    token: Secret,
    grant: Grant,
}

impl Access {
    /// Finds out what the bearer of the request's token may do.
    pub(crate) async fn of(request: &HttpRequest, api: &Api) -> Result<Self, ApiError> {
        let header = single_header(request.headers(), &AUTHORIZATION).map_err(|_| ApiError::NoToken)?;
        let token = Secret::new(header.and_then(bearer).ok_or(ApiError::NoToken)?);
        let registry = api.backends.registry.clone();
        let grant = registry.grant(&token).await?;
        Ok(Self { registry, token, grant })
    }

    /// Returns what the bearer may do.
    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Fails unless the bearer may know of the application.
    pub(crate) fn see(&self, application: &AppId) -> Result<(), ApiError> {
        if self.grant.covers(application) {
            Ok(())
        } else {
            Err(ApiError::NoApplication(application.clone()))
        }
    }

    /// Fails unless the bearer may do in the application what the scope stands for.
    pub(crate) fn permit(&self, application: &AppId, scope: Scope) -> Result<(), ApiError> {
        self.see(application)?;
        if self.grant.permits(application, scope) { Ok(()) } else { Err(ApiError::NoScope(scope)) }
    }

    /// Fails unless the bearer is the operator.
    pub(crate) fn operate(&self, application: &AppId) -> Result<(), ApiError> {
        self.see(application)?;
        match self.grant {
            Grant::Operator => Ok(()),
            Grant::Application { .. } => Err(ApiError::OperatorOnly),
        }
    }

    /// Fails unless the bearer still may do in the application what the scope stands for.
    pub(crate) async fn renew(&mut self, application: &AppId, scope: Scope) -> Result<(), ApiError> {
        self.grant = self.registry.grant(&self.token).await?;
        self.permit(application, scope)?;
        // The tokens of an application are deleted with it.
        if self.grant == Grant::Operator {
            self.registry.application(application).await?;
        }
        Ok(())
    }
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
    fn only_the_scheme_bearer_has_a_token() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc"), Some("abc"));
        for other in ["Basic abc", "Bearer", "Bearer ", "abc", ""] {
            assert_eq!(bearer(other), None, "{other:?}");
        }
    }
}
