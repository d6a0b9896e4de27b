//! Request bodies, within limits of size and time.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;

use super::problem::Problem;
use crate::error::ErrorKind;
use crate::ingest::Rejected;

/// Says why a request's body was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is in a coding, which an event could not tell.
    #[error("content-encoding is not supported: send the payload as it is")]
    Encoded,
    /// It is announced or found to be longer than the limit.
    #[error("{}", Rejected::TooLarge { limit: *.limit })]
    TooLarge {
        /// The most bytes that a body may have.
        limit: usize,
    },
    /// It did not come in time.
    #[error("the body did not come within {0:?}")]
    Slow(Duration),
    /// It ended too early, or its chunks are malformed.
    #[error("the body is incomplete or malformed")]
    Broken,
}

impl BodyError {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Encoded | Self::Slow(_) | Self::Broken => ErrorKind::Invalid,
        }
    }
}

impl From<BodyError> for Problem {
    /// Answers 415, 413, 408 or 400. What broke off in the middle of a body ends the connection.
    fn from(error: BodyError) -> Self {
        let detail = error.to_string();
        match error {
            BodyError::Encoded => Self::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
                .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            BodyError::Slow(_) => Self::with_status(StatusCode::REQUEST_TIMEOUT, detail).close(),
            BodyError::TooLarge { .. } | BodyError::Broken => Self::new(error.kind(), detail).close(),
        }
    }
}

/// Reads a request's body as it was sent, of at most `limit` bytes and within `timeout`.
///
/// # Errors
/// Says why the body was not taken; what is left of it is not read.
pub async fn read_body(
    headers: &HeaderMap,
    payload: &mut Payload,
    limit: usize,
    timeout: Duration,
) -> Result<Bytes, BodyError> {
    refuse_encoded(headers)?;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.trim().parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(BodyError::TooLarge { limit });
    }
    let body = tokio::time::timeout(timeout, collect(payload, limit)).await;
    body.map_err(|_| BodyError::Slow(timeout))?
}

/// Refuses a body in a coding. [`read_body`] does so; this is for who reads a body piece by piece.
///
/// # Errors
/// Fails if a header names a coding other than `identity`.
pub fn refuse_encoded(headers: &HeaderMap) -> Result<(), BodyError> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING);
    let is_plain = codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if is_plain { Ok(()) } else { Err(BodyError::Encoded) }
}

async fn collect(payload: &mut Payload, limit: usize) -> Result<Bytes, BodyError> {
    let Some(first) = payload.next().await else { return Ok(Bytes::new()) };
    let first = first.map_err(|_| BodyError::Broken)?;
    if first.len() > limit {
        return Err(BodyError::TooLarge { limit });
    }
    // Most bodies come in one piece, which is then passed on as it is.
    let Some(second) = payload.next().await else { return Ok(first) };
    let mut body = BytesMut::from(first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        let chunk = chunk.map_err(|_| BodyError::Broken)?;
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        body.extend_from_slice(&chunk);
        next = payload.next().await;
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;

    use super::*;

    #[test]
    fn each_failure_has_its_status() {
        for (error, status) in [
            (BodyError::Encoded, 415),
            (BodyError::TooLarge { limit: 7 }, 413),
            (BodyError::Slow(Duration::from_secs(1)), 408),
            (BodyError::Broken, 400),
        ] {
            let text = error.to_string();
            let problem = Problem::from(error);
            assert_eq!(problem.status_code(), status, "{text}");
            assert!(problem.to_string().ends_with(&text), "{problem}");
        }
    }
}
