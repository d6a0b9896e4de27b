//! The hand-over of what was kept: all devices come at once, and a command waits for each.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::address::Loopback;
use crate::command::{SENDERS, body};
use crate::connect;
use crate::drive::run;
use crate::fleet::{APPLICATION, FleetOptions, Login};
use crate::histogram::Histogram;
use crate::outcome_stream::OutcomeStream;
use crate::pace::now;
use crate::progress;
use crate::report::Figure;
use crate::wire::http;
use crate::wire::mqtt::{self, Packet};

/// How long all commands may take to be pending, and all devices to have theirs.
const PATIENCE: Duration = Duration::from_secs(180);

/// How many devices come.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Where the server listens for MQTT.
    #[arg(long)]
    pub(crate) target: Loopback,

    /// How many devices, each with one command that is kept for it.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) devices: usize,
}

/// Sends a command with `ttl` to each of some devices that are away, lets them connect all at once, and measures until
/// the last is subscribed, has its command, and is told to have it.
///
/// # Errors
/// Fails if devices cannot be made, or the commands do not come in time.
pub(crate) fn measure(options: &Options, fleet: &FleetOptions) -> anyhow::Result<Vec<Figure>> {
    ensure!(!fleet.foreign, "commands need a server with Drogue's API; leave --foreign out");
    run(async {
        let logins = fleet.enrol(options.devices).await?;
        let outcomes = OutcomeStream::open(fleet).await?;
        let kept = keep(&logins, fleet).await?;
        outcomes.all("pending", logins.len(), PATIENCE).await?;
        let progress = progress::count("handing over", logins.len());
        let start = now();
        let arrivals = logins.iter().map(|login| async {
            let arrival = arrive(options.target, login).await;
            progress.inc(1);
            arrival.with_context(|| format!("device {}", login.client_id))
        });
        let arrivals = tokio::time::timeout(PATIENCE, try_join_all(arrivals)).await;
        let arrivals = arrivals.context("not all devices have their command")??;
        progress.finish_and_clear();
        let delivered = outcomes.all("delivered", logins.len(), PATIENCE).await?;
        let what = |what: &str| format!("{} devices connect at once: {what}", logins.len());
        Ok(vec![
            kept,
            since(start, what("subscribed"), arrivals.iter().map(|arrival| arrival.subscribed)),
            since(start, what("have their pending command"), arrivals.iter().map(|arrival| arrival.taken)),
            since(start, what("told `delivered`"), delivered.into_iter()),
        ])
    })
}

/// Makes a figure of how long after `start` the last came, and of all of them.
fn since(start: Instant, what: String, times: impl Iterator<Item = Instant>) -> Figure {
    let (mut latency, mut last) = (Histogram::default(), start);
    for time in times {
        latency.record(time - start);
        last = last.max(time);
    }
    Figure::new(what, (last - start).as_secs_f64(), "s").with_latency(&latency)
}

/// Sends a command with `ttl` to each device, as fast as they are accepted.
async fn keep(logins: &[Login], fleet: &FleetOptions) -> anyhow::Result<Figure> {
    let (authorization, next) = (fleet.authorization()?, Cell::new(0));
    let progress = progress::count("sending commands that are kept", logins.len());
    let start = now();
    let senders = (0..SENDERS).map(|_| async {
        let (mut stream, mut latency) = (connect::tcp(fleet.api).await?, Vec::new());
        let mut input = Vec::new();
        while let Some(login) = logins.get(next.replace(next.get() + 1)) {
            let device = &login.client_id;
            let target = format!("/v1/apps/{APPLICATION}/devices/{device}/commands/load?ttl=1h");
            let began = now();
            stream.write_all(&http::post(&target, Some(&authorization), body(0).as_bytes())).await?;
            let (len, status) = loop {
                ensure!(stream.read_buf(&mut input).await? > 0, "the API closed the connection");
                if let Some(response) = http::parse(&input)? {
                    break (response.len, response.status);
                }
            };
            ensure!(status == 202, "a command with ttl was answered with {status}");
            input.drain(..len);
            latency.push(now() - began);
            progress.inc(1);
        }
        anyhow::Ok(latency)
    });
    let latencies = try_join_all(senders).await?;
    let rate = logins.len() as f64 / (now() - start).as_secs_f64();
    progress.finish_and_clear();
    let mut latency = Histogram::default();
    latencies.into_iter().flatten().for_each(|time| latency.record(time));
    Ok(Figure::new("command with ttl accepted by the API", rate, "1/s").with_latency(&latency))
}

/// A device that came and got its command.
struct Arrival {
    subscribed: Instant,
    taken: Instant,
    /// Stays open until all is told.
    _stream: TcpStream,
}

async fn arrive(target: Loopback, login: &Login) -> anyhow::Result<Arrival> {
    let mut stream = connect::mqtt(target, login).await?;
    stream.write_all(&mqtt::subscribe(connect::COMMANDS)).await?;
    let (mut input, mut subscribed) = (Vec::with_capacity(256), None);
    loop {
        while let Some((len, packet)) = mqtt::parse(&input)? {
            match packet {
                Packet::SubAck(0..=2) => subscribed = Some(now()),
                Packet::Publish { id: Some(id), .. } => {
                    let taken = now();
                    stream.write_all(&mqtt::puback(id)).await?;
                    // A command may overtake the SUBACK.
                    return Ok(Arrival { subscribed: subscribed.unwrap_or(taken), taken, _stream: stream });
                }
                Packet::ConnAck(_) | Packet::PubAck(_) | Packet::SubAck(_) | Packet::Publish { .. } => {
                    bail!("unexpected {packet:?}")
                }
            }
            input.drain(..len);
        }
        ensure!(stream.read_buf(&mut input).await? > 0, "the server closed the connection");
    }
}
