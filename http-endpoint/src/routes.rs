//! From a request to telemetry and a wait.

use std::time::Duration;

use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use common::error::ErrorKind;
use common::ingest::{Rejected, Telemetry, Ttd};
use common::service::{DeviceService, Protocol, TelemetryOutcome};
use common::subject::Subject;
use common::web::{Problem, Query, TRACEPARENT, is_gone, read_body, single_header};

use crate::credentials;
use crate::reply::{self, Unfit};

const PREFIX: &str = "/v1/";

/// What the handlers of all workers share.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) service: DeviceService,
    pub(crate) body_timeout: Duration,
}

/// Registers the one handler.
pub(crate) fn configure(app: &mut ServiceConfig) {
    // Not as a resource: that is found by a regular expression, which took 7 % of the processor time of a request.
    app.default_service(web::to(telemetry));
}

/// Takes telemetry, and answers with the first command where the device waits for one.
async fn telemetry(
    request: HttpRequest,
    mut payload: Payload,
    endpoint: Data<Endpoint>,
) -> Result<HttpResponse, Problem> {
    let path = telemetry_path(&request)?;
    let service = &endpoint.service;
    // First of all, so that strangers learn nothing and their bodies are not read.
    let login = credentials::login(request.headers());
    let login = login.ok_or_else(|| reply::failed(service.refuse_login(Protocol::Http)))?;
    let session = service.log_in(Protocol::Http, &login, None).await.map_err(reply::failed)?;
    drop(login);
    let (telemetry, wait) = read(path, &request, &mut payload, &endpoint).await.inspect_err(|unfit| {
        session.count(TelemetryOutcome::Failed(unfit.kind()));
    })?;
    let Some(ttd) = wait.granted else {
        session.publish(telemetry, None).await.map_err(reply::failed)?;
        return Ok(reply::accepted(wait.instead));
    };
    let delivery = session.exchange(telemetry, ttd).await.map_err(reply::failed)?;
    match delivery {
        // What is not begun is given back when it is dropped.
        Some(delivery) if !is_gone(&request) => Ok(reply::command(delivery, wait.instead)),
        Some(_) | None => Ok(reply::accepted(wait.instead)),
    }
}

/// Returns what follows the prefix in the path as it was sent: the router's has been decoded in part.
fn telemetry_path(request: &HttpRequest) -> Result<&str, Problem> {
    let Some(path) = request.uri().path().strip_prefix(PREFIX) else {
        return Err(Problem::new(ErrorKind::NotFound, "telemetry is sent to /v1/{subject}"));
    };
    if request.method() == Method::POST {
        return Ok(path);
    }
    let problem = Problem::with_status(StatusCode::METHOD_NOT_ALLOWED, "telemetry is sent by POST");
    Err(problem.header(header::ALLOW, HeaderValue::from_static("POST")))
}

/// Reads telemetry, and how long the device will wait.
async fn read(
    path: &str,
    request: &HttpRequest,
    payload: &mut Payload,
    endpoint: &Endpoint,
) -> Result<(Telemetry, Wait), Unfit> {
    let limits = endpoint.service.limits();
    let wait = Wait::of(request.query_string(), limits.max_ttd)?;
    let mut telemetry = read_head(path, request.headers())?;
    telemetry.payload =
        read_body(request.headers(), payload, limits.max_payload, endpoint.body_timeout).await?;
    Ok((telemetry, wait))
}

/// Reads what a request's head says of its telemetry.
fn read_head(path: &str, headers: &HeaderMap) -> Result<Telemetry, Unfit> {
    let subject = Subject::from_path(path).map_err(Rejected::from)?;
    let content_type = single_header(headers, &header::CONTENT_TYPE)?.map(str::to_owned);
    // Tracing is no reason to refuse telemetry: one that cannot be used is as good as none.
    let traceparent = single_header(headers, &TRACEPARENT).unwrap_or_default().map(str::to_owned);
    Ok(Telemetry { subject, content_type, traceparent, payload: web::Bytes::new() })
}

/// How long a device waits for a command.
#[derive(Debug, PartialEq, Eq)]
struct Wait {
    granted: Option<Ttd>,
    /// The seconds that the device gets instead of those that it asked for.
    instead: Option<String>,
}

impl Wait {
    fn of(query: &str, maximum: Duration) -> Result<Self, Unfit> {
        let query = Query::parse(query, &["ttd"])?;
        let asked = query.one("ttd")?.map_or(Ok(None), Ttd::parse)?;
        let granted = asked.map(|ttd| ttd.at_most(maximum)).filter(|ttd| !ttd.duration().is_zero());
        let seconds = || granted.map_or_else(|| "0".to_owned(), |ttd| ttd.to_string());
        Ok(Self { granted, instead: (asked != granted).then(seconds) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAXIMUM: Duration = Duration::from_secs(60);

    /// Returns the seconds granted, and those that the device is told of.
    fn wait(query: &str, maximum: Duration) -> Option<(Option<String>, Option<String>)> {
        let wait = Wait::of(query, maximum).ok()?;
        Some((wait.granted.map(|ttd| ttd.to_string()), wait.instead))
    }

    #[test]
    fn a_wait_is_granted_up_to_the_maximum() {
        let seconds = |text: &str| Some(text.to_owned());
        for (query, granted, instead) in [
            ("", None, None),
            ("ttd=0", None, None),
            ("ttd=2.5", seconds("2.5"), None),
            ("ttd=%33%30", seconds("30"), None),
            ("ttd=60", seconds("60"), None),
            ("ttd=60.001", seconds("60"), seconds("60")),
            ("ttd=99999999999999999999999", seconds("60"), seconds("60")),
        ] {
            assert_eq!(wait(query, MAXIMUM), Some((granted, instead)), "{query}");
        }
        assert_eq!(wait("ttd=1", Duration::ZERO), Some((None, seconds("0"))));
    }

    #[test]
    fn anything_else_in_the_query_is_refused() {
        for query in ["ttd=", "ttd", "ttd=-1", "ttd=NaN", "ttd=1e3", "ttd=+1", "ttd=1&ttd=1", "TTD=1", "x=1"]
        {
            assert_eq!(wait(query, MAXIMUM), None, "{query}");
        }
        let problem = Wait::of("ttd=1&wait=2", MAXIMUM).unwrap_err();
        assert!(problem.to_string().contains("'wait'"), "{problem}");
    }
}
