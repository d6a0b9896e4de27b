//! What every request passes on its way in and every response on its way out.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Bytes;
use actix_web::{Error, HttpRequest, ResponseError};

use super::problem::Problem;
use super::stream::{Activity, Serving};
use crate::error::ErrorKind;
use crate::process::Shutdown;

/// What is answered in a handler's place at the end of a shutdown.
const SHUTS_DOWN: &str = "the server shuts down, try again later";

/// Tells whether the client of a request is known to be gone.
pub fn is_gone(request: &HttpRequest) -> bool {
    request.conn_data::<Activity>().is_some_and(Activity::is_closed)
}

/// Refuses what the protocol layer lets through, gives every failure the form of a problem, and answers for a handler
/// that still waits when `give_up` is cancelled.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<BoxBody>,
    give_up: Shutdown,
) -> Result<ServiceResponse<Guarded>, Error> {
    let activity = request.conn_data::<Activity>().cloned();
    let serving = activity.as_ref().map(Activity::serve);
    let response = if asks_for_websocket(request.headers()) {
        // The protocol layer would read such a request's body to the end of the connection, whatever its length says.
        let refused =
            Problem::new(ErrorKind::Invalid, "this server does not upgrade to another protocol").close();
        request.into_response(refused.error_response())
    } else {
        match give_up.run_until_cancelled(next.call(request)).await {
            Some(response) => response?,
            None => {
                if let Some(activity) = activity {
                    activity.end();
                }
                // The request went with its handler. What is left of its body is not read.
                return Err(Problem::new(ErrorKind::Unavailable, SHUTS_DOWN).close().into());
            }
        }
    };
    let response = if is_bare_error(&response) { explain(response) } else { response };
    if let Some(activity) =
        activity.filter(|_| response.response().head().connection_type() == ConnectionType::Close)
    {
        activity.end();
    }
    Ok(response.map_body(|_, body| Guarded { body, _serving: serving }))
}

fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(header::UPGRADE);
    upgrades.any(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

fn is_bare_error(response: &ServiceResponse) -> bool {
    let status = response.status();
    (status.is_client_error() || status.is_server_error())
        && !response.headers().contains_key(header::CONTENT_TYPE)
        && matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0))
}

/// Makes a problem of an error that the router found, and keeps its headers (`allow`).
fn explain(response: ServiceResponse) -> ServiceResponse {
    let status = response.status();
    let detail = match status {
        StatusCode::NOT_FOUND => "there is nothing at this path",
        StatusCode::METHOD_NOT_ALLOWED => "this path does not know this method",
        _ => "the request cannot be answered",
    };
    let problem =
        response.headers().iter().fold(Problem::with_status(status, detail), |problem, (name, value)| {
            problem.header(name.clone(), value.clone())
        });
    let (request, _) = response.into_parts();
    ServiceResponse::new(request, problem.error_response())
}

/// A response's body. The request is over when it is dropped.
pub(super) struct Guarded {
    body: BoxBody,
    _serving: Option<Serving>,
}

impl MessageBody for Guarded {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}
