//! Commands: how long they take from the time at which an application should have sent them to the device, and to the
//! answer that the application gets.

mod device;
mod ledger;

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use futures_util::future::try_join_all;
use tokio::net::TcpStream;

use crate::address::Loopback;
use crate::connect;
use crate::drive::{Lane, Stats, run};
use crate::fleet::{APPLICATION, FleetOptions, Login};
use crate::pace::{Pace, Span, metronome, now};
use crate::process::POLL;
use crate::progress;
use crate::report::Figure;
use crate::telemetry::{self, Protocol};
use crate::wire::{Answer, Wire, http};
use ledger::Ledger;
pub(crate) use ledger::{body, number};

/// Commands a second, where nothing else is said.
pub(crate) const RATE: f64 = 200.0;

/// Connections to the API, one command at a time each.
pub(crate) const SENDERS: usize = 16;

/// How long commands may be on their way after the last was sent.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an application waits for when it sends a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Goal {
    /// That the command is accepted.
    Accepted,
    /// That the device has it.
    Delivered,
    /// The device's reply.
    Reply,
}

impl Goal {
    fn query(self) -> &'static str {
        match self {
            Self::Accepted => "",
            Self::Delivered => "?wait=delivered",
            Self::Reply => "?wait=reply",
        }
    }

    fn status(self) -> u16 {
        match self {
            Self::Accepted => 202,
            Self::Delivered | Self::Reply => 200,
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Accepted => "command accepted by the API",
            Self::Delivered => "submit to delivered, answered by the API",
            Self::Reply => "submit to reply, answered by the API",
        }
    }
}

/// How commands are sent, and beside what.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// By which protocol devices get them.
    pub(crate) protocol: Protocol,

    /// Where devices connect.
    #[arg(long)]
    pub(crate) target: Loopback,

    /// How many devices take turns. Over HTTP, each waits for its next command as soon as it has one.
    #[arg(long, default_value_t = 200)]
    pub(crate) devices: usize,

    /// Commands a second in all, sent however long they take.
    #[arg(long, default_value_t = RATE)]
    pub(crate) rate: f64,

    /// Send as many commands as are accepted: 16 connections to the API, with one under way each.
    #[arg(long, conflicts_with = "rate")]
    pub(crate) flat_out: bool,

    /// Telemetry a second that other devices send meanwhile, by the same protocol.
    #[arg(long)]
    pub(crate) telemetry_rate: Option<f64>,

    /// How many seconds are measured, after two in which the server warms up.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,

    /// What the application waits for; for `reply`, the devices reply.
    #[arg(long, value_name = "GOAL", default_value = "accepted")]
    pub(crate) wait: Goal,
}

impl Options {
    /// Sends with the defaults.
    pub(crate) fn new(protocol: Protocol, target: Loopback, seconds: f64) -> Self {
        Self {
            protocol,
            target,
            devices: 200,
            rate: RATE,
            flat_out: false,
            telemetry_rate: None,
            seconds,
            wait: Goal::Accepted,
        }
    }

    fn what(&self) -> String {
        let mut what = format!("command over {}", self.protocol.as_str());
        // Writing to a string does not fail.
        match self.wait {
            Goal::Accepted => {}
            Goal::Delivered => what.push_str(" with wait=delivered"),
            Goal::Reply => what.push_str(" with wait=reply"),
        }
        if let Some(rate) = self.telemetry_rate {
            write!(what, " beside {rate} telemetry/s").ok();
        }
        what
    }

    fn telemetry(&self) -> Option<telemetry::Options> {
        let mut options = telemetry::Options::new(self.protocol, self.target, self.seconds);
        options.rate = Some(self.telemetry_rate?);
        Some(options)
    }

    /// Tells each connection to the API when to send.
    fn paces(&self, span: Span) -> Vec<Pace> {
        match self.flat_out {
            true => (0..SENDERS).map(|_| Pace::Closed(span.end)).collect(),
            false => metronome(self.rate, span, SENDERS),
        }
    }
}

/// Measures commands, and the telemetry beside them.
///
/// # Errors
/// Fails if devices cannot be made, or the server breaks a protocol.
pub(crate) fn measure(options: &Options, fleet: &FleetOptions) -> anyhow::Result<Vec<Figure>> {
    measure_each(std::slice::from_ref(options), fleet)
}

/// Measures commands in one way after the other with the same devices, which connect anew for each.
///
/// # Errors
/// Fails if devices cannot be made, or the server breaks a protocol.
pub(crate) fn measure_each(each: &[Options], fleet: &FleetOptions) -> anyhow::Result<Vec<Figure>> {
    ensure!(!fleet.foreign, "commands need a server with Drogue's API; leave --foreign out");
    run(async {
        let others = |options: &Options| options.telemetry().map_or(0, |telemetry| telemetry.connections());
        let wanted = each.iter().map(|options| options.devices + others(options)).max().unwrap_or(0);
        let logins = fleet.enrol(wanted).await?;
        let mut figures = Vec::new();
        for options in each {
            let (devices, rest) = logins.split_at(options.devices);
            figures.extend(beside(options, devices, rest, fleet).await?);
        }
        Ok(figures)
    })
}

