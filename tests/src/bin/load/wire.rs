//! What goes over the wire, as bytes that are built once and answers that are looked at no further than needed.
//!
//! The generator shares the processor with the server that it measures, so it must be light.

pub(crate) mod http;
pub(crate) mod mqtt;

use std::time::Instant;

/// An answer to a request, in the order of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its length on the wire.
    pub(crate) len: usize,
    /// Whether the request was accepted.
    pub(crate) accepted: bool,
}

/// Makes requests and understands their answers, which come in the order of the requests.
pub(crate) trait Wire {
    /// Appends the next request, which should be sent at `intended`.
    fn request(&mut self, intended: Instant, out: &mut Vec<u8>);

    /// Parses the first answer in `input`. Returns `None` if it is not complete.
    ///
    /// # Errors
    /// Fails if the server breaks the protocol.
    fn answer(&mut self, input: &[u8]) -> anyhow::Result<Option<Answer>>;
}
