//! The options of the endpoint.

use std::num::NonZeroUsize;
use std::time::Duration;

use common::time::parse_duration;
use common::web::WebConfig;

/// Options of the HTTP endpoint.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "HTTP")]
pub struct Config {
    /// How long a TLS handshake may take
    #[arg(long, env = "DROGUE_HTTP_TLS_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub http_tls_timeout: Duration,

    /// How long a request's head may take
    #[arg(long, env = "DROGUE_HTTP_HEAD_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub http_head_timeout: Duration,

    /// How long a request's body may take
    #[arg(long, env = "DROGUE_HTTP_BODY_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub http_body_timeout: Duration,

    /// How long a connection may be silent between two requests
    #[arg(long, env = "DROGUE_HTTP_IDLE_TIMEOUT", value_name = "DURATION", default_value = "75s", value_parser = parse_duration)]
    pub http_idle_timeout: Duration,

    /// How long a device may take nothing of a response before it is disconnected
    #[arg(long, env = "DROGUE_HTTP_WRITE_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub http_write_timeout: Duration,

    /// How many threads serve HTTP connections. Default: one for each core
    #[arg(long, env = "DROGUE_HTTP_WORKERS", value_name = "COUNT")]
    pub http_workers: Option<NonZeroUsize>,

    /// The most connections, whoever holds them (`--max-connections`). Further ones wait to be accepted.
    #[arg(skip = 100_000_usize)]
    pub max_connections: usize,

    /// How long [`run`](crate::run) may take to end after its shutdown began.
    #[arg(skip = Duration::from_secs(10))]
    pub grace: Duration,
}

impl Config {
    /// Returns the limits of the server.
    pub(crate) fn web(&self) -> WebConfig {
        WebConfig {
            workers: self.http_workers,
            max_connections: self.max_connections,
            tls_timeout: self.http_tls_timeout,
            head_timeout: self.http_head_timeout,
            idle_timeout: self.http_idle_timeout,
            write_timeout: self.http_write_timeout,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http_tls_timeout: Duration::from_secs(5),
            http_head_timeout: Duration::from_secs(5),
            http_body_timeout: Duration::from_secs(10),
            http_idle_timeout: Duration::from_secs(75),
            http_write_timeout: Duration::from_secs(30),
            http_workers: None,
            max_connections: 100_000,
            grace: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn the_defaults_of_the_options_are_those_of_the_struct() {
        let parsed = Options::try_parse_from(["x"]).unwrap().config;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::default()));
        assert_eq!(format!("{:?}", parsed.web()), format!("{:?}", WebConfig::default()));
    }

    #[test]
    fn bad_values_are_refused() {
        for (option, value) in [("--http-workers", "0"), ("--http-body-timeout", "10")] {
            assert!(Options::try_parse_from(["x", option, value]).is_err(), "{option}");
        }
    }
}