/// Measures commands to `devices`, beside the telemetry of `others` if there is to be any.
async fn beside(
    options: &Options,
    devices: &[Login],
    others: &[Login],
    fleet: &FleetOptions,
) -> anyhow::Result<Vec<Figure>> {
    let streams = connect_devices(options, devices).await?;
    let senders = try_join_all((0..SENDERS).map(|_| connect::tcp(fleet.api))).await?;
    let beside = options.telemetry().map(|telemetry| {
        let others = others[..telemetry.connections()].to_vec();
        // On a thread of its own, so that the generator's own queue is not part of a command's latency.
        thread::spawn(move || run(telemetry::send(&telemetry, &others)))
    });
    let authorization = fleet.authorization()?;
    let mut figures = exchange(options, devices, streams, senders, &authorization).await?;
    if let Some(beside) = beside {
        let figure = beside.join().map_err(|_| anyhow!("the telemetry generator panicked"))??;
        figures.push(figure);
    }
    Ok(figures)
}

async fn connect_devices(options: &Options, logins: &[Login]) -> anyhow::Result<Vec<TcpStream>> {
    let target = options.target;
    match options.protocol {
        Protocol::Http => connect::all(logins, |_| connect::tcp(target)).await,
        Protocol::Mqtt => connect::all(logins, |login| connect::subscribed_by_name(target, login)).await,
    }
}

async fn exchange(
    options: &Options,
    logins: &[Login],
    streams: Vec<TcpStream>,
    senders: Vec<TcpStream>,
    authorization: &str,
) -> anyhow::Result<Vec<Figure>> {
    let progress = progress::running(&options.what());
    let span = Span::new(Duration::from_secs(2), Duration::from_secs_f64(options.seconds));
    let ledger = Rc::new(RefCell::new(Ledger::new(span)));
    let devices = logins.iter().zip(streams).map(|(login, stream)| {
        let (login, ledger, protocol) = (login.clone(), ledger.clone(), options.protocol);
        let replies = options.wait == Goal::Reply;
        async move {
            match protocol {
                Protocol::Http => device::over_http(stream, &login, replies, &ledger).await,
                Protocol::Mqtt => device::over_mqtt(stream, replies, &ledger).await,
            }
            .with_context(|| format!("device {}", login.client_id))
        }
    });
    let devices: Vec<_> = devices.map(tokio::task::spawn_local).collect();
    let stop: Vec<_> = devices.iter().map(tokio::task::JoinHandle::abort_handle).collect();
    let devices = try_join_all(devices);
    let goal = options.wait;
    let requests: Rc<[_]> = logins.iter().map(|login| request(login, goal, authorization)).collect();
    let accepted = Stats::new(span);
    let sending = try_join_all(senders.into_iter().zip(options.paces(span)).map(|(stream, pace)| {
        let wire = Commands { ledger: ledger.clone(), requests: requests.clone(), goal };
        Lane::new(wire, pace, 1).drive(stream, &accepted)
    }));
    tokio::select! {
        ended = devices => match ended?.into_iter().collect::<Result<Vec<()>, _>>() {
            Ok(_) => bail!("the devices ended"),
            Err(error) => return Err(error),
        },
        sent = async { sending.await?; all_delivered(&ledger).await; anyhow::Ok(()) } => sent?,
    }
    progress.finish_and_clear();
    stop.into_iter().for_each(|device| device.abort());
    let ledger = ledger.borrow();
    Ok(vec![ledger.figure(options.what()), Figure::of_stats(goal.what(), &accepted.borrow())])
}

async fn all_delivered(ledger: &RefCell<Ledger>) {
    let deadline = now() + PATIENCE;
    while ledger.borrow().missing() > 0 && now() < deadline {
        tokio::time::sleep(POLL).await;
    }
}

/// Builds a command for a device, with a number that is filled in when it is sent.
fn request(login: &Login, goal: Goal, authorization: &str) -> Vec<u8> {
    let (device, query) = (&login.client_id, goal.query());
    let target = format!("/v1/apps/{APPLICATION}/devices/{device}/commands/load{query}");
    http::post(&target, Some(authorization), body(0).as_bytes())
}

/// Commands to one device after the other.
struct Commands {
    ledger: Rc<RefCell<Ledger>>,
    requests: Rc<[Vec<u8>]>,
    goal: Goal,
}

impl Wire for Commands {
    fn request(&mut self, intended: Instant, out: &mut Vec<u8>) {
        let number = self.ledger.borrow_mut().sent(intended);
        let request = &self.requests[number % self.requests.len()];
        let body = body(number);
        out.extend_from_slice(&request[..request.len() - body.len()]);
        out.extend_from_slice(body.as_bytes());
    }

    fn answer(&mut self, input: &[u8]) -> anyhow::Result<Option<Answer>> {
        let accepted = self.goal.status();
        let response = http::parse(input)?;
        Ok(response.map(|response| Answer { len: response.len, accepted: response.status == accepted }))
    }
}
