//! What a request says beside its body: headers that may be there once, and parameters.

use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::web;

use super::problem::Problem;
use crate::error::ErrorKind;
use crate::event::extension;

/// The header with the W3C trace context, named as the event's extension is.
pub const TRACEPARENT: HeaderName = HeaderName::from_static(extension::TRACEPARENT);

/// Says that a header cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header '{0}' must be there once at most, and be printable ASCII")]
pub struct HeaderError(HeaderName);

impl HeaderError {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl From<HeaderError> for Problem {
    fn from(error: HeaderError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

/// Returns a header that may be there once.
///
/// # Errors
/// Fails if it is there more than once, or is not printable ASCII.
pub fn single_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, HeaderError> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(HeaderError(name.clone())),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| HeaderError(name.clone())),
        (None, None) => Ok(None),
    }
}

/// Says what is wrong with the parameters of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// They are not in the form of `a=1&b=2`.
    #[error("the query is malformed: {0}")]
    Malformed(String),
    /// One has a name that means nothing here.
    #[error("there is no parameter '{name}' here{}", known_are(.known))]
    Unknown {
        /// Its name.
        name: String,
        /// The names that mean something here.
        known: &'static [&'static str],
    },
    /// One that may be there once is there more often.
    #[error("parameter '{0}' is there more than once")]
    Repeated(String),
}

fn known_are(known: &[&str]) -> String {
    if known.is_empty() { String::new() } else { format!("; known are '{}'", known.join("', '")) }
}

impl QueryError {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

/// The parameters of a request, decoded. A name that is not known is refused, so that a misspelt one is not silently
/// without effect.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of a request that knows the parameters named `known`.
    ///
    /// # Errors
    /// Fails if it is malformed, or names a parameter that is not known.
    pub fn parse(query: &str, known: &'static [&'static str]) -> Result<Self, QueryError> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|error| QueryError::Malformed(error.to_string()))?
            .into_inner();
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(Self(pairs)),
            Some((name, _)) => Err(QueryError::Unknown { name: name.clone(), known }),
        }
    }

    /// Returns the value of a parameter that may be there once.
    ///
    /// # Errors
    /// Fails if it is there more than once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, QueryError> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(QueryError::Repeated(name.to_owned())),
            (value, None) => Ok(value),
        }
    }

    /// Returns the values of a parameter that may be repeated.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn unknown_and_repeated_parameters_are_named() {
        let parse = |query| Query::parse(query, &["a", "b"]);
        let error = parse("a=1&ttk=2").unwrap_err().to_string();
        assert_eq!(error, "there is no parameter 'ttk' here; known are 'a', 'b'");
        assert_eq!(Query::parse("x", &[]).unwrap_err().to_string(), "there is no parameter 'x' here");
        let query = parse("b=1&b=%32&a=x").unwrap();
        assert!(query.one("b").unwrap_err().to_string().contains("'b'"));
        assert_eq!(query.all("b").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((query.one("a").unwrap(), parse("").unwrap().one("a").unwrap()), (Some("x"), None));
    }

    #[test]
    fn a_header_is_there_once_as_text_or_not_at_all() {
        let read = |values: &[&'static [u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRACEPARENT, HeaderValue::from_bytes(value).unwrap());
            }
            single_header(&headers, &TRACEPARENT).map(|text| text.map(str::to_owned))
        };
        assert_eq!((read(&[]), read(&[b"a"])), (Ok(None), Ok(Some("a".to_owned()))));
        for unusable in [[b"a".as_slice(), b"a"].as_slice(), &[b"\xe4"]] {
            assert!(read(unusable).unwrap_err().to_string().contains("'traceparent'"), "{unusable:?}");
        }
    }
}
