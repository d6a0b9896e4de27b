//! What an endpoint stands on in a process of its own.

use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;

use super::channel::open_knative;
use super::knative::Checked;
use super::{
    BadConfiguration, ChannelOptions, Channels, KnativeOptions, LimitOptions, LogOptions, RegistryOptions,
    Role, Services, TlsOptions, open_channels, open_registry, raise_descriptor_limit, report, serve,
};
use crate::auth::Secret;
use crate::ledger::Ledger;
use crate::net::{Listen, Listeners};
use crate::registry::Registry;
use crate::service::{Clock, DeviceService, Limits, Shutdown};
use crate::web::admin::install_metrics;

/// The options of an endpoint in a process of its own, but for those of its protocol.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct ReplicaOptions {
    /// Where to listen for /healthz, /readyz and /metrics, or 'off'.
    #[arg(long, env = "DROGUE_ADMIN_LISTEN", value_name = "LISTEN", default_value = "127.0.0.1:9090")]
    pub admin_listen: Listen,

    /// Where events are kept.
    #[command(flatten)]
    pub channel: ChannelOptions,

    /// Where the channels are on Knative.
    #[command(flatten)]
    pub knative: KnativeOptions,

    /// Where applications, devices and tokens are kept.
    #[command(flatten)]
    pub registry: RegistryOptions,

    /// The certificate of the TLS listener.
    #[command(flatten)]
    pub tls: TlsOptions,

    /// Limits on what devices and applications may use.
    #[command(flatten)]
    pub limits: LimitOptions,

    /// What is logged.
    #[command(flatten)]
    pub logs: LogOptions,

    /// Check the options and variables, say what they mean, and end: 0 if they are good, 64 if not.
    #[arg(long)]
    pub check_config: bool,
}

/// Runs an endpoint until it ends, in a process that is set up for it; see [`serve`]. With `--check-config` it only says
/// whether its options are good.
pub fn serve_replica<F>(options: &ReplicaOptions, role: Role, server: impl FnOnce(Shutdown) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    if options.check_config {
        return report(
            options.check(role).map_err(Into::into).and_then(|_| {
                Ok(writeln!(io::stdout(), "the configuration is good; {}", options.in_words())?)
            }),
        );
    }
    serve(&options.logs, &options.limits, server)
}

/// What an endpoint stands on in a process of its own.
pub struct Replica {
    /// The channels.
    pub channels: Channels,
    /// The registry.
    pub registry: Registry,
    /// The clock.
    pub clock: Clock,
    /// The endpoint's sockets.
    pub listeners: Listeners,
    /// The socket of the admin server.
    pub admin: Option<TcpListener>,
    /// What the admin server shows as metrics.
    pub metrics: PrometheusHandle,
    /// Limits on what devices and applications may use.
    pub limits: Limits,
}

impl Replica {
    /// Checks the options, binds the sockets, and opens registry and channels, unless the shutdown comes first.
    ///
    /// # Errors
    /// Says which option is bad before anything is bound, or what cannot be had.
    pub async fn open(
        options: ReplicaOptions,
        role: Role,
        plain: Listen,
        tls: Listen,
        admin_token: Option<Secret>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let knative = options.check(role)?;
        let certificate = options.tls.load()?;
        if plain == Listen::Off && (tls == Listen::Off || certificate.is_none()) {
            let reason =
                "there is nothing to listen on (options --listen and --tls-listen, which needs --tls-cert)";
            return Err(BadConfiguration(reason.to_owned()).into());
        }
        raise_descriptor_limit();
        if tls != Listen::Off && certificate.is_none() {
            tracing::info!(address = %tls, "TLS is off: there is no certificate (options --tls-cert and --tls-key)");
        }
        let metrics = install_metrics()?;
        let listeners = Listeners::bind((plain, "--listen"), (tls, "--tls-listen"), certificate.as_ref())?;
        let admin = options.admin_listen.bind("--admin-listen")?;
        let clock = Clock::system();
        let limits = options.limits.limits();
        let opening = open_backends(options, knative, admin_token, clock.clone());
        let opened = shutdown.run_until_cancelled(opening).await;
        let (registry, channels) = opened.context("was asked to end before it was ready")??;
        let (plain, tls) = listeners.addresses();
        let bound = |listener: &TcpListener| listener.local_addr().ok();
        let (plain, tls) = (shown(plain), shown(tls));
        tracing::info!(plain, tls, admin = shown(admin.as_ref().and_then(bound)), "listening");
        Ok(Self { channels, registry, clock, listeners, admin, metrics, limits })
    }

    /// Returns services that are ready only while the channels can be reached.
    pub fn services(&self, shutdown: Shutdown) -> Services {
        let mut services = Services::new(shutdown);
        services.require_channels(&self.channels);
        services
    }

