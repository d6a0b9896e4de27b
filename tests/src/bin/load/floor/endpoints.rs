//! Drogue's endpoints over channels that discard, or over the log with no tracker: what they do without either.
//!
//! Put together as `drogue up` is, with the same registry and metrics, so that the channel or the tracker alone is another
//! one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use command_endpoint::Tracker;
use common::auth::Secret;
use common::channel::{EventSink, EventSource};
use common::embedded::{EmbeddedLog, LogSettings};
use common::ledger::Ledger;
use common::net::{Listen, Listeners};
use common::registry::sqlite_url;
use common::service::{Clock, DeviceService, Shutdown};
use common::startup::{self, LimitOptions, LogOptions, RegistryOptions, Services};
use common::web::admin::install_metrics;

use crate::address::Loopback;
use crate::discard::Discard;
use crate::fleet::{TOKEN_FILE, new_token};

/// Where the endpoints listen; named as the options of `drogue up` are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Where the registry and the operator's token are kept.
    #[arg(long)]
    data_dir: PathBuf,

    /// Keep events in the embedded log, in that directory. No tracker follows it.
    #[arg(long)]
    untracked: bool,

    /// Where to listen for HTTP.
    #[arg(long)]
    http_listen: Loopback,

    /// Where to listen for MQTT.
    #[arg(long)]
    mqtt_listen: Loopback,

    /// Where to listen for applications.
    #[arg(long)]
    api_listen: Loopback,

    /// Where to listen for /readyz.
    #[arg(long)]
    admin_listen: Loopback,
}

/// What is not chosen here: the defaults of `drogue up`, but for what is logged.
#[derive(Debug, clap::Parser)]
struct Defaults {
    #[command(flatten)]
    logs: LogOptions,

    #[command(flatten)]
    limits: LimitOptions,
}

/// Serves until the process is ended.
///
/// # Errors
/// Fails if an address is not to be had, or the directory cannot be written to.
pub(super) fn serve(options: &Options) -> anyhow::Result<()> {
    let Defaults { logs, limits } = Defaults::try_parse_from(["endpoints", "--log", "warn"])?;
    let ended = startup::serve(&logs, &limits, |shutdown| run(options.clone(), limits.clone(), shutdown));
    anyhow::ensure!(ended == ExitCode::SUCCESS, "the endpoints failed");
    Ok(())
}

struct Channels {
    sink: Arc<dyn EventSink>,
    source: Arc<dyn EventSource>,
}

fn open(options: &Options, clock: &Clock) -> anyhow::Result<Channels> {
    if !options.untracked {
        return Ok(Channels { sink: Arc::new(Discard), source: Arc::new(Discard) });
    }
    let file = options.data_dir.join("log.sqlite");
    let log = Arc::new(EmbeddedLog::open(&file, LogSettings::default(), clock.clone())?);
    Ok(Channels { sink: log.clone(), source: log })
}

async fn run(options: Options, limits: LimitOptions, shutdown: Shutdown) -> anyhow::Result<()> {
    let (clock, metrics) = (Clock::system(), install_metrics()?);
    let bind = |address: Loopback, option| Listen::At(address.socket()).bind(option);
    let plain = |address, option| bind(address, option).map(|plain| Listeners { plain, tls: None });
    let http = plain(options.http_listen, "--http-listen")?;
    let mqtt = plain(options.mqtt_listen, "--mqtt-listen")?;
    let api = plain(options.api_listen, "--api-listen")?;
    let admin = bind(options.admin_listen, "--admin-listen")?;
    let token = new_token()?;
    std::fs::write(options.data_dir.join(TOKEN_FILE), &token)?;
    let database_url = Some(sqlite_url(&options.data_dir.join("registry.sqlite")));
    let store = RegistryOptions { database_url, max_pending_logins: 10_000 };
    let registry = startup::open_registry(&store, Some(Secret::new(token)), clock.clone()).await?;
    let Channels { sink, source } = open(&options, &clock)?;
    let authenticator = Arc::new(registry.clone());
    let sent = Arc::new(Ledger::of(&registry));
    let devices =
        DeviceService::start(sink.clone(), &*source, authenticator, sent, limits.limits(), clock.clone())
            .await?;
    let mut services = Services::new(shutdown.clone());
    let config = http_endpoint::Config::default();
    services.spawn("http", http_endpoint::run(config, http, devices.clone(), shutdown.clone()));
    let config = mqtt_endpoint::Config::default();
    services.spawn("mqtt", mqtt_endpoint::run(config, mqtt, devices, shutdown.clone()));
    let (limits, config) = (limits.limits(), command_endpoint::Config::default());
    let settings = config.tracker(&limits, None);
    // It follows channels in which nothing is.
    let (tracker, tracking) =
        Tracker::start(Arc::new(Discard), &Discard, &registry, settings, clock.clone()).await?;
    services.spawn("tracker", tracking.run(shutdown.clone()));
    let backends = command_endpoint::Backends {
        sink,
        source,
        registry,
        identities: None,
        tracker: Some(tracker),
        clock,
        limits,
    };
    services.spawn("api", command_endpoint::run(config, api, backends, shutdown));
    services.run(admin, metrics).await
}
