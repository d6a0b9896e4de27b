//! From a request to a reply to a command.

use actix_web::http::header;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use common::id::EventId;
use common::outcome::Reply;
use common::replies::read_status;
use common::service::{MessageKind, MessageOutcome};
use common::web::{Problem, Query, read_body, single_header};

use crate::reply::{self, Unfit};
use crate::routes::{Endpoint, log_in};

/// Returns the command's id as it was sent, if the path behind the prefix is one of replies.
pub(crate) fn command_of(path: &str) -> Option<&str> {
    let id = path.strip_prefix("commands/")?.strip_suffix("/reply")?;
    (!id.contains('/')).then_some(id)
}

/// Takes the reply of a device to a command.
pub(crate) async fn take(
    id: &str,
    request: &HttpRequest,
    payload: &mut Payload,
    endpoint: &Endpoint,
) -> Result<HttpResponse, Problem> {
    let session = log_in(request, &endpoint.service).await?;
    let (command, reply) = read(id, request, payload, endpoint).await.inspect_err(|unfit| {
        session.count(MessageKind::Reply, MessageOutcome::Failed(unfit.kind()));
    })?;
    session.reply(command, reply).await.map_err(reply::failed)?;
    Ok(reply::accepted(None))
}

async fn read(
    id: &str,
    request: &HttpRequest,
    payload: &mut Payload,
    endpoint: &Endpoint,
) -> Result<(EventId, Reply), Unfit> {
    let command = EventId::from_segment(id)?;
    let status = status(request.query_string())?;
    let headers = request.headers();
    let content_type = single_header(headers, &header::CONTENT_TYPE)?.map(str::to_owned);
    let limit = endpoint.service.limits().max_payload;
    let payload = read_body(headers, payload, limit, endpoint.body_timeout).await?;
    Ok((command, Reply::received(status, content_type, payload)))
}

fn status(query: &str) -> Result<Option<u16>, Unfit> {
    let query = Query::parse(query, &["status"])?;
    Ok(query.one("status")?.map(read_status).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_replies_has_three_levels() {
        assert_eq!(command_of("commands/0193-a/reply"), Some("0193-a"));
        for other in ["commands", "commands/reply", "commands/a/b/reply", "commands/a/reply/", "t/a/reply"] {
            assert_eq!(command_of(other), None, "{other}");
        }
        // Refused where the id is read: it is no path of telemetry either.
        assert_eq!(command_of("commands//reply"), Some(""));
    }

    #[test]
    fn a_status_has_three_digits() {
        for (query, expected) in [("", None), ("status=100", Some(100)), ("status=%35%399", Some(599))] {
            assert_eq!(status(query).ok(), Some(expected), "{query}");
        }
        for bad in ["status=", "status=99", "status=600", "status=+20", "status=200&status=200", "x=1"] {
            assert!(status(bad).is_err(), "{bad}");
        }
    }
}
