//! Reading requests: segments of the path, parameters, JSON.

use actix_web::HttpRequest;
use actix_web::web::Payload;
use common::web::{Query, QueryError, read_body};
use serde::de::DeserializeOwned;

use crate::Api;
use crate::reply::ApiError;

/// Returns a segment of the path that the route names. What is percent-encoded in it is still so, or decoded once.
///
/// The router decodes what cannot be mistaken (not `%`, `/` and `+`), so that decoding the rest decodes nothing twice.
pub(crate) fn segment<'a>(request: &'a HttpRequest, name: &str) -> &'a str {
    request.match_info().query(name)
}

/// Reads the parameters of a request that knows those named `known`.
pub(crate) fn query(request: &HttpRequest, known: &'static [&'static str]) -> Result<Query, QueryError> {
    Query::parse(request.query_string(), known)
}

/// Reads a body of JSON; an empty one is an object without members.
pub(crate) async fn read_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: &mut Payload,
    api: &Api,
) -> Result<T, ApiError> {
    let limit = api.backends.limits.max_payload;
    let body = read_body(request.headers(), payload, limit, api.body_timeout).await?;
    let text = if body.is_empty() { b"{}" } else { body.as_ref() };
    parse_object(text).map_err(ApiError::Json)
}

/// Parses a JSON object. An array of the members' values, which serde would take too, is none.
pub(crate) fn parse_object<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err("expected a JSON object".to_owned());
    }
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use common::device::DeviceSpec;

    use super::*;

    #[test]
    fn only_an_object_is_an_object() {
        assert!(parse_object::<DeviceSpec>(b" {\"enabled\": false}").is_ok());
        for bad in [&b"[\"d5\", false]"[..], b"[]", b"null", b"", b"x"] {
            assert_eq!(parse_object::<DeviceSpec>(bad), Err("expected a JSON object".to_owned()));
        }
        assert!(parse_object::<DeviceSpec>(b"{").is_err());
    }
}
