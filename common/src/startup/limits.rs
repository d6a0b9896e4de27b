//! The limits that every device endpoint shares.

use std::time::Duration;

use clap::Args;

use crate::service::Limits;
use crate::time::parse_duration;

/// Limits on what devices and applications may use.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// The most bytes of a payload, of telemetry as of a command.
    #[arg(long, env = "DROGUE_MAX_PAYLOAD", value_name = "BYTES", default_value = "262144", value_parser = at_least_1)]
    pub max_payload: usize,

    /// The longest time that a device waits for a command after its telemetry.
    #[arg(long, env = "DROGUE_MAX_TTD", value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub max_ttd: Duration,

    /// The most connections of one device to this replica.
    #[arg(
        long,
        env = "DROGUE_MAX_DEVICE_CONNECTIONS",
        value_name = "COUNT",
        default_value = "10",
        value_parser = at_least_1
    )]
    pub max_device_connections: usize,

    /// The most connections to each endpoint of this replica.
    #[arg(
        long,
        env = "DROGUE_MAX_CONNECTIONS",
        value_name = "COUNT",
        default_value = "100000",
        value_parser = at_least_1
    )]
    pub max_connections: usize,

    /// How long the check of a device's login may take, before it is told to try again.
    #[arg(
        long,
        env = "DROGUE_LOGIN_TIMEOUT",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = parse_duration
    )]
    pub login_timeout: Duration,

    /// How long a device waits for the channel to acknowledge its telemetry before it is told to try again.
    #[arg(
        long,
        env = "DROGUE_PUBLISH_TIMEOUT",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = parse_duration
    )]
    pub publish_timeout: Duration,

    /// How many commands wait for a connection that takes them slowly.
    #[arg(long, env = "DROGUE_COMMAND_QUEUE", value_name = "COUNT", default_value = "100", value_parser = at_least_1)]
    pub command_queue: usize,

    /// How long a command lives for which nothing else was said.
    #[arg(
        long,
        env = "DROGUE_COMMAND_LIFETIME",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = parse_duration
    )]
    pub command_lifetime: Duration,

    /// How often this replica says that it lives.
    #[arg(
        long,
        env = "DROGUE_HEARTBEAT_INTERVAL",
        value_name = "DURATION",
        default_value = "1s",
        value_parser = parse_duration
    )]
    pub heartbeat_interval: Duration,

    /// After how long a silence a replica is taken for dead; the same on all replicas, and several heartbeats long.
    #[arg(
        long,
        env = "DROGUE_LAPSE_AFTER",
        value_name = "DURATION",
        default_value = "5s",
        value_parser = parse_duration
    )]
    pub lapse_after: Duration,

    /// How long a shutdown may take: waits end with their normal answer, and what was accepted is flushed.
    #[arg(
        long,
        env = "DROGUE_SHUTDOWN_GRACE",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = parse_duration
    )]
    pub shutdown_grace: Duration,
}

impl LimitOptions {
    /// Returns the limits of the service that the device endpoints share.
    pub fn limits(&self) -> Limits {
        Limits {
            max_payload: self.max_payload,
            max_device_connections: self.max_device_connections,
            max_ttd: self.max_ttd,
            login_timeout: self.login_timeout,
            publish_timeout: self.publish_timeout,
            command_queue: self.command_queue,
            command_lifetime: self.command_lifetime,
            heartbeat_interval: self.heartbeat_interval,
            lapse_after: self.lapse_after,
        }
    }

    /// Returns the part of the grace time that an endpoint may use; the rest is for what comes after it.
    pub fn endpoint_grace(&self) -> Duration {
        self.shutdown_grace.mul_f64(0.8)
    }

    /// Returns the part of the grace time for the last words of the device endpoints, when they have ended.
    pub fn last_words_grace(&self) -> Duration {
        self.shutdown_grace.mul_f64(0.15)
    }
}

pub(super) fn at_least_1(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "expected a whole number from 1".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        limits: LimitOptions,
    }

    fn parse(arguments: &[&str]) -> Result<LimitOptions, clap::Error> {
        Options::try_parse_from([&["test"], arguments].concat()).map(|options| options.limits)
    }

    #[test]
    fn the_defaults_are_those_of_the_service() {
        let (options, service) = (parse(&[]).unwrap().limits(), Limits::default());
        assert_eq!(format!("{options:?}"), format!("{service:?}"));
    }

    #[test]
    fn options_are_numbers_and_durations() {
        let options =
            parse(&["--max-payload", "1000", "--max-ttd", "2m", "--shutdown-grace", "500ms"]).unwrap();
        assert_eq!((options.max_payload, options.max_ttd), (1000, Duration::from_secs(120)));
        assert_eq!(options.endpoint_grace(), Duration::from_millis(400));
    }

    #[test]
    fn a_bad_value_names_the_option_and_the_form() {
        for (option, value, form) in [
            ("--max-payload", "0", "whole number from 1"),
            ("--max-connections", "many", "whole number from 1"),
            ("--max-ttd", "60", "as in '10m'"),
        ] {
            let error = parse(&[option, value]).unwrap_err().to_string();
            assert!(error.contains(option) && error.contains(form), "{error}");
        }
    }
}
