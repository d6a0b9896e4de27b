//! Memory: what a connection costs the server that waits on it for commands.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::address::Loopback;
use crate::connect::{self, Stream};
use crate::drive::run;
use crate::fleet::{FleetOptions, Login};
use crate::process::{listening_on, resident_kib};
use crate::progress;
use crate::report::Figure;
use crate::wire::http;

/// Memory is taken when it has not changed for so many looks.
const STEADY_LOOKS: usize = 4;
const LOOK: Duration = Duration::from_millis(250);

/// What kind of connection waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// MQTT, subscribed to `cmd`.
    Mqtt,
    /// MQTT over TLS, subscribed to `cmd`.
    Mqtts,
    /// An HTTP request with `ttd=60`.
    Http,
}

impl Kind {
    fn what(self) -> &'static str {
        match self {
            Self::Mqtt => "idle MQTT connection",
            Self::Mqtts => "idle MQTT connection, TLS",
            Self::Http => "waiting HTTP request",
        }
    }
}

/// How many connections wait where.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// What kind of connection waits.
    pub(crate) kind: Kind,

    /// Where the server listens.
    #[arg(long)]
    pub(crate) target: Loopback,

    /// How many wait, each of a device of its own.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) connections: usize,

    /// The server's process [default: the one that listens on the target].
    #[arg(long)]
    pub(crate) pid: Option<u32>,

    /// The authority that signed the server's certificate [default: {data-dir}/tls.crt].
    #[arg(long)]
    pub(crate) cafile: Option<PathBuf>,
}

impl Options {
    /// Makes `connections` wait at a server of which the process is known.
    pub(crate) fn new(kind: Kind, target: Loopback, connections: usize, pid: u32) -> Self {
        Self { kind, target, connections, pid: Some(pid), cafile: None }
    }
}

/// Measures the resident memory that each connection adds to the server.
///
/// # Errors
/// Fails if devices cannot be made, or a connection does not stay.
pub(crate) fn measure(options: &Options, fleet: &FleetOptions) -> anyhow::Result<Figure> {
    let pid = options.pid.map_or_else(|| listening_on(options.target), Ok)?;
    run(async {
        let logins = fleet.enrol(options.connections).await?;
        let before = steady_kib(pid).await?;
        let streams = open(options, fleet, &logins).await?;
        let after = steady_kib(pid).await?;
        for (mut stream, login) in streams.into_iter().zip(&logins) {
            let idle = stream.read_u8().now_or_never().is_none();
            ensure!(idle, "the connection of {} did not stay open and silent", login.client_id);
        }
        let each = after.saturating_sub(before) as f64 / options.connections as f64;
        let note = format!("{} connections, {} MB before", options.connections, before / 1024);
        Ok(Figure::new(options.kind.what(), each, "KiB").with_note(note))
    })
}

async fn open(
    options: &Options,
    fleet: &FleetOptions,
    logins: &[Login],
) -> anyhow::Result<Vec<Box<dyn Stream>>> {
    let cafile = options.cafile.clone().unwrap_or_else(|| fleet.data_dir.join("tls.crt"));
    let tls = match options.kind {
        Kind::Mqtts => Some(connect::tls(&cafile)?),
        Kind::Mqtt | Kind::Http => None,
    };
    let progress = progress::count(options.kind.what(), logins.len());
    let streams = connect::all(logins, async |login| {
        let mut stream: Box<dyn Stream> = match &tls {
            Some(tls) => Box::new(connect::tcp_tls(options.target, tls).await?),
            None => Box::new(connect::tcp(options.target).await?),
        };
        match options.kind {
            Kind::Http => {
                let authorization = http::basic(login);
                let request =
                    http::post("/v1/temperature?ttd=60", authorization.as_deref(), b"{\"temp\":42}");
                stream.write_all(&request).await?;
                stream.flush().await?;
            }
            Kind::Mqtt | Kind::Mqtts => {
                connect::log_in(&mut stream, login).await?;
                connect::subscribe(&mut stream, connect::COMMANDS).await?;
            }
        }
        progress.inc(1);
        Ok(stream)
    });
    let streams = streams.await?;
    progress.finish_and_clear();
    Ok(streams)
}

/// Returns a process's resident memory once it does not change any more.
async fn steady_kib(pid: u32) -> anyhow::Result<u64> {
    let (mut last, mut looks) = (resident_kib(pid)?, 0);
    while looks < STEADY_LOOKS {
        tokio::time::sleep(LOOK).await;
        let kib = resident_kib(pid)?;
        looks = if kib.abs_diff(last) * 1_000 <= last { looks + 1 } else { 0 };
        last = kib;
    }
    Ok(last)
}
