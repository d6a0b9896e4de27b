//! From an outcome to a response.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use common::error::ErrorKind;
use common::id::InvalidId;
use common::ingest::Rejected;
use common::outcome::{Confirmation, Outcome};
use common::service::{Delivery, ServiceError};
use common::web::{BodyError, Challenge, HeaderError, Problem, QueryError};

use crate::batch::{self, BATCH_JSON};

const COMMAND: HeaderName = HeaderName::from_static("command");
const COMMAND_COUNT: HeaderName = HeaderName::from_static("command-count");
const COMMAND_ID: HeaderName = HeaderName::from_static("command-id");
const TTD: HeaderName = HeaderName::from_static("ttd");

/// Answers a request that failed.
pub(crate) fn failed(error: ServiceError) -> Problem {
    Problem::new(error.kind(), error.to_string()).challenge(Challenge::Basic)
}

/// Says why a request is no telemetry, or no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Id(#[from] InvalidId),
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

impl Unfit {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Query(error) => error.kind(),
            Self::Header(error) => error.kind(),
            Self::Body(error) => error.kind(),
            Self::Id(_) => ErrorKind::Invalid,
            Self::Rejected(error) => error.kind(),
        }
    }
}

impl From<Unfit> for Problem {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            // It has statuses of its own, and knows when the connection must be closed.
            Unfit::Body(error) => error.into(),
            Unfit::Query(_) | Unfit::Header(_) | Unfit::Id(_) | Unfit::Rejected(_) => {
                Problem::new(unfit.kind(), unfit.to_string())
            }
        }
    }
}

/// Answers telemetry or a reply that is persisted, without a command. `ttd` is the wait, if it was not the one asked for.
pub(crate) fn accepted(ttd: Option<String>) -> HttpResponse {
    let mut response = HttpResponse::Accepted();
    if let Some(seconds) = ttd {
        response.append_header((TTD, seconds));
    }
    response.finish()
}

/// Answers telemetry that is persisted, with the command that came for the device unless it has just lapsed.
pub(crate) fn command(mut delivery: Delivery, ttd: Option<String>) -> HttpResponse {
    let mut response = accepted(ttd);
    let Some(command) = delivery.begin() else { return response };
    let fields = || -> Result<[(HeaderName, HeaderValue); 3], header::InvalidHeaderValue> {
        Ok([
            (COMMAND, HeaderValue::from_str(command.name.as_str())?),
            (COMMAND_ID, HeaderValue::from_str(command.id.as_str())?),
            (header::CONTENT_TYPE, HeaderValue::from_str(&command.content_type)?),
        ])
    };
    match fields() {
        Ok(fields) => fields.into_iter().for_each(|(name, value)| {
            response.headers_mut().insert(name, value);
        }),
        // The core lets no such command through; were it to, the device would not get half of one.
        Err(error) => {
            tracing::error!(id = command.id.as_str(), %error, "command does not fit into headers");
            return response;
        }
    }
    response.set_body(BoxBody::new(CommandBody::new(command.payload, vec![delivery])))
}

/// Answers telemetry that is persisted, with all commands that came for the device but those that have just lapsed, as
/// one batch.
pub(crate) fn batch(mut deliveries: Vec<Delivery>, ttd: Option<String>) -> HttpResponse {
    let mut response = accepted(ttd);
    let mut commands = Vec::with_capacity(deliveries.len());
    deliveries.retain_mut(|delivery| {
        let command = delivery.begin();
        let goes_on = command.is_some();
        commands.extend(command);
        goes_on
    });
    if commands.is_empty() {
        return response;
    }
    let count = HeaderValue::from(commands.len());
    match batch::write(commands) {
        Ok(events) => {
            response.headers_mut().insert(COMMAND_COUNT, count);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(BATCH_JSON));
            response.set_body(BoxBody::new(CommandBody::new(events.into(), deliveries)))
        }
        Err(error) => {
            tracing::error!(%error, "commands do not fit into a batch");
            response
        }
    }
}

/// What a response brings of commands. They are delivered once the connection has taken all of it.
struct CommandBody {
    payload: Bytes,
    taken: bool,
    deliveries: Vec<Delivery>,
}

impl CommandBody {
    fn new(payload: Bytes, deliveries: Vec<Delivery>) -> Self {
        let mut body = Self { payload, taken: false, deliveries };
        // An empty body is never polled: the response's head is all that there is to hand over.
        if body.payload.is_empty() {
            body.delivered();
        }
        body
    }

    fn delivered(&mut self) {
        for delivery in self.deliveries.drain(..) {
            delivery.finish(Outcome::Delivered(Confirmation::Written));
        }
    }
}

impl MessageBody for CommandBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.payload.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.taken {
            self.delivered();
            return Poll::Ready(None);
        }
        self.taken = true;
        Poll::Ready(Some(Ok(self.payload.clone())))
    }
}
