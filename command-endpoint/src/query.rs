//! Parameters of a request. A name that is not known is refused, so that a misspelt one is not silently without effect.

use actix_web::HttpRequest;
use actix_web::web;

use crate::reply::ApiError;

/// The parameters of a request, decoded.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the parameters of a request that knows those named `known`.
    pub(crate) fn parse(request: &HttpRequest, known: &[&str]) -> Result<Self, ApiError> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let pairs = pairs.map_err(|error| ApiError::Query(error.to_string()))?.into_inner();
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(Self(pairs)),
            Some((name, _)) if known.is_empty() => {
                Err(ApiError::Query(format!("there is no parameter '{name}' here")))
            }
            Some((name, _)) => Err(ApiError::Query(format!(
                "there is no parameter '{name}' here; known are '{}'",
                known.join("', '")
            ))),
        }
    }

    /// Returns the value of a parameter that may be there once.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(ApiError::Query(format!("parameter '{name}' is there more than once"))),
            (value, None) => Ok(value),
        }
    }

    /// Returns the values of a parameter that may be repeated.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn parse(query: &str) -> Result<Query, ApiError> {
        Query::parse(&TestRequest::with_uri(&format!("/?{query}")).to_http_request(), &["a", "b"])
    }

    #[test]
    fn unknown_and_repeated_parameters_are_named() {
        assert!(parse("a=1&ttk=2").unwrap_err().to_string().contains("'ttk'"));
        let query = parse("b=1&b=%32&a=x").unwrap();
        assert!(query.one("b").unwrap_err().to_string().contains("'b'"));
        assert_eq!(query.all("b").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!((query.one("a").unwrap(), parse("").unwrap().one("a").unwrap()), (Some("x"), None));
    }
}