    /// Starts the service that device endpoints share; commands are live when this resolves.
    ///
    /// # Errors
    /// Fails if the commands channel cannot be subscribed to.
    pub async fn devices(&self) -> anyhow::Result<DeviceService> {
        let Channels { sink, source, .. } = self.channels.clone();
        let sent = Arc::new(Ledger::of(&self.registry));
        let (registry, limits) = (Arc::new(self.registry.clone()), self.limits.clone());
        Ok(DeviceService::start(sink, &*source, registry, sent, limits, self.clock.clone()).await?)
    }
}

impl ReplicaOptions {
    /// Checks what can be known before anything is opened or bound.
    fn check(&self, role: Role) -> Result<Option<Checked>, BadConfiguration> {
        self.registry.check()?;
        self.channel.check(&self.limits)?;
        let on_knative = self.knative.is_chosen();
        let missing = match (self.registry.database_url.is_some(), self.channel.is_chosen() || on_knative) {
            (true, true) => None,
            (true, false) => Some("the channel is"),
            (false, true) => Some("the registry is"),
            (false, false) => Some("both are"),
        };
        if let Some(missing) = missing {
            let needed = "a process of its own needs a registry (option --database-url) and a channel \
                          (options --kafka-bootstrap-servers, --channel)";
            return Err(BadConfiguration(format!("{needed}: {missing} missing")));
        }
        if on_knative && self.channel.embedded_log.is_some() {
            let reason =
                "the channels are on Knative (--sink, --channel) or in a file (--embedded-log), not both";
            return Err(BadConfiguration(reason.to_owned()));
        }
        let kafka = self.channel.kafka.kafka_bootstrap_servers.is_some();
        on_knative.then(|| self.knative.check(role, kafka)).transpose()
    }

    fn in_words(&self) -> &'static str {
        let kafka = self.channel.kafka.kafka_bootstrap_servers.is_some();
        match (self.knative.is_chosen(), kafka) {
            (true, true) => "the channels are on Knative, and read from their topics on Kafka",
            (true, false) => "the channels are on Knative, and push to this replica",
            (false, true) => "the channels are topics on Kafka",
            (false, false) => "the channels are in a file",
        }
    }
}

/// Opens the registry, and then the channels: what these leave in a cluster is not left by a replica without a registry.
async fn open_backends(
    options: ReplicaOptions,
    knative: Option<Checked>,
    admin_token: Option<Secret>,
    clock: Clock,
) -> anyhow::Result<(Registry, Channels)> {
    let ReplicaOptions { channel, limits, .. } = options;
    let without_operator = admin_token.is_none();
    let registry = open_registry(&options.registry, admin_token, clock.clone()).await?;
    if without_operator && registry.applications().await?.is_empty() {
        tracing::info!(
            "there is no application yet; a command-endpoint that has the operator's token can make one (drogue app \
             create NAME)"
        );
    }
    let channels = match knative {
        Some(checked) => open_knative(options.knative, checked, &channel.kafka, &limits, clock).await?,
        None => open_channels(&channel, &limits, clock).await?,
    };
    Ok((registry, channels))
}

/// Writes where a listener is, as the option does.
fn shown(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "off".to_owned(), |address| address.to_string())
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        replica: ReplicaOptions,
    }

    async fn refusal(arguments: &[&str]) -> String {
        let options = Options::try_parse_from([&["test"], arguments].concat()).unwrap().replica;
        let error = Replica::open(options, Role::Devices, Listen::Off, Listen::Off, None, &Shutdown::new())
            .await
            .unwrap_err();
        assert!(error.is::<BadConfiguration>(), "{error:#}");
        error.to_string()
    }

    #[tokio::test]
    async fn a_channel_and_a_registry_are_required_and_both_are_named() {
        for (given, missing) in [
            (&[][..], "both are missing"),
            (&["--database-url", "sqlite://x"], "the channel is missing"),
            (&["--embedded-log", "x"], "the registry is missing"),
            (&["--kafka-bootstrap-servers", "a:1"], "the registry is missing"),
        ] {
            let refusal = refusal(given).await;
            assert!(refusal.contains("--database-url") && refusal.contains("--kafka-bootstrap-servers"));
            assert!(refusal.ends_with(missing), "{refusal}");
        }
    }

    #[tokio::test]
    async fn nothing_is_opened_for_a_bad_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log").display().to_string();
        let enough = ["--database-url", "sqlite:///x", "--embedded-log", &log];
        assert!(refusal(&enough).await.contains("nothing to listen on"));
        let bad_tls = [&enough[..], &["--tls-cert", "/none", "--tls-key", "/none"]].concat();
        assert!(refusal(&bad_tls).await.contains("--tls-cert"));
        assert!(!std::path::Path::new(&log).exists());
    }
}
