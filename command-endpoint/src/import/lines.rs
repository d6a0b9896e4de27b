//! The lines of a request's body, one by one, as they come.

use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

/// The longest line, in bytes. A device with all that it may have is shorter.
pub(super) const MAX_LINE: usize = 64 * 1024;

/// A line that is not blank.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number in the body, from 1; blank lines count.
    pub(super) number: usize,
    /// Its text without the line break, if it is not longer than [`MAX_LINE`].
    pub(super) text: Option<Bytes>,
}

/// Says why no further line comes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineError {
    /// A line took too long.
    #[error("the line did not come within {0:?} (option --api-body-timeout)")]
    Slow(Duration),
    /// The body is cut off or malformed.
    #[error("the body is incomplete or malformed")]
    Broken,
}

impl LineError {
    /// Returns the status of the line that did not come.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

/// Takes a body apart. It holds one line and one piece of the body at most.
#[derive(Debug)]
pub(super) struct Lines<S> {
    pieces: S,
    timeout: Duration,
    buffer: BytesMut,
    /// So much of the buffer has no line break.
    searched: usize,
    number: usize,
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Lines<S> {
    /// Reads lines of which each may take `timeout` to come.
    pub(super) fn new(pieces: S, timeout: Duration) -> Self {
        Self { pieces, timeout, buffer: BytesMut::new(), searched: 0, number: 0 }
    }

    /// Returns the number of the line that comes next.
    pub(super) fn next_number(&self) -> usize {
        self.number + 1
    }

    /// Waits for the next line that is not blank. Returns `None` behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, LineError> {
        let timeout = self.timeout;
        tokio::time::timeout(timeout, self.read()).await.unwrap_or(Err(LineError::Slow(timeout)))
    }

    async fn read(&mut self) -> Result<Option<Line>, LineError> {
        let mut is_long = false;
        loop {
            while let Some(text) = self.split() {
                let line = self.line(text, is_long);
                is_long = false;
                if line.is_some() {
                    return Ok(line);
                }
            }
            if self.buffer.len() > MAX_LINE {
                is_long = true;
                drop(self.rest());
            }
            match self.pieces.next().await {
                Some(piece) => self.buffer.extend_from_slice(&piece.map_err(|_| LineError::Broken)?),
                None if self.buffer.is_empty() && !is_long => return Ok(None),
                None => {
                    let text = self.rest();
                    return Ok(self.line(text, is_long));
                }
            }
        }
    }

    /// Takes a line with its line break from the buffer.
    fn split(&mut self) -> Option<Bytes> {
        let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + at + 1).freeze();
        self.searched = 0;
        Some(line)
    }

    /// Takes what is in the buffer.
    fn rest(&mut self) -> Bytes {
        self.searched = 0;
        self.buffer.split().freeze()
    }

    /// Counts a line, and returns it unless it is blank.
    fn line(&mut self, text: Bytes, is_long: bool) -> Option<Line> {
        self.number += 1;
        let number = self.number;
        let trimmed = text.slice_ref(text.trim_ascii());
        if is_long || trimmed.len() > MAX_LINE {
            return Some(Line { number, text: None });
        }
        (!trimmed.is_empty()).then_some(Line { number, text: Some(trimmed) })
    }
}

#[cfg(test)]
mod tests {
    use common::testing::PATIENCE;
    use futures_util::stream::{iter, pending};

    use super::*;

    async fn read(body: &str, size: usize) -> Vec<(usize, Option<String>)> {
        let pieces: Vec<_> =
            body.as_bytes().chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut lines = Lines::new(iter(pieces), PATIENCE);
        let mut read = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            read.push((line.number, line.text.map(|text| String::from_utf8(text.to_vec()).unwrap())));
        }
        read
    }

    #[tokio::test]
    async fn lines_are_the_same_whatever_the_pieces() {
        let body = "a\nbc\r\n\n  \nd\n e ";
        let expected = [(1, "a"), (2, "bc"), (5, "d"), (6, "e")];
        for size in 1..=body.len() {
            let read = read(body, size).await;
            let read: Vec<_> =
                read.iter().map(|(number, text)| (*number, text.as_deref().unwrap())).collect();
            assert_eq!(read, expected, "in pieces of {size}");
        }
        assert_eq!(read("", 1).await, []);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_and_the_next_one_read() {
        let long = "x".repeat(MAX_LINE + 1);
        for size in [1_000, MAX_LINE * 2] {
            let read = read(&format!("a\n{long}\nb\n{long}"), size).await;
            assert_eq!(read, [(1, Some("a".into())), (2, None), (3, Some("b".into())), (4, None)]);
        }
        assert_eq!(read(&"x".repeat(MAX_LINE), 1_000).await.len(), 1);
    }

    #[tokio::test]
    async fn a_line_that_does_not_come_ends_it() {
        let mut lines = Lines::new(pending(), Duration::from_millis(5));
        assert_eq!(lines.next().await, Err(LineError::Slow(Duration::from_millis(5))));
        let pieces = [Ok(Bytes::from_static(b"a\nb")), Err(PayloadError::Overflow)];
        let mut lines = Lines::new(iter(pieces), PATIENCE);
        assert_eq!(lines.next().await.unwrap().map(|line| line.number), Some(1));
        assert_eq!((lines.next_number(), lines.next().await), (2, Err(LineError::Broken)));
    }
}
