//! `/v1/apps/{app}/tokens`: the tokens of an application.

use std::collections::BTreeSet;

use actix_web::http::header;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use common::auth::Secret;
use common::id::{AppId, EventId};
use common::registry::{Scope, Token, TokenId};
use serde::{Deserialize, Serialize};

use crate::Api;
use crate::access::Access;
use crate::reply::ApiError;
use crate::request::{query, read_json, segment};

/// A token as it is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenSpec {
    scopes: BTreeSet<Scope>,
    #[serde(default)]
    description: String,
}

/// A token that was made; it is shown this once.
#[derive(Debug, Serialize)]
struct Made {
    #[serde(flatten)]
    shown: Token,
    token: Secret,
}

#[derive(Debug, Serialize)]
struct List {
    items: Vec<Token>,
}

/// Lists the tokens of an application, without the tokens themselves.
pub(crate) async fn list(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let (_, application) = permitted(&request, &api).await?;
    let items = api.backends.registry.tokens(&application).await?;
    Ok(HttpResponse::Ok().json(List { items }))
}

/// Makes a token. Nobody gives away a scope that they have not.
pub(crate) async fn create(
    request: HttpRequest,
    mut payload: Payload,
    api: Data<Api>,
) -> Result<HttpResponse, ApiError> {
    let (access, application) = permitted(&request, &api).await?;
    let spec: TokenSpec = read_json(&request, &mut payload, &api).await?;
    for scope in &spec.scopes {
        access.permit(&application, *scope)?;
    }
    let registry = &api.backends.registry;
    let (shown, token) = registry.create_token(&application, spec.scopes, spec.description).await?;
    let location = format!("/v1/apps/{application}/tokens/{}", shown.id);
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, location))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(Made { shown, token }))
}

/// Revokes a token.
pub(crate) async fn delete(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let (_, application) = permitted(&request, &api).await?;
    let id: TokenId = EventId::from_segment(segment(&request, "token"))?.as_str().parse()?;
    api.backends.registry.delete_token(&application, &id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Returns the application of the path, whose registry the bearer may read and write.
async fn permitted(request: &HttpRequest, api: &Api) -> Result<(Access, AppId), ApiError> {
    let access = Access::of(request, api).await?;
    let application = AppId::from_segment(segment(request, "app"))?;
    access.permit(&application, Scope::Registry)?;
    query(request, &[])?;
    Ok((access, application))
}
