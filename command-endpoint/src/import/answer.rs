//! A line of the answer to an import.

use actix_web::ResponseError;
use actix_web::http::StatusCode;
use common::device::Credential;
use common::registry::PutDevice;
use serde::Serialize;

use crate::devices::{made, put_status};
use crate::reply::ApiError;

/// What became of a line.
#[derive(Debug, Default, Serialize)]
pub(super) struct Answer {
    /// The line's number in the body.
    pub(super) line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    status: u16,
    /// Credentials that were made; they are shown this once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    credentials: Vec<Credential>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Answer {
    /// Answers a line that was written.
    pub(super) fn put(line: usize, put: PutDevice) -> Self {
        Self {
            line,
            name: Some(put.device.name.to_string()),
            status: put_status(put.put).as_u16(),
            credentials: made(put.tokens),
            detail: None,
        }
    }

    /// Answers a line that has no device in it.
    pub(super) fn failed(line: usize, status: StatusCode, detail: String) -> Self {
        Self { line, status: status.as_u16(), detail: Some(detail), ..Self::default() }
    }

    /// Answers a line whose device was not written.
    pub(super) fn refused(line: usize, name: Option<String>, error: &ApiError) -> Self {
        Self { name, ..Self::failed(line, error.status_code(), error.to_string()) }
    }

    /// Adds the answer to others.
    pub(super) fn write(&self, answers: &mut Vec<u8>) {
        // Writing strings and numbers into memory does not fail.
        if serde_json::to_writer(&mut *answers, self).is_ok() {
            answers.push(b'\n');
        }
    }
}
