//! `/v1/apps/{app}/devices/{device}/commands`: commands on their way to a device, and what becomes of them.

mod answer;
mod existing;
mod options;
mod view;

use actix_web::http::header;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use common::channel::Channel;
use common::command::Command;
use common::event::{OCTET_STREAM, is_content_type, is_traceparent};
use common::id::{AppId, CommandName, DeviceKey};
use common::ingest::Rejected;
use common::ledger::{Idempotency, Submission, Submitted};
use common::service::{new_event_id, publish};
use common::tracker::Row;
use common::web::{TRACEPARENT, read_body, single_header};
use metrics::counter;

use crate::Api;
use crate::access::Access;
use crate::reply::ApiError;
use crate::request::{query, segment};
use crate::tracker::Watch;
pub(crate) use existing::{cancel, cancel_all, list, show};
use options::Options;
pub(crate) use view::View;

/// Accepts a command: 202 when the channel has persisted it. Then waits for what becomes of it, if that was asked for.
pub(crate) async fn submit(
    request: HttpRequest,
    mut payload: Payload,
    api: Data<Api>,
) -> Result<HttpResponse, ApiError> {
    let result = accept(&request, &mut payload, &api).await;
    let counted = result.as_ref().map_or_else(|error| error.kind().as_str(), |_| "accepted");
    counter!("drogue_commands_submitted_total", "result" => counted).increment(1);
    let Accepted { row, wait } = result?;
    match wait {
        None => Ok(answer::accepted(&row)),
        Some((wait, watch)) => answer::after(&api, row, wait, watch).await,
    }
}

/// A command that is accepted, and the wait that was asked for.
struct Accepted {
    row: Row,
    wait: Option<(options::Wait, Watch)>,
}

async fn accept(request: &HttpRequest, payload: &mut Payload, api: &Api) -> Result<Accepted, ApiError> {
    let device = commanded(request, api).await?;
    let name = CommandName::from_segment(segment(request, "name"))?;
    let options = Options::read(request)?;
    let content_type = content_type(request)?;
    let traceparent = single_header(request.headers(), &TRACEPARENT).unwrap_or_default();
    let traceparent = traceparent.filter(|text| is_traceparent(text)).map(str::to_owned);
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
        expires: now.saturating_add(options.ttl.unwrap_or(limits.command_lifetime)),
        kept: options.ttl.is_some(),
        content_type,
        payload,
    };
    let watch = match options.wait {
        Some(wait) => Some((wait, api.tracker()?.watch(command.id.clone()))),
        None => None,
    };
    let mut superseded = Vec::new();
    if options.needs_row() {
        match api.tracker()?.ledger().submit(submission(api, &options, &command)).await? {
            Submitted::New { superseded: rows } => superseded = rows,
            Submitted::Same(row) => return again(api, row, options.wait).await,
            Submitted::Conflict => return Err(ApiError::KeyConflict),
            Submitted::Full => return Err(ApiError::TooManyPending(api.max_pending)),
        }
    }
    let row = Row::accepted(&command, now);
    let event = command.into_event(now, traceparent);
    publish(&*backends.sink, Channel::Commands, event, limits.publish_timeout).await?;
    for old in superseded {
        existing::tell(api, &old, row.id.clone()).await;
    }
    Ok(Accepted { row, wait: watch })
}

/// Returns the device of the path, which the bearer may command.
async fn commanded(request: &HttpRequest, api: &Api) -> Result<DeviceKey, ApiError> {
    let access = Access::of(request, api).await?;
    let application = AppId::from_segment(segment(request, "app"))?;
    access.command(&application, segment(request, "device")).await
}

fn submission(api: &Api, options: &Options, command: &Command) -> Submission {
    Submission {
        command: command.clone(),
        accepted: api.backends.clock.wall(),
        idempotency: options
            .idempotency_key
            .clone()
            .map(|key| Idempotency { key, fingerprint: options.fingerprint(command) }),
        supersede: options.supersede.clone(),
        max_pending: api.max_pending,
    }
}

/// Goes on with a command that the same request made before.
async fn again(api: &Api, row: Row, wait: Option<options::Wait>) -> Result<Accepted, ApiError> {
    let Some(wait) = wait else { return Ok(Accepted { row, wait: None }) };
    let watch = api.tracker()?.watch(row.id.clone());
    // What was read before the watch began, the ledger may not know yet.
    let row = existing::find(api, &row.device, &row.id).await?.unwrap_or(row);
    watch.learn(row.state, row.reason);
    Ok(Accepted { row, wait: Some((wait, watch)) })
}

fn content_type(request: &HttpRequest) -> Result<String, ApiError> {
    match single_header(request.headers(), &header::CONTENT_TYPE)? {
        None => Ok(OCTET_STREAM.to_owned()),
        Some(text) if is_content_type(text) => Ok(text.to_owned()),
        Some(_) => Err(ApiError::Rejected(Rejected::ContentType)),
    }
}

/// Tells how a device can be reached.
pub(crate) async fn connection(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let device = commanded(&request, &api).await?;
    query(&request, &[])?;
    if !api.backends.registry.device_exists(&device).await? {
        return Err(ApiError::NoDevice(device));
    }
    let reach = api.tracker()?.reach(&device).unwrap_or_default();
    Ok(HttpResponse::Ok().json(view::Connection::of(&reach)))
}
