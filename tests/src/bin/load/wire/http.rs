//! HTTP/1.1, as far as the load tool speaks it: prepared requests, and answers with a length.

use std::time::Instant;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Answer, Wire};
use crate::fleet::Login;

/// The longest head of an answer.
const MAX_HEAD: usize = 8 * 1024;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    /// Its length on the wire.
    pub(crate) len: usize,
    /// The status code.
    pub(crate) status: u16,
    /// The status line and the headers.
    head: &'a str,
    /// The body.
    pub(crate) body: &'a [u8],
}

impl<'a> Response<'a> {
    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        header(self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Parses the first answer in `input`. Returns `None` if it is not complete.
///
/// # Errors
/// Fails if this is no HTTP/1.1, or the answer has no length.
pub(crate) fn parse(input: &[u8]) -> anyhow::Result<Option<Response<'_>>> {
    let Some(head_len) = input.windows(4).position(|end| end == b"\r\n\r\n").map(|place| place + 4) else {
        ensure!(input.len() <= MAX_HEAD, "the head of an answer is longer than {MAX_HEAD} bytes");
        return Ok(None);
    };
    let head = std::str::from_utf8(&input[..head_len]).context("an answer's head is no text")?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(|status| status.parse().ok()).context("an answer is no HTTP/1.1")?;
    let body_len = header(head, "content-length")
        .and_then(|value| value.parse::<usize>().ok())
        .context("an answer has no content-length")?;
    let body = input.get(head_len..head_len + body_len);
    Ok(body.map(|body| Response { len: head_len + body_len, status, head, body }))
}

/// Builds a POST. `authorization` is the whole value of that header, if there is one.
pub(crate) fn post(target: &str, authorization: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut request =
        format!("POST {target} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n");
    if let Some(authorization) = authorization {
        request += &format!("authorization: {authorization}\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n", body.len());
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    request
}

/// Returns the `authorization` of a device, if it has any.
pub(crate) fn basic(login: &Login) -> Option<String> {
    let (user, password) = (login.user.as_deref()?, login.password.as_deref().unwrap_or_default());
    Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// Telemetry of a device.
#[derive(Debug)]
pub(crate) struct Telemetry {
    request: Vec<u8>,
}

impl Telemetry {
    /// Prepares a POST of telemetry.
    pub(crate) fn new(login: &Login, subject: &str, payload: &[u8]) -> Self {
        Self { request: post(&format!("/v1/{subject}"), basic(login).as_deref(), payload) }
    }
}

impl Wire for Telemetry {
    fn request(&mut self, _intended: Instant, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
    }

    fn answer(&mut self, input: &[u8]) -> anyhow::Result<Option<Answer>> {
        let response = parse(input)?;
        Ok(response.map(|response| Answer { len: response.len, accepted: response.status == 202 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_complete() {
        let login = Login { client_id: "c".into(), user: Some("u".into()), password: Some("p".into()) };
        let mut out = Vec::new();
        Telemetry::new(&login, "t", b"42").request(crate::pace::now(), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "POST /v1/t HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             authorization: Basic dTpw\r\ncontent-length: 2\r\n\r\n42"
        );
    }

    #[test]
    fn answers_are_told_apart() {
        let two = b"HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n";
        let first = parse(two).unwrap().unwrap();
        assert_eq!((first.status, first.body), (202, &b"abc"[..]));
        assert_eq!((first.header("content-length"), first.header("command-id")), (Some("3"), None));
        assert_eq!(parse(&two[first.len..]).unwrap().unwrap().status, 503);
        assert_eq!(parse(&two[..first.len - 1]).unwrap(), None);
        assert_eq!(parse(b"HTTP/1.1 20").unwrap(), None);
        assert!(parse(b"HTTP/1.0 200 OK\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}
