//! What librdkafka calls back for: logs, errors, tokens.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use serde::Deserialize;

use crate::process::Clock;

/// How long a token is believed to last that does not say it, in milliseconds.
const DEFAULT_LIFETIME: i64 = 60_000;

/// The last thing that went wrong, to be told together with what it led to.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    fn note(&self, reason: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }

    /// Returns the last trouble, or else `otherwise`.
    pub(super) fn or(&self, otherwise: impl ToString) -> String {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        last.unwrap_or_else(|| otherwise.to_string())
    }
}

/// The context of a client that is no producer.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) trouble: Trouble,
    token_file: Option<PathBuf>,
    clock: Clock,
}

impl Context {
    pub(super) fn new(token_file: Option<PathBuf>, clock: Clock) -> Self {
        Self { trouble: Trouble::default(), token_file, clock }
    }

    /// Keeps what the client logs at debug: an outage is told once, by the watch, and not with every attempt.
    pub(super) fn tell(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "common::kafka::client", ?level, facility, message);
    }

    /// Notes an error of the client. What no retry will mend is told at once.
    pub(super) fn note(&self, error: &ClientError, reason: &str) {
        // That all are down says less than what was said of one of them.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.trouble.note(reason);
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                tracing::warn!(reason, "Kafka lets nobody in with these credentials or certificates");
            }
            Some(_) | None => tracing::debug!(%error, reason, "Kafka client"),
        }
    }

    /// Reads the token from its file.
    pub(super) fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let file = self.token_file.as_deref();
        let file = file.ok_or("no token was given (option --kafka-sasl-oauthbearer-token-endpoint-url)")?;
        let now = self.clock.wall().as_millis();
        read_token(file, now).map_err(|reason| {
            tracing::warn!(reason, "no token for Kafka");
            reason.into()
        })
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.tell(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.note(&error, reason);
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.token()
    }
}

impl ConsumerContext for Context {}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    /// Seconds since the Unix epoch.
    exp: Option<i64>,
}

/// Reads a token and, if it is a JWT (RFC 7519), whose it is and how long it lasts. No part of it is in the error.
fn read_token(file: &Path, now: i64) -> Result<OAuthToken, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(format!("{} holds no token", file.display()));
    }
    let claims = token.split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Option<Claims> = claims.and_then(|json| serde_json::from_slice(&json).ok());
    let expires = claims.as_ref().and_then(|claims| claims.exp).map(|seconds| seconds.saturating_mul(1000));
    Ok(OAuthToken {
        token: token.to_owned(),
        principal_name: claims.map(|claims| claims.sub).unwrap_or_default(),
        lifetime_ms: expires.unwrap_or_else(|| now.saturating_add(DEFAULT_LIFETIME)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_itself_how_long_it_lasts() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let claims = BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"me","exp":5}"#);
        std::fs::write(&file, format!("e30.{claims}.\n")).unwrap();
        let token = read_token(&file, 1).unwrap();
        assert_eq!((token.principal_name.as_str(), token.lifetime_ms), ("me", 5_000));
        std::fs::write(&file, "opaque").unwrap();
        assert_eq!(read_token(&file, 1).unwrap().lifetime_ms, 60_001);
        for bad in ["", "two words"] {
            std::fs::write(&file, bad).unwrap();
            assert!(read_token(&file, 1).is_err(), "{bad}");
        }
    }
}
