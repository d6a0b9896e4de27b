//! `drogue up`: the whole cloud in one process.
//!
//! One process is one replica: HTTP and MQTT share one [`DeviceService`], and with it one connection table.

mod bound;
mod options;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use command_endpoint::{Identities, Tracker};
use common::auth::Secret;
use common::ledger::Ledger;
use common::net::load_tls;
use common::registry::Registry;
use common::service::{Clock, DeviceService, Shutdown};
use common::startup::{self, ChannelOptions, Channels, Services, open_channels, open_registry};
use common::web::admin::install_metrics;
use rustls::ServerConfig;

pub use options::Up;

use crate::addresses::Addresses;
use crate::certificates::{self, CA_CERTIFICATE, SERVER_CERTIFICATE, SERVER_KEY};
use crate::data_dir::DataDir;
use crate::first_start;
use crate::output;
use crate::quickstart::Quickstart;
use bound::Bound;

/// Runs the cloud until a signal ends it, and returns the exit code of the process.
pub fn main(up: Up) -> ExitCode {
    let (logs, limits) = (up.logs.clone(), up.limits.clone());
    startup::serve(&logs, &limits, |shutdown| run(up, shutdown))
}

async fn run(up: Up, shutdown: Shutdown) -> anyhow::Result<()> {
    let clock = Clock::system();
    let Checked { data, certificate, admin_token } = check(&up)?;
    let identities = up.api.identities(clock.clone()).await?;
    startup::raise_descriptor_limit();
    let metrics = install_metrics()?;
    data.create()?;
    // The channels come first: the lock of the embedded log keeps a second process out of the directory.
    let channels = open_channels(&channel(&up, &data), &up.limits, clock.clone()).await?;
    let tls = Tls::choose(certificate, &data, &clock)?;
    let mut bound = Bound::bind(&up.listen, &tls.config)?;
    let addresses = bound.addresses(tls.ca, tls.development);
    let admin_token = first_start::admin_token(&data, admin_token)?;
    let store = up.registry.or_file(&data.file("registry.sqlite"));
    let registry = open_registry(&store, Some(admin_token), clock.clone()).await?;
    first_start::prepare(&data, &registry, addresses.are_loopback()).await?;

    let admin = bound.admin.take();
    let services = start(up, bound, channels, registry.clone(), identities, clock, shutdown).await?;
    addresses.save(&data)?;
    announce(&data, &registry, &addresses).await?;
    services.run(admin, metrics).await
}

/// What the options say that can be wrong, looked at before anything is made or bound.
struct Checked {
    data: DataDir,
    certificate: Option<(Arc<ServerConfig>, PathBuf)>,
    admin_token: Option<Secret>,
}

fn check(up: &Up) -> anyhow::Result<Checked> {
    up.registry.check()?;
    up.listen.check()?;
    let certificate = up.tls.load()?.zip(up.tls.tls_cert.clone());
    let data = up.data_dir.open()?;
    channel(up, &data).check(&up.limits)?;
    Ok(Checked { data, certificate, admin_token: up.admin_token.read()? })
}

/// Kafka if it was chosen, or else the embedded log.
fn channel(up: &Up, data: &DataDir) -> ChannelOptions {
    ChannelOptions::kafka_or_file(up.kafka.clone(), data.file("log.sqlite"), up.retention.clone())
}

/// The certificate of all TLS listeners.
struct Tls {
    config: Arc<ServerConfig>,
    /// What clients must trust.
    ca: PathBuf,
    development: bool,
}

impl Tls {
    /// Takes the given certificate, or else the development certificate, which it makes or renews if need be.
    fn choose(
        given: Option<(Arc<ServerConfig>, PathBuf)>,
        data: &DataDir,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        if let Some((config, path)) = given {
            return Ok(Self { config, ca: std::path::absolute(path)?, development: false });
        }
        certificates::ensure(data, clock.wall())?;
        let config = load_tls(&data.file(SERVER_CERTIFICATE), &data.file(SERVER_KEY))?;
        Ok(Self { config, ca: data.file(CA_CERTIFICATE), development: true })
    }
}

/// Starts the servers that are not off; commands are live when this resolves.
async fn start(
    up: Up,
    bound: Bound,
    channels: Channels,
    registry: Registry,
    identities: Option<Identities>,
    clock: Clock,
    shutdown: Shutdown,
) -> anyhow::Result<Services> {
    let Up { limits, kafka, http, mqtt, api, .. } = limited(up);
    // Nobody else reads or writes the embedded log: there is no other replica.
    let is_alone = kafka.kafka_bootstrap_servers.is_none();
    let Channels { sink, source, .. } = channels.clone();
    let devices = DeviceService::start(
        sink.clone(),
        &*source,
        Arc::new(registry.clone()),
        Arc::new(Ledger::of(&registry)),
        limits.limits(),
        clock.clone(),
    )
    .await?;
    let mut services = Services::new(shutdown.clone());
    services.require_channels(&channels);
    let watched = devices.clone();
    services.require("commands", move || watched.is_live());
    let (last, last_words) = (devices.clone(), limits.last_words_grace());
    services.at_last(async move { last.finish(last_words).await });
    let sole = is_alone.then(|| devices.incarnation());
    if bound.http.is_on() {
        services.spawn("http", http_endpoint::run(http, bound.http, devices.clone(), shutdown.clone()));
    }
    if bound.mqtt.is_on() {
        services.spawn("mqtt", mqtt_endpoint::run(mqtt, bound.mqtt, devices, shutdown.clone()));
    }
    // Also where applications have no way in: what was kept, and what is given back, goes on.
    let settings = api.tracker(&limits.limits(), sole);
    let (tracker, tracking) =
        Tracker::start(sink.clone(), &*source, &registry, settings, clock.clone()).await?;
    tracking.serve_in(&mut services, shutdown.clone());
    if bound.api.is_on() {
        let limits = limits.limits();
        let backends = command_endpoint::Backends {
            sink,
            source,
            registry,
            identities,
            tracker: Some(tracker),
            clock,
            limits,
        };
        services.spawn("api", command_endpoint::run(api, bound.api, backends, shutdown));
    }
    Ok(services)
}

/// Gives each server the limits that they share.
fn limited(mut up: Up) -> Up {
    let (max_connections, grace) = (up.limits.max_connections, up.limits.endpoint_grace());
    (up.http.max_connections, up.http.grace) = (max_connections, grace);
    (up.mqtt.max_connections, up.mqtt.grace) = (max_connections, grace);
    (up.api.max_connections, up.api.grace) = (max_connections, grace);
    up
}

/// Prints what listens where, and how to send a first command.
async fn announce(data: &DataDir, registry: &Registry, addresses: &Addresses) -> anyhow::Result<()> {
    let on = addresses.listeners().into_iter().filter_map(|listener| Some((listener.name, listener.url()?)));
    let mut rows: Vec<_> = on.map(|(name, url)| [name.to_owned(), url]).collect();
    rows.push(["data directory".to_owned(), data.path().display().to_string()]);
    output::line("Drogue is up")?;
    output::table(&rows)?;
    let token = first_start::valid_token(data, registry).await?;
    let example = first_start::example(registry).await?;
    let quickstart =
        Quickstart { addresses, data: data.path(), token: token.as_ref().map(Secret::expose), example };
    output::line(format!("\n{}", quickstart.section().trim_end()))?;
    Ok(())
}
