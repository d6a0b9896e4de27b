//! `/v1/apps`: applications. The operator makes and deletes them; a token of an application sees its own.

use actix_web::http::header::IF_NONE_MATCH;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use common::id::AppId;
use common::registry::{Application, ApplicationSpec, Grant, Put};
use common::web::single_header;
use serde::Serialize;

use crate::Api;
use crate::access::Access;
use crate::devices::put_status;
use crate::reply::ApiError;
use crate::request::{query, read_json, segment};

#[derive(Debug, Serialize)]
struct List {
    items: Vec<Application>,
}

/// Lists the applications that the bearer may know of.
pub(crate) async fn list(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let access = Access::of(&request, &api).await?;
    query(&request, &[])?;
    let registry = &api.backends.registry;
    let items = match access.grant() {
        Some(Grant::Operator) => registry.applications().await?,
        Some(Grant::Application { app, .. }) => vec![registry.application(app).await?],
        None => Vec::new(),
    };
    Ok(HttpResponse::Ok().json(List { items }))
}

/// Shows an application.
pub(crate) async fn show(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let access = Access::of(&request, &api).await?;
    let application = named(&request)?;
    access.see(&application)?;
    Ok(HttpResponse::Ok().json(api.backends.registry.application(&application).await?))
}

/// Creates or changes an application; with `if-none-match: *` it creates one or fails (RFC 9110, section 13.1.2).
pub(crate) async fn put(
    request: HttpRequest,
    mut payload: Payload,
    api: Data<Api>,
) -> Result<HttpResponse, ApiError> {
    let access = Access::of(&request, &api).await?;
    let application = named(&request)?;
    access.operate(&application)?;
    let is_new = must_be_new(&request)?;
    let spec: ApplicationSpec = read_json(&request, &mut payload, &api).await?;
    let registry = &api.backends.registry;
    let put = if is_new {
        registry.create_application(&application, spec).await?;
        Put::Created
    } else {
        registry.put_application(&application, spec).await?
    };
    Ok(HttpResponse::build(put_status(put)).json(registry.application(&application).await?))
}

/// Deletes an application with its devices and tokens.
pub(crate) async fn delete(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let access = Access::of(&request, &api).await?;
    let application = named(&request)?;
    access.operate(&application)?;
    api.backends.registry.delete_application(&application).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Tells whether nothing may be there that a write would change.
fn must_be_new(request: &HttpRequest) -> Result<bool, ApiError> {
    match single_header(request.headers(), &IF_NONE_MATCH)? {
        None => Ok(false),
        Some("*") => Ok(true),
        Some(_) => Err(ApiError::Parameter("if-none-match is '*' here: nothing has an etag".to_owned())),
    }
}

/// Returns the application of the path.
fn named(request: &HttpRequest) -> Result<AppId, ApiError> {
    let application = AppId::from_segment(segment(request, "app"))?;
    query(request, &[])?;
    Ok(application)
}
