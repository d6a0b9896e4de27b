//! The subject of telemetry: what kind of data it is, taken from the path or the topic.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use crate::id::{MAX_ID_LEN, is_unreserved};

/// The longest subject, in bytes.
pub const MAX_SUBJECT_LEN: usize = 1024;

/// The most levels that a subject has.
pub const MAX_SUBJECT_LEVELS: usize = 16;

/// First levels that belong to the system on every protocol.
pub const RESERVED: [&str; 3] = ["commands", "cmd", "reply"];

/// Names a kind of telemetry: 1 to 16 levels joined by `/`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Subject(Arc<str>);

/// Says why a path or topic is no subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubject {
    /// The text is empty, too long, has too many levels, or a level that is no id.
    #[error(
        "a subject has 1 to {MAX_SUBJECT_LEVELS} levels of 1 to {MAX_ID_LEN} of A-Z a-z 0-9 . _ ~ - : \
         (not '.' or '..') joined by '/', {MAX_SUBJECT_LEN} bytes at most"
    )]
    Shape,
    /// The first level is one of [`RESERVED`].
    #[error("subjects that begin with 'commands', 'cmd' or 'reply' are the system's own")]
    Reserved,
}

impl Subject {
    /// Borrows the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses a percent-encoded path, decoding each level once. An encoded `/` joins no levels: it is refused.
    pub fn from_path(path: &str) -> Result<Self, InvalidSubject> {
        if !path.contains('%') {
            return path.parse();
        }
        let levels = path
            .split('/')
            .take(MAX_SUBJECT_LEVELS + 1)
            .map(|level| {
                let level = percent_decode_str(level).decode_utf8().ok()?;
                (!level.contains('/')).then_some(level)
            })
            .collect::<Option<Vec<_>>>()
            .ok_or(InvalidSubject::Shape)?;
        levels.join("/").parse()
    }
}

impl FromStr for Subject {
    type Err = InvalidSubject;

    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        if text.len() > MAX_SUBJECT_LEN {
            return Err(InvalidSubject::Shape);
        }
        for (depth, level) in text.split('/').enumerate() {
            let short = !level.is_empty() && level.len() <= MAX_ID_LEN;
            let plain = level.split(':').all(is_unreserved) && level != "." && level != "..";
            if depth == MAX_SUBJECT_LEVELS || !short || !plain {
                return Err(InvalidSubject::Shape);
            }
        }
        if text.split('/').next().is_some_and(|first| RESERVED.contains(&first)) {
            return Err(InvalidSubject::Reserved);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_are_ids_with_colons() {
        for good in ["temperature", "a/b/c", "urn:x:1/y", "cmdx", "a/cmd", "reply.1"] {
            assert_eq!(good.parse::<Subject>().unwrap().as_str(), good);
        }
        for bad in ["", "/", "a/", "/a", "a//b", "a/../b", ".", "a b", "a/#", "+", "$SYS", "a\0b", "ü"] {
            assert_eq!(bad.parse::<Subject>(), Err(InvalidSubject::Shape), "{bad:?}");
        }
        for own in ["cmd", "cmd/x", "commands/1/reply", "reply/1/200"] {
            assert_eq!(own.parse::<Subject>(), Err(InvalidSubject::Reserved), "{own:?}");
        }
    }

    #[test]
    fn levels_and_length_are_bounded() {
        assert!(["a"; 16].join("/").parse::<Subject>().is_ok());
        assert!(["a"; 17].join("/").parse::<Subject>().is_err());
        assert!("/".repeat(65_000).parse::<Subject>().is_err());
        assert!(["x".repeat(127).as_str(); 8].join("/").parse::<Subject>().is_ok());
        assert!(["x".repeat(128).as_str(); 8].join("/").parse::<Subject>().is_err());
    }

    #[test]
    fn a_path_is_decoded_once() {
        assert_eq!(Subject::from_path("a%3Ab/c").unwrap().as_str(), "a:b/c");
        assert_eq!(Subject::from_path("%63md/x"), Err(InvalidSubject::Reserved));
        for bad in ["a%2Fb", "a%252Fb", "%2e%2e/a", "a%00", "a%ff", "a%"] {
            assert_eq!(Subject::from_path(bad), Err(InvalidSubject::Shape), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_unchanged(text in "[a-c:/.%2F]{0,40}") {
            if let Ok(subject) = text.parse::<Subject>() {
                prop_assert_eq!(subject.as_str(), &text);
                prop_assert_eq!(Subject::from_path(&text), Ok(subject));
            }
        }
    }
}
