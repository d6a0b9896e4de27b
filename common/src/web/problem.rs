//! Errors as RFC 9457 problem details.

use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::ErrorKind;

/// The media type of problem details.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// How a client should authenticate itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password, RFC 7617.
    Basic,
    /// A token, RFC 6750.
    Bearer,
}

/// An error response with the body `{"title", "status", "detail"}`.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    members: Map<String, Value>,
    close: bool,
}

impl Problem {
    /// Makes the response to a kind of failure. `detail` is shown to the client.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self::with_status(status(kind), detail)
    }

    /// Makes the response to a failure that only HTTP knows.
    pub fn with_status(status: StatusCode, detail: impl Into<String>) -> Self {
        let problem =
            Self { status, detail: detail.into(), headers: Vec::new(), members: Map::new(), close: false };
        match status {
            // What failed for want of capacity or of something else may succeed at once elsewhere or a little later.
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                problem.header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
            _ => problem,
        }
    }

    /// Adds how to authenticate, if that is what the problem is about (RFC 9110, section 11.6.1).
    pub fn challenge(self, challenge: Challenge) -> Self {
        if self.status != StatusCode::UNAUTHORIZED {
            return self;
        }
        let value = match challenge {
            Challenge::Basic => r#"Basic realm="drogue", charset="UTF-8""#,
            Challenge::Bearer => r#"Bearer realm="drogue""#,
        };
        self.header(header::WWW_AUTHENTICATE, HeaderValue::from_static(value))
    }

    /// Adds a header to the response.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds members to the body (RFC 9457, section 3.2).
    pub fn members(mut self, members: Map<String, Value>) -> Self {
        self.members.extend(members);
        self
    }

    /// Closes the connection behind the response: what else came on it is not to be trusted.
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }
}

/// Returns the status of a kind of failure.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid | ErrorKind::Reserved => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Gone => StatusCode::GONE,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = HttpResponse::build(self.status);
        for header in &self.headers {
            response.append_header(header.clone());
        }
        if self.close {
            response.force_close();
        }
        // The type is left out, which RFC 9457 reads as `about:blank`: the title is that of the status.
        response.content_type(PROBLEM_JSON).json(Body {
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            members: &self.members,
        })
    }
}

#[derive(Serialize)]
struct Body<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use actix_web::body::MessageBody;

    use super::*;

    #[test]
    fn a_problem_is_json_with_title_status_and_detail() {
        let response = Problem::new(ErrorKind::TooLarge, "say \"less\"").error_response();
        assert_eq!(response.status(), 413);
        assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), PROBLEM_JSON);
        let body = response.into_body().try_into_bytes().unwrap();
        assert_eq!(body, r#"{"title":"Payload Too Large","status":413,"detail":"say \"less\""}"#);
    }

    #[test]
    fn a_problem_has_members_of_its_own() {
        let members = Map::from_iter([("state".to_owned(), Value::from("expired"))]);
        let response = Problem::new(ErrorKind::Conflict, "x").members(members).error_response();
        let body = response.into_body().try_into_bytes().unwrap();
        assert_eq!(body, r#"{"title":"Conflict","status":409,"detail":"x","state":"expired"}"#);
    }

    #[test]
    fn only_the_unauthenticated_are_challenged() {
        let challenges = |kind| {
            let response = Problem::new(kind, "x").challenge(Challenge::Basic).error_response();
            response.headers().get(header::WWW_AUTHENTICATE).cloned()
        };
        let basic = HeaderValue::from_static(r#"Basic realm="drogue", charset="UTF-8""#);
        assert_eq!(challenges(ErrorKind::Unauthenticated), Some(basic));
        assert_eq!(challenges(ErrorKind::Forbidden), None);
    }

    #[test]
    fn what_may_succeed_later_says_when() {
        for (kind, expected) in
            [(ErrorKind::Overloaded, true), (ErrorKind::Unavailable, true), (ErrorKind::Conflict, false)]
        {
            let response = Problem::new(kind, "x").error_response();
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), expected, "{kind:?}");
        }
    }
}
