//! The options of the endpoint.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use common::id::EventId;
use common::kubernetes::Cluster;
use common::ledger::KEY_LIFETIME;
use common::service::{Clock, Limits};
use common::startup::BadConfiguration;
use common::time::parse_duration;
use common::tracker::Settings;
use common::web::WebConfig;

use crate::access::{Identities, Kubernetes};
use crate::tracker::TrackerSettings;

/// Options of the application interface.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Application interface")]
pub struct Config {
    /// The most streams of events at once; a further one is refused with 429
    #[arg(long, env = "DROGUE_API_MAX_STREAMS", value_name = "COUNT", default_value = "100", value_parser = clap::value_parser!(u16).range(1..))]
    pub api_max_streams: u16,

    /// How long the body of a request may take; of an import, each of its lines
    #[arg(long, env = "DROGUE_API_BODY_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub api_body_timeout: Duration,

    /// The most lines of one import; what is behind them is refused, and may come with a further request
    #[arg(long, env = "DROGUE_API_MAX_IMPORT", value_name = "LINES", default_value = "100000", value_parser = clap::value_parser!(u32).range(1..))]
    pub api_max_import: u32,

    /// The most commands that may wait for a device; a further one is refused with 429
    #[arg(long, env = "DROGUE_MAX_PENDING", value_name = "COUNT", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_pending: u32,

    /// How long what became of a command can be asked for, 24h at least
    #[arg(long, env = "DROGUE_COMMAND_HISTORY", value_name = "DURATION", default_value = "7d", value_parser = a_day_or_more)]
    pub command_history: Duration,

    /// How long a TLS handshake may take
    #[arg(long, env = "DROGUE_API_TLS_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub api_tls_timeout: Duration,

    /// How long a request's head may take
    #[arg(long, env = "DROGUE_API_HEAD_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub api_head_timeout: Duration,

    /// How long a connection may be silent between two requests
    #[arg(long, env = "DROGUE_API_IDLE_TIMEOUT", value_name = "DURATION", default_value = "75s", value_parser = parse_duration)]
    pub api_idle_timeout: Duration,

    /// How long a client may take nothing of a response before it is disconnected
    #[arg(long, env = "DROGUE_API_WRITE_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub api_write_timeout: Duration,

    /// How many threads serve applications. Default: one for each core
    #[arg(long, env = "DROGUE_API_WORKERS", value_name = "COUNT")]
    pub api_workers: Option<NonZeroUsize>,

    /// Let in who has a token of the Kubernetes cluster, such as a ServiceAccount: RBAC says which devices they may command
    #[arg(long, env = "DROGUE_KUBE_ACCESS")]
    pub kube_access: bool,

    /// For whom a token of the cluster must be made, one of these. Default: for the API server
    #[arg(long, env = "DROGUE_KUBE_AUDIENCE", value_name = "AUDIENCE", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    pub kube_audience: Vec<String>,

    /// How long to remember what the cluster said of a token and its rights, 1h at most; 0s is not at all
    #[arg(long, env = "DROGUE_KUBE_ACCESS_CACHE", value_name = "DURATION", default_value = "10s", value_parser = an_hour_or_less)]
    pub kube_access_cache: Duration,

    /// The most connections, whoever holds them (`--max-connections`). Further ones wait to be accepted.
    #[arg(skip = 100_000_usize)]
    pub max_connections: usize,

    /// How long [`run`](crate::run) may take to end after its shutdown began.
    #[arg(skip = Duration::from_secs(10))]
    pub grace: Duration,
}

impl Config {
    /// Returns what the trackers go by. `sole` is the start of the only device endpoint, where there is but one.
    pub fn tracker(&self, limits: &Limits, sole: Option<EventId>) -> TrackerSettings {
        let settings = Settings {
            lapse_after: limits.lapse_after,
            max_pending: usize::try_from(self.max_pending).unwrap_or(usize::MAX),
            sole,
            ..Settings::default()
        };
        TrackerSettings { settings, lifetime: limits.command_lifetime, history: self.command_history }
    }

    /// Returns what knows the bearers of the cluster's tokens, if they are to be let in. The cluster is not asked yet.
    ///
    /// Must be called on a runtime that outlives the endpoint.
    ///
    /// # Errors
    /// Fails if nothing says where the API server is.
    pub async fn identities(&self, clock: Clock) -> Result<Option<Identities>, BadConfiguration> {
        if !self.kube_access {
            return Ok(None);
        }
        let cluster = Cluster::connect(None).await;
        let cluster = cluster.map_err(|error| BadConfiguration(format!("{error} (option --kube-access)")))?;
        tracing::info!(api_server = cluster.address(), "tokens of the Kubernetes cluster are let in");
        let reviewer = Kubernetes::new(cluster, self.kube_audience.clone());
        Ok(Some(Identities::new(reviewer, self.kube_access_cache, clock)))
    }

    /// Returns the limits of the server.
    pub(crate) fn web(&self) -> WebConfig {
        WebConfig {
            workers: self.api_workers,
            max_connections: self.max_connections,
            tls_timeout: self.api_tls_timeout,
            head_timeout: self.api_head_timeout,
            idle_timeout: self.api_idle_timeout,
            write_timeout: self.api_write_timeout,
        }
    }
}

/// Idempotency keys are kept with their commands, and for a day.
fn a_day_or_more(text: &str) -> Result<Duration, String> {
    let history = parse_duration(text).map_err(|error| error.to_string())?;
    if history < KEY_LIFETIME { Err("expected 24h or more".to_owned()) } else { Ok(history) }
}

/// What was revoked must not be believed for long.
fn an_hour_or_less(text: &str) -> Result<Duration, String> {
    let lifetime = parse_duration(text).map_err(|error| error.to_string())?;
    if lifetime > Duration::from_secs(3_600) { Err("expected 1h or less".to_owned()) } else { Ok(lifetime) }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_max_streams: 100,
            api_body_timeout: Duration::from_secs(30),
            api_max_import: 100_000,
            max_pending: 50,
            command_history: Duration::from_secs(7 * 86_400),
            api_tls_timeout: Duration::from_secs(5),
            api_head_timeout: Duration::from_secs(5),
            api_idle_timeout: Duration::from_secs(75),
            api_write_timeout: Duration::from_secs(30),
            api_workers: None,
            kube_access: false,
            kube_audience: Vec::new(),
            kube_access_cache: Duration::from_secs(10),
            max_connections: 100_000,
            grace: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Options {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn the_defaults_of_the_options_are_those_of_the_library() {
        let parsed = Options::try_parse_from(["x"]).unwrap().config;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::default()));
        assert_eq!(format!("{:?}", parsed.web()), format!("{:?}", WebConfig::default()));
        assert!(Options::try_parse_from(["x", "--api-max-streams", "0"]).is_err());
    }

    #[test]
    fn what_the_cluster_said_is_not_believed_for_long() {
        let parsed = |text| Options::try_parse_from(["x", "--kube-access-cache", text]);
        assert_eq!(parsed("0s").unwrap().config.kube_access_cache, Duration::ZERO);
        assert!(parsed("1h").is_ok() && parsed("61m").is_err());
        let parsed = Options::try_parse_from(["x", "--kube-audience=a,b", "--kube-audience=c"]).unwrap();
        assert_eq!(parsed.config.kube_audience, ["a", "b", "c"]);
        assert!(Options::try_parse_from(["x", "--kube-audience="]).is_err());
    }
}
