//! The storm after a restart: all devices come back at once.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::address::Loopback;
use crate::connect;
use crate::drive::run;
use crate::fleet::{FleetOptions, Login};
use crate::histogram::Histogram;
use crate::pace::now;
use crate::process::POLL;
use crate::progress;
use crate::report::Figure;

/// How long a device waits before it tries again.
const RETRY: Duration = Duration::from_millis(250);

/// How long the server may take to come back, and all devices with it.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many devices come back.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Where the server listens for MQTT.
    #[arg(long)]
    pub(crate) target: Loopback,

    /// How many devices, each with credentials of its own.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) devices: usize,
}

/// Connects devices, calls `restart`, and measures how long they take to be back and subscribed, from the moment at
/// which the server listens again.
///
/// # Errors
/// Fails if devices cannot be made, or are not back in time.
pub(crate) fn measure(
    options: &Options,
    fleet: &FleetOptions,
    restart: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Figure> {
    run(async {
        let logins = fleet.enrol(options.devices).await?;
        let streams = connect::all(&logins, |login| connect::subscribed(options.target, login)).await?;
        restart()?;
        closed(streams).await?;
        let listening = tokio::time::timeout(PATIENCE, listening(options.target));
        listening.await.context("the server did not come back")?;
        let back = tokio::time::timeout(PATIENCE, storm(options.target, &logins));
        back.await.context("not all devices came back")?
    })
}

async fn closed(streams: Vec<TcpStream>) -> anyhow::Result<()> {
    let progress = progress::running("waiting for the restart");
    for mut stream in streams {
        // An error is an end too.
        if matches!(stream.read(&mut [0]).await, Ok(1)) {
            bail!("the server sent something to an idle device");
        }
    }
    progress.finish_and_clear();
    Ok(())
}

async fn listening(target: Loopback) {
    while connect::tcp(target).await.is_err() {
        tokio::time::sleep(POLL).await;
    }
}

async fn storm(target: Loopback, logins: &[Login]) -> anyhow::Result<Figure> {
    let progress = progress::count("coming back", logins.len());
    let (start, mut retries, mut latency) = (now(), 0, Histogram::default());
    let mut storm: FuturesUnordered<_> = logins.iter().map(|login| come_back(target, login)).collect();
    let mut streams = Vec::with_capacity(logins.len());
    while let Some((stream, tries)) = storm.next().await {
        latency.record(now() - start);
        retries += tries - 1;
        streams.push(stream);
        progress.inc(1);
    }
    let seconds = (now() - start).as_secs_f64();
    progress.finish_and_clear();
    let what = format!("{} devices reconnect after a restart", logins.len());
    let note = if retries > 0 { format!("{retries} retries") } else { String::new() };
    Ok(Figure::new(what, seconds, "s").with_latency(&latency).with_note(note))
}

/// Tries until the device is connected and subscribed. Returns the connection and the number of tries.
async fn come_back(target: Loopback, login: &Login) -> (TcpStream, u32) {
    let mut tries = 1;
    loop {
        match connect::subscribed(target, login).await {
            Ok(stream) => return (stream, tries),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
        tries += 1;
    }
}
