//! `GET /v1/apps/{app}/events`: the events of an application, as server-sent events.
//!
//! A stream is one subscription. Its handler ([`tail`]) runs where blocking is allowed: it chooses events by their key
//! before they are decoded, and writes messages into a bounded [`pipe`], which makes it wait for a slow client. The
//! response ([`stream`]) takes them out on the server's thread.
//!
//! Every message has its position as `id`. Where no event brings one, a position comes alone: at the start, and with
//! the signs of life, so that `Last-Event-ID` never grows old while the client reads. A stream never goes on behind a
//! gap: it ends, and the client that resumes gets 410.

mod filter;
mod frame;
mod pipe;
mod stream;
mod tail;
#[cfg(test)]
mod tests;

use std::convert::Infallible;

use actix_web::http::header::{self, HeaderName};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use common::channel::{Channel, Cursor, Start};
use common::id::{AppId, DeviceId};
use common::registry::Scope;
use common::web::{Query, single_header};
use futures_util::stream::unfold;

use self::filter::Filter;
use self::stream::EventStream;
use crate::Api;
use crate::access::Access;
use crate::reply::ApiError;
use crate::request::{query, segment};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Answers with a stream of events. The head is sent when the start of the stream is fixed.
pub(crate) async fn follow(request: HttpRequest, api: Data<Api>) -> Result<HttpResponse, ApiError> {
    let access = Access::of(&request, &api).await?;
    let application = AppId::from_segment(segment(&request, "app"))?;
    access.permit(&application, Scope::Events)?;
    let query = query(&request, &["from", "channel", "device"])?;
    let filter = filter(&application, &query)?;
    let start = start(&request, &query)?;
    api.backends.registry.application(&application).await?;
    let permit = api.streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::TooManyStreams(api.max_streams))?;
    let stream = EventStream::open(&api, access, application, filter, start, permit).await?;
    let body = unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((Ok::<_, Infallible>(piece), stream))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Proxies of the nginx family collect a response before they pass it on, unless they are told not to.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(body)))
}

fn filter(application: &AppId, query: &Query) -> Result<Filter, ApiError> {
    let channel = |name: &str| {
        Channel::from_name(name).ok_or_else(|| {
            let known = Channel::ALL.map(Channel::as_str).join("', '");
            ApiError::Parameter(format!("there is no channel '{name}'; known are '{known}'"))
        })
    };
    let mut channels = query.all("channel").map(channel).collect::<Result<Vec<_>, _>>()?;
    channels.sort_unstable();
    channels.dedup();
    let device: Option<DeviceId> = query.one("device")?.map(str::parse).transpose()?;
    Ok(Filter::new(application, device.as_ref(), channels))
}

/// Finds the start. A position wins over `from`: a browser that comes again repeats its address as it was.
fn start(request: &HttpRequest, query: &Query) -> Result<Start, ApiError> {
    let from = match query.one("from")? {
        None | Some("latest") => Start::Latest,
        Some("earliest") => Start::Earliest,
        Some(_) => return Err(ApiError::Parameter("from is 'latest' or 'earliest'".to_owned())),
    };
    Ok(match single_header(request.headers(), &LAST_EVENT_ID)? {
        None | Some("") => from,
        Some(position) => Start::After(Cursor(position.to_owned())),
    })
}
