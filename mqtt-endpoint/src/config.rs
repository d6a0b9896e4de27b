//! The options of the endpoint.

use std::time::Duration;

use common::time::parse_duration;

/// Options of the MQTT endpoint.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "MQTT")]
pub struct Config {
    /// The longest packet that a device may send, in bytes. Default: the longest payload and 8 KiB.
    #[arg(
        long,
        env = "DROGUE_MQTT_MAX_PACKET_SIZE",
        value_name = "BYTES",
        value_parser = clap::value_parser!(u32).range(1024..=268_435_455)
    )]
    pub mqtt_max_packet_size: Option<u32>,

    /// How long a connection may take for its TLS handshake, and then again for CONNECT.
    #[arg(
        long,
        env = "DROGUE_MQTT_CONNECT_TIMEOUT",
        value_name = "DURATION",
        default_value = "5s",
        value_parser = parse_duration
    )]
    pub mqtt_connect_timeout: Duration,

    /// The longest keep-alive, in seconds; a device that asks for a longer one, or for none, gets this.
    #[arg(
        long,
        env = "DROGUE_MQTT_MAX_KEEP_ALIVE",
        value_name = "SECONDS",
        default_value = "1200",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub mqtt_max_keep_alive: u16,

    /// How many messages of one connection may wait for the channel; at QoS 1 and in MQTT 5 this is Receive Maximum.
    #[arg(
        long,
        env = "DROGUE_MQTT_MAX_IN_FLIGHT",
        value_name = "COUNT",
        default_value = "100",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub mqtt_max_in_flight: u16,

    /// How many topic aliases a device may set.
    #[arg(long, env = "DROGUE_MQTT_MAX_TOPIC_ALIASES", value_name = "COUNT", default_value = "16")]
    pub mqtt_max_topic_aliases: u16,

    /// How long a device may take to acknowledge a command at QoS 1.
    #[arg(
        long,
        env = "DROGUE_MQTT_ACK_TIMEOUT",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = parse_duration
    )]
    pub mqtt_ack_timeout: Duration,

    /// How many commands may wait for a device's acknowledgement.
    #[arg(
        long,
        env = "DROGUE_MQTT_MAX_UNACKNOWLEDGED",
        value_name = "COUNT",
        default_value = "16",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub mqtt_max_unacknowledged: u16,

    /// How many TLS handshakes may be under way at once; further ones wait, within --mqtt-connect-timeout.
    #[arg(
        long,
        env = "DROGUE_MQTT_MAX_TLS_HANDSHAKES",
        value_name = "COUNT",
        default_value = "256",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub mqtt_max_tls_handshakes: u16,

    /// How many threads serve MQTT connections. Default: one for each core.
    #[arg(
        long,
        env = "DROGUE_MQTT_WORKERS",
        value_name = "COUNT",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    pub mqtt_workers: Option<u16>,

    /// The most connections, whoever holds them (`--max-connections`). Further ones are closed at once.
    #[arg(skip = 100_000_usize)]
    pub max_connections: usize,

    /// How long [`run`](crate::run) may take to end after its shutdown began.
    #[arg(skip = Duration::from_secs(10))]
    pub grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mqtt_max_packet_size: None,
            mqtt_connect_timeout: Duration::from_secs(5),
            mqtt_max_keep_alive: 1200,
            mqtt_max_in_flight: 100,
            mqtt_max_topic_aliases: 16,
            mqtt_ack_timeout: Duration::from_secs(10),
            mqtt_max_unacknowledged: 16,
            mqtt_max_tls_handshakes: 256,
            mqtt_workers: None,
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
    }

    #[test]
    fn a_limit_of_zero_is_refused() {
        for option in ["--mqtt-max-packet-size", "--mqtt-max-keep-alive", "--mqtt-max-in-flight"] {
            assert!(Options::try_parse_from(["x", option, "0"]).is_err(), "{option}");
        }
    }
}
