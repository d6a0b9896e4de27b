//! The options of `drogue up`.

use clap::Args;
use common::net::Listen;
use common::startup::{
    AdminTokenOptions, LimitOptions, LogOptions, RegistryOptions, RetentionOptions, TlsOptions,
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
