//! Logs: lines on standard error.

use std::io::{self, IsTerminal};

use clap::Args;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterFn, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Strangers can make `actix_http::h1` log an error with each request that they break off or malform, as often as they
/// like; none of its lines asks an operator to do anything.
const DEFAULT_FILTER: &str = "info,actix_server=warn,actix_http::h1=off";

/// What is logged.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Logs")]
pub struct LogOptions {
    /// What is logged on standard error: a level, or levels of parts, as 'info,common=debug'.
    ///
    /// Levels are error, warn, info, debug, trace and off. Nothing secret is logged at any level; what libraries say
    /// below info is not, because they do not promise that. The default leaves 'actix_http::h1' out, which says an error
    /// for every malformed request: strangers could fill a disk with these.
    #[arg(long = "log", env = "DROGUE_LOG", value_name = "FILTER", default_value = DEFAULT_FILTER)]
    pub filter: Targets,
}

impl LogOptions {
    /// Starts logging, once in a process.
    ///
    /// # Errors
    /// Fails if something else in the process logs already.
    pub fn init(&self) -> Result<(), TryInitError> {
        let lines =
            tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
        tracing_subscriber::registry()
            .with(self.filter.clone())
            .with(FilterFn::new(keeps_secrets))
            .with(lines)
            .try_init()
    }
}

/// The crates that promise to log nothing secret at any level.
const OURS: [&str; 5] = ["common", "http_endpoint", "mqtt_endpoint", "command_endpoint", "server"];

fn keeps_secrets(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO || is_ours(metadata.target())
}

fn is_ours(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    OURS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_not_trusted_below_info() {
        assert!(is_ours("common::service::session"));
        assert!(is_ours("server"));
        assert!(!is_ours("actix_http::h1::dispatcher"));
        assert!(!is_ours("common_crypto"));
    }

    #[test]
    fn what_strangers_can_repeat_at_will_is_not_logged_by_default() {
        let filter: Targets = DEFAULT_FILTER.parse().unwrap();
        assert!(!filter.would_enable("actix_http::h1::dispatcher", &Level::ERROR));
        assert!(!filter.would_enable("actix_http::h1::decoder", &Level::ERROR));
        assert!(filter.would_enable("actix_http::service", &Level::ERROR));
        assert!(filter.would_enable("common::service", &Level::INFO));
    }
}
