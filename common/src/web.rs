//! What the HTTP servers share: limits on connections, TLS, problems, the admin server.
//!
//! A server is a function that registers routes ([`serve`]); its handlers answer a [`Problem`] where they fail, and read
//! bodies with [`read_body`], headers with [`single_header`], parameters with [`Query`]. What is the same for every server is here: where it listens, how long each stage of a
//! connection may take, what becomes of it at shutdown, and the form of errors.
//!
//! HTTP/1.1 only. A connection passes these stages, each with a time limit in [`WebConfig`]: TLS handshake, request
//! head, request body, idle between requests, a write that the client does not take. actix-http limits a request's head
//! to 128 KiB and 96 fields (431). It refuses what smuggling is made of (both `content-length` and
//! `transfer-encoding`, either of them twice, `transfer-encoding` in HTTP/1.0, malformed chunks) and closes the
//! connection; `guard` refuses the rest. A client that half-closes its connection gets no answer: it counts as gone.

pub mod admin;
mod body;
mod front;
mod guard;
mod problem;
mod request;
mod server;
mod stream;
#[cfg(test)]
mod tests;

pub use body::{BodyError, read_body, refuse_encoded};
pub use guard::is_gone;
pub use problem::{Challenge, PROBLEM_JSON, Problem};
pub use request::{HeaderError, Query, QueryError, TRACEPARENT, single_header};
pub use server::{WebConfig, WebError, serve};
