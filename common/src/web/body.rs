//! Request bodies, within limits of size and time.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;

use super::problem::Problem;
use crate::error::ErrorKind;
use crate::ingest::Rejected;

/// Reads a request's body, of at most `limit` bytes and within `timeout`.
///
/// # Errors
/// A body that is announced or found to be too long is 413, a slow one 408, a broken one 400; each ends the
/// connection.
pub async fn read_body(
    headers: &HeaderMap,
    payload: &mut Payload,
    limit: usize,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.trim().parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let body = tokio::time::timeout(timeout, collect(payload, limit)).await;
    body.map_err(|_| slow(timeout))??.ok_or_else(|| too_large(limit))
}

/// Collects a body. Returns `None` if it has more than `limit` bytes.
async fn collect(payload: &mut Payload, limit: usize) -> Result<Option<Bytes>, Problem> {
    let Some(first) = payload.next().await else { return Ok(Some(Bytes::new())) };
    let first = first.map_err(broken)?;
    if first.len() > limit {
        return Ok(None);
    }
    // Most bodies come in one piece, which is then passed on as it is.
    let Some(second) = payload.next().await else { return Ok(Some(first)) };
    let mut body = BytesMut::from(first);
    let mut next = Some(second);
    while let Some(chunk) = next {
        let chunk = chunk.map_err(broken)?;
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
        next = payload.next().await;
    }
    Ok(Some(body.freeze()))
}

fn too_large(limit: usize) -> Problem {
    Problem::new(ErrorKind::TooLarge, Rejected::TooLarge { limit }.to_string()).close()
}

fn slow(timeout: Duration) -> Problem {
    let detail = format!("the body did not come within {timeout:?}");
    Problem::with_status(StatusCode::REQUEST_TIMEOUT, detail).close()
}

fn broken(_: actix_web::error::PayloadError) -> Problem {
    Problem::new(ErrorKind::Invalid, "the body is incomplete or malformed").close()
}
