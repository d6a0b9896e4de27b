//! Several commands in one response: the JSON batch format of CloudEvents, version 1.0, section 4.

use actix_web::http::header::{self, HeaderMap};
use common::command::Command;
use common::event::json;
use common::time::Timestamp;

/// The media type of a batch.
pub(crate) const BATCH_JSON: &str = "application/cloudevents-batch+json";

/// The most commands of a batch.
pub(crate) const MOST: u32 = 100;

/// Tells whether a request takes a batch. A range such as `*/*`, which every client sends, does not ask for one.
pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::ACCEPT).filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).any(names_batch)
}

/// Judges one media range (RFC 9110, section 12.5.1).
fn names_batch(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(BATCH_JSON));
    named && !parts.any(is_weight_of_zero)
}

/// Tells whether a parameter says that the range is not wanted.
fn is_weight_of_zero(parameter: &str) -> bool {
    let weight = parameter.strip_prefix(['q', 'Q']).and_then(|rest| rest.strip_prefix('='));
    weight.is_some_and(|weight| weight.parse() == Ok(0.0_f32))
}

/// Writes commands as a batch, in their order. When each was accepted is not known here, and so `time` is left out.
pub(crate) fn write(commands: Vec<Command>) -> Result<Vec<u8>, json::Unwritable> {
    let unknown = Timestamp::from_millis(0);
    let events: Vec<_> = commands.into_iter().map(|command| command.into_event(unknown, None)).collect();
    json::batch_without_time(&events)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn accepted(fields: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::ACCEPT, HeaderValue::from_static(field));
        }
        is_accepted(&headers)
    }

    #[test]
    fn only_a_request_that_names_it_takes_a_batch() {
        assert!(accepted(&["application/cloudevents-batch+json"]));
        assert!(accepted(&[
            "text/plain",
            "*/*;q=0.1, Application/CloudEvents-Batch+JSON ; charset=utf-8;q=0.5"
        ]));
        assert!(!accepted(&[]) && !accepted(&["*/*"]) && !accepted(&["application/*, text/plain"]));
        assert!(!accepted(&["application/cloudevents+json"]));
        assert!(!accepted(&[
            "application/cloudevents-batch+json;q=0",
            "application/cloudevents-batch+json;q=0.000"
        ]));
    }
}
