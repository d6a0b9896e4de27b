//! `/v1/apps/{app}/devices`: the devices of an application.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use common::auth::Secret;
use common::device::{Credential, DeviceSpec};
use common::id::{AppId, DeviceId, DeviceKey};
use common::registry::{Device, Put, Scope};
use serde::Serialize;

use crate::Api;
use crate::access::Access;
use crate::commands;
use crate::reply::ApiError;
use crate::request::{query, read_json, segment};

/// Devices of a list, if nothing else is asked for.
const DEFAULT_LIMIT: usize = 100;
/// The most devices of a list.
const MAX_LIMIT: usize = 1_000;

/// A device that was written, with the credentials that were made for it: they are shown this once.
#[derive(Debug, Serialize)]
struct Written {
    #[serde(flatten)]
    device: Device,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    credentials: Vec<Credential>,
}

/// A part of a list.
#[derive(Debug, Serialize)]
struct Page {
    items: Vec<Device>,
    /// Where to go on, unless this is the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<DeviceId>,
}

/// Lists devices in the order of their names.
pub(crate) async fn list(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let application = permitted(&request, &api).await?;
    let query = query(&request, &["limit", "after"])?;
    let limit = match query.one("limit")?.map(str::parse) {
        None => DEFAULT_LIMIT,
        Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => limit,
        Some(_) => return Err(ApiError::Parameter(format!("limit is a number from 1 to {MAX_LIMIT}"))),
    };
    let after: Option<DeviceId> = query.one("after")?.map(str::parse).transpose()?;
    // One more tells whether there is more.
    let mut items = api.backends.registry.devices(&application, after.as_ref(), limit + 1).await?;
    let more = items.len() > limit;
    items.truncate(limit);
    let after = items.last().filter(|_| more).map(|device| device.name.clone());
    Ok(HttpResponse::Ok().json(Page { items, after }))
}

/// Shows a device.
pub(crate) async fn show(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let device = named(&request, &api).await?;
    Ok(HttpResponse::Ok().json(api.backends.registry.device(&device).await?))
}

/// Creates or changes a device.
pub(crate) async fn put(
    request: HttpRequest,
    mut payload: Payload,
    api: Data<Api>,
) -> Result<HttpResponse, ApiError> {
    let device = named(&request, &api).await?;
    let spec: DeviceSpec = read_json(&request, &mut payload, &api).await?;
    let written = api.backends.registry.put_device(&device, spec).await?;
    let body = Written { device: written.device, credentials: made(written.tokens) };
    Ok(HttpResponse::build(put_status(written.put))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(body))
}

/// Deletes a device.
pub(crate) async fn delete(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let device = named(&request, &api).await?;
    api.backends.registry.delete_device(&device).await?;
    // What waits for it must not reach another device that gets its name.
    commands::cancel_all(&api, &device).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Returns the status of a write.
pub(crate) fn put_status(put: Put) -> StatusCode {
    match put {
        Put::Created => StatusCode::CREATED,
        Put::Changed => StatusCode::OK,
    }
}

/// Writes tokens that were made as the credentials that they are.
pub(crate) fn made(tokens: Vec<Secret>) -> Vec<Credential> {
    tokens.into_iter().map(|token| Credential::Token(Some(token))).collect()
}

/// Returns the application of the path, whose registry the bearer may read and write.
async fn permitted(request: &HttpRequest, api: &Api) -> Result<AppId, ApiError> {
    let access = Access::of(request, api).await?;
    let application = AppId::from_segment(segment(request, "app"))?;
    access.permit(&application, Scope::Registry)?;
    Ok(application)
}

/// Returns the device of the path, which the bearer may read and write.
async fn named(request: &HttpRequest, api: &Api) -> Result<DeviceKey, ApiError> {
    let application = permitted(request, api).await?;
    let device = DeviceId::from_segment(segment(request, "device"))?;
    query(request, &[])?;
    Ok(DeviceKey::new(&application, &device))
}
