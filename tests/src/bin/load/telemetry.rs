//! Telemetry: how much a second, and how long an acknowledgement takes.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::try_join_all;
use tokio::net::TcpStream;

use crate::address::Loopback;
use crate::connect;
use crate::drive::{Lane, Stats, run};
use crate::fleet::{FleetOptions, Login};
use crate::pace::{Pace, Span, metronome};
use crate::progress;
use crate::report::Figure;
use crate::wire::{Wire, http, mqtt};

/// The subject of all telemetry.
const SUBJECT: &str = "temperature";

/// By which protocol devices speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http,
    /// MQTT 3.1.1.
    Mqtt,
}

impl Protocol {
    /// Returns the name that figures use.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Mqtt => "MQTT",
        }
    }
}

/// How much telemetry is sent.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// By which protocol.
    pub(crate) protocol: Protocol,

    /// Where the server listens.
    #[arg(long)]
    pub(crate) target: Loopback,

    /// How many devices send, each over a connection of its own [default: 50 over MQTT, 256 over HTTP].
    #[arg(long)]
    pub(crate) connections: Option<usize>,

    /// How many messages of a connection may wait for their acknowledgement [default: 64 over MQTT, 1 over HTTP].
    #[arg(long)]
    pub(crate) window: Option<usize>,

    /// Messages a second in all, sent however long acknowledgements take [default: as many as the server takes].
    #[arg(long)]
    pub(crate) rate: Option<f64>,

    /// The bytes of a message, at least 20.
    #[arg(long, default_value_t = 64)]
    pub(crate) payload: usize,

    /// How many seconds are measured, after two in which the server warms up.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
}

impl Options {
    /// Sends as much as the server takes, with defaults for the rest.
    pub(crate) fn new(protocol: Protocol, target: Loopback, seconds: f64) -> Self {
        Self { protocol, target, connections: None, window: None, rate: None, payload: 64, seconds }
    }

    /// Returns how many devices send.
    pub(crate) fn connections(&self) -> usize {
        self.connections.unwrap_or(match self.protocol {
            Protocol::Http => 256,
            Protocol::Mqtt => 50,
        })
    }

    fn window(&self) -> usize {
        self.window.unwrap_or(match self.protocol {
            Protocol::Http => 1,
            Protocol::Mqtt => 64,
        })
    }

    fn what(&self) -> String {
        let protocol = match self.protocol {
            Protocol::Http => "HTTP",
            Protocol::Mqtt => "MQTT QoS 1",
        };
        let rate = self.rate.map(|rate| format!(" at {rate}/s")).unwrap_or_default();
        format!("{protocol} telemetry{rate}")
    }
}

/// Measures telemetry with devices of its own.
///
/// # Errors
/// Fails if devices cannot be made, or the server breaks the protocol.
pub(crate) fn measure(options: &Options, fleet: &FleetOptions) -> anyhow::Result<Figure> {
    run(async {
        let logins = fleet.enrol(options.connections()).await?;
        send(options, &logins).await
    })
}

/// Sends telemetry of the given devices, and measures.
///
/// # Errors
/// Fails if the server refuses a connection or breaks the protocol.
pub(crate) async fn send(options: &Options, logins: &[Login]) -> anyhow::Result<Figure> {
    let payload = format!("{{\"temp\":42,\"pad\":\"{:x<1$}\"}}", "", options.payload.saturating_sub(20));
    let payload = payload.as_bytes();
    let stats = match options.protocol {
        Protocol::Http => {
            let lanes = connect::all(logins, |login| async move {
                let wire = http::Telemetry::new(login, SUBJECT, payload);
                Ok((wire, connect::tcp(options.target).await?))
            });
            drive(options, lanes.await?).await?
        }
        Protocol::Mqtt => {
            let lanes = connect::all(logins, |login| async move {
                let wire = mqtt::Telemetry::new(SUBJECT, payload);
                Ok((wire, connect::mqtt(options.target, login).await?))
            });
            drive(options, lanes.await?).await?
        }
    };
    Ok(Figure::of_stats(options.what(), &stats))
}

async fn drive<W: Wire + 'static>(options: &Options, lanes: Vec<(W, TcpStream)>) -> anyhow::Result<Stats> {
    let progress = progress::running(&options.what());
    let span = Span::new(Duration::from_secs(2), Duration::from_secs_f64(options.seconds));
    let paces = match options.rate {
        Some(rate) => metronome(rate, span, lanes.len()),
        None => (0..lanes.len()).map(|_| Pace::Closed(span.end)).collect(),
    };
    let stats = Rc::new(Stats::new(span));
    let window = options.window();
    let driven = lanes.into_iter().zip(paces).map(|((wire, stream), pace)| {
        let stats = stats.clone();
        tokio::task::spawn_local(async move { Lane::new(wire, pace, window).drive(stream, &stats).await })
    });
    for lane in try_join_all(driven.collect::<Vec<_>>()).await? {
        lane?;
    }
    progress.finish_and_clear();
    Rc::into_inner(stats).map(RefCell::into_inner).context("a connection is still at work")
}
