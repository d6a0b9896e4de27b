//! What a request says of its command beside name and payload.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;
use common::command::Command;
use common::ledger::MAX_KEY_LEN;
use common::time::parse_duration;
use common::web::{Query, single_header};
use ring::digest::{Context, SHA256};

use crate::reply::ApiError;
use crate::request::query;

/// The shortest time that a command may be given to live.
const MIN_TTL: Duration = Duration::from_secs(1);
/// The longest.
const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);
/// How long a request waits that does not say how long.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait of a request.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// That the device has the command.
    Delivered,
    /// The device's reply.
    Reply,
}

/// The wait of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) goal: Goal,
    pub(super) timeout: Duration,
}

/// The options of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// How long the command is kept while its device is away.
    pub(super) ttl: Option<Duration>,
    pub(super) wait: Option<Wait>,
    pub(super) idempotency_key: Option<String>,
    pub(super) supersede: Option<String>,
}

impl Options {
    /// Reads the options of a request.
    pub(super) fn read(request: &HttpRequest) -> Result<Self, ApiError> {
        let query = query(request, &["ttl", "wait", "timeout", "supersede"])?;
        let idempotency_key = single_header(request.headers(), &IDEMPOTENCY_KEY)?;
        Ok(Self {
            ttl: duration(&query, "ttl", MIN_TTL, MAX_TTL, "1s at least and 30d at most")?,
            wait: wait(&query)?,
            idempotency_key: key(idempotency_key, "idempotency-key")?,
            supersede: key(query.one("supersede")?, "supersede")?,
        })
    }

    /// Tells whether the ledger must know the command before the channel does.
    pub(super) fn needs_row(&self) -> bool {
        self.ttl.is_some() || self.idempotency_key.is_some() || self.supersede.is_some()
    }

    /// Returns a digest of what makes two requests the same: all but how long they wait.
    pub(super) fn fingerprint(&self, command: &Command) -> String {
        let mut digest = Context::new(&SHA256);
        let ttl = self.ttl.map(|ttl| ttl.as_millis().to_string()).unwrap_or_default();
        let supersede = self.supersede.as_deref().unwrap_or_default();
        for part in [command.name.as_str(), &ttl, supersede, &command.content_type] {
            digest.update(part.as_bytes());
            // In none of them.
            digest.update(&[0]);
        }
        digest.update(&command.payload);
        digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn wait(query: &Query) -> Result<Option<Wait>, ApiError> {
    let longest = "at most 60s, and more than 0";
    let timeout = duration(query, "timeout", Duration::from_millis(1), MAX_TIMEOUT, longest)?;
    let goal = match query.one("wait")? {
        None if timeout.is_some() => {
            return Err(ApiError::Parameter("timeout is for wait=delivered or wait=reply".to_owned()));
        }
        None => return Ok(None),
        Some("delivered") => Goal::Delivered,
        Some("reply") => Goal::Reply,
        Some(_) => return Err(ApiError::Parameter("wait is 'delivered' or 'reply'".to_owned())),
    };
    Ok(Some(Wait { goal, timeout: timeout.unwrap_or(DEFAULT_TIMEOUT) }))
}

fn duration(
    query: &Query,
    name: &'static str,
    shortest: Duration,
    longest: Duration,
    words: &str,
) -> Result<Option<Duration>, ApiError> {
    let Some(text) = query.one(name)? else { return Ok(None) };
    match parse_duration(text) {
        Ok(duration) if (shortest..=longest).contains(&duration) => Ok(Some(duration)),
        Ok(_) => Err(ApiError::Parameter(format!("{name} is {words}"))),
        Err(error) => Err(ApiError::Parameter(format!("{name}: {error}"))),
    }
}

fn key(text: Option<&str>, name: &str) -> Result<Option<String>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let fits = (1..=MAX_KEY_LEN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        let words = format!("{name} is 1 to {MAX_KEY_LEN} characters of printable ASCII without space");
        return Err(ApiError::Parameter(words));
    }
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn read(query: &str) -> Result<Options, ApiError> {
        Options::read(&TestRequest::with_uri(&format!("/x?{query}")).to_http_request())
    }

    #[test]
    fn options_have_bounds() {
        let seconds = Duration::from_secs;
        let options = read("ttl=30d&wait=reply&supersede=a").unwrap();
        assert_eq!(options.ttl, Some(MAX_TTL));
        assert_eq!(options.wait, Some(Wait { goal: Goal::Reply, timeout: seconds(10) }));
        assert!(options.needs_row() && !read("wait=delivered&timeout=60s").unwrap().needs_row());
        for bad in [
            "ttl=999ms",
            "ttl=31d",
            "ttl=1",
            "wait=x",
            "timeout=1s",
            "wait=reply&timeout=0s",
            "wait=reply&timeout=61s",
            "supersede=",
            "supersede=a%20b",
            "TTL=1s",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fingerprint_is_of_all_that_the_device_sees() {
        let command = common::testing::command(
            &common::id::DeviceKey::from_bytes(b"a/d").unwrap(),
            "n".parse().unwrap(),
            b"x",
        );
        let of = |query: &str, command: &Command| read(query).unwrap().fingerprint(command);
        let same = Command { id: "other".parse().unwrap(), ..command.clone() };
        assert_eq!(of("ttl=1m", &command), of("ttl=60s&wait=reply", &same));
        assert_ne!(of("ttl=1m", &command), of("ttl=2m", &command));
        assert_ne!(of("", &command), of("supersede=a", &command));
        for other in [
            Command { name: "m".parse().unwrap(), ..command.clone() },
            Command { payload: "y".into(), ..command.clone() },
            Command { content_type: "text/plain".into(), ..command.clone() },
        ] {
            assert_ne!(of("", &command), of("", &other));
        }
    }
}
