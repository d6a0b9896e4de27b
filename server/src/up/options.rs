//! The options of `drogue up`.

use clap::Args;
use common::net::Listen;
use common::startup::{
    AdminTokenOptions, BadConfiguration, KafkaOptions, LimitOptions, LogOptions, RegistryOptions,
    RetentionOptions, TlsOptions,
};

use crate::cli::DataDirOption;

/// Start the whole cloud in this process.
///
/// The first start makes a certificate for this machine, an application with a token, and an example device, and
/// prints how to use them.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Up {
    #[command(flatten)]
    pub(super) data_dir: DataDirOption,

    #[command(flatten)]
    pub(super) listen: ListenOptions,

    #[command(flatten)]
    pub(super) tls: TlsOptions,

    #[command(flatten)]
    pub(super) registry: RegistryOptions,

    #[command(flatten)]
    pub(super) admin_token: AdminTokenOptions,

    #[command(flatten)]
    pub(super) retention: RetentionOptions,

    #[command(flatten)]
    pub(super) kafka: KafkaOptions,

    #[command(flatten)]
    pub(super) limits: LimitOptions,

    #[command(flatten)]
    pub(super) http: http_endpoint::Config,

    #[command(flatten)]
    pub(super) mqtt: mqtt_endpoint::Config,

    #[command(flatten)]
    pub(super) api: command_endpoint::Config,

    #[command(flatten)]
    pub(super) logs: LogOptions,
}

/// Where the cloud listens.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Listeners: ADDRESS:PORT, or 'off'")]
pub(super) struct ListenOptions {
    /// HTTP for devices.
    #[arg(long, env = "DROGUE_HTTP_LISTEN", value_name = "LISTEN", default_value = "127.0.0.1:8080")]
    pub(super) http_listen: Listen,

    /// HTTPS for devices.
    #[arg(long, env = "DROGUE_HTTPS_LISTEN", value_name = "LISTEN", default_value = "127.0.0.1:8443")]
    pub(super) https_listen: Listen,

    /// MQTT for devices.
    #[arg(long, env = "DROGUE_MQTT_LISTEN", value_name = "LISTEN", default_value = "127.0.0.1:1883")]
    pub(super) mqtt_listen: Listen,

    /// MQTT over TLS for devices.
    #[arg(long, env = "DROGUE_MQTTS_LISTEN", value_name = "LISTEN", default_value = "127.0.0.1:8883")]
    pub(super) mqtts_listen: Listen,

    /// HTTP for applications.
    #[arg(long, env = "DROGUE_API_LISTEN", value_name = "LISTEN", default_value = "127.0.0.1:8081")]
    pub(super) api_listen: Listen,

    /// HTTPS for applications.
    #[arg(long, env = "DROGUE_API_TLS_LISTEN", value_name = "LISTEN", default_value = "127.0.0.1:8444")]
    pub(super) api_tls_listen: Listen,

    /// Health and metrics.
    #[arg(long, env = "DROGUE_ADMIN_LISTEN", value_name = "LISTEN", default_value = "127.0.0.1:9090")]
    pub(super) admin_listen: Listen,
}

impl ListenOptions {
    /// Checks that there is something to listen on. Health and metrics alone are those of nothing.
    pub(super) fn check(&self) -> Result<(), BadConfiguration> {
        let devices = [self.http_listen, self.https_listen, self.mqtt_listen, self.mqtts_listen];
        let applications = [self.api_listen, self.api_tls_listen];
        if devices.into_iter().chain(applications).any(|listen| listen != Listen::Off) {
            return Ok(());
        }
        let reason = "there is nothing to listen on: --http-listen, --https-listen, --mqtt-listen, --mqtts-listen, \
                      --api-listen and --api-tls-listen are all 'off'";
        Err(BadConfiguration(reason.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        listen: ListenOptions,
    }

    #[test]
    fn health_and_metrics_alone_are_nothing_to_listen_on() {
        let off =
            ["http", "https", "mqtt", "mqtts", "api", "api-tls"].map(|name| format!("--{name}-listen=off"));
        let check = |off: &[String]| {
            let arguments = std::iter::once("test").chain(off.iter().map(String::as_str));
            Options::try_parse_from(arguments).unwrap().listen.check()
        };
        assert!(check(&off).unwrap_err().to_string().contains("--api-tls-listen"));
        for on in 0..off.len() {
            let others = [&off[..on], &off[on + 1..]].concat();
            assert_eq!(check(&others), Ok(()), "{others:?}");
        }
    }
}
