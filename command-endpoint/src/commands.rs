//! `POST /v1/apps/{app}/devices/{device}/commands/{name}`: a command on its way to a device.

use std::time::Duration;

use actix_web::http::header;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use common::channel::Channel;
use common::command::Command;
use common::event::{Event, OCTET_STREAM, is_content_type, is_traceparent};
use common::id::{AppId, CommandName, DeviceId, DeviceKey};
use common::ingest::Rejected;
use common::registry::Scope;
use common::service::{new_event_id, publish};
use common::time::parse_duration;
use common::web::{Query, TRACEPARENT, read_body, single_header};
use metrics::counter;
use serde_json::json;

use crate::Api;
use crate::access::Access;
use crate::reply::ApiError;
use crate::request::{query, segment};

/// The shortest time that a command may be given to live.
const MIN_TTL: Duration = Duration::from_secs(1);
/// The longest.
const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);

/// Accepts a command: 202 when the channel has persisted it.
pub(crate) async fn submit(
    request: HttpRequest,
    mut payload: Payload,
    api: Data<Api>,
) -> Result<HttpResponse, ApiError> {
    let result = accept(&request, &mut payload, &api).await;
    let counted = result.as_ref().map_or_else(|error| error.kind().as_str(), |_| "accepted");
    counter!("drogue_commands_submitted_total", "result" => counted).increment(1);
    let command = result?;
    let location = format!(
        "/v1/apps/{}/devices/{}/commands/{}",
        command.device.application(),
        command.device.device(),
        command.id.as_str(),
    );
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, location))
        .json(json!({ "id": command.id.as_str() })))
}

async fn accept(request: &HttpRequest, payload: &mut Payload, api: &Api) -> Result<Event, ApiError> {
    let access = Access::of(request, api).await?;
    let application = AppId::from_segment(segment(request, "app"))?;
    access.permit(&application, Scope::Command)?;
    let device = DeviceId::from_segment(segment(request, "device"))?;
    let name = CommandName::from_segment(segment(request, "name"))?;
    let lifetime = ttl(&query(request, &["ttl"])?)?;
    let content_type = content_type(request)?;
    let traceparent = single_header(request.headers(), &TRACEPARENT).unwrap_or_default();
    let device = DeviceKey::new(&application, &device);
    let backends = &api.backends;
    if !backends.registry.device_exists(&device).await? {
        return Err(ApiError::NoDevice(device));
    }
    let limits = &backends.limits;
    let payload = read_body(request.headers(), payload, limits.max_payload, api.body_timeout).await?;
    let now = backends.clock.wall();
    let command = Command {
        id: new_event_id(now),
        device,
        name,
        expires: now.saturating_add(lifetime.unwrap_or(limits.command_lifetime)),
        kept: lifetime.is_some(),
        content_type,
        payload,
    };
    let event = command.into_event(now, traceparent.filter(|text| is_traceparent(text)).map(str::to_owned));
    publish(&*backends.sink, Channel::Commands, event.clone(), limits.publish_timeout).await?;
    Ok(event)
}

fn ttl(query: &Query) -> Result<Option<Duration>, ApiError> {
    let Some(text) = query.one("ttl")? else { return Ok(None) };
    match parse_duration(text) {
        Ok(ttl) if (MIN_TTL..=MAX_TTL).contains(&ttl) => Ok(Some(ttl)),
        Ok(_) => Err(ApiError::Parameter("ttl is 1s at least and 30d at most".to_owned())),
        Err(error) => Err(ApiError::Parameter(format!("ttl: {error}"))),
    }
}

fn content_type(request: &HttpRequest) -> Result<String, ApiError> {
    match single_header(request.headers(), &header::CONTENT_TYPE)? {
        None => Ok(OCTET_STREAM.to_owned()),
        Some(text) if is_content_type(text) => Ok(text.to_owned()),
        Some(_) => Err(ApiError::Rejected(Rejected::ContentType)),
    }
}
