//! Commands: how long they take from the time at which an application should have sent them to the device.

use std::cell::RefCell;
use std::fmt::Write;
use std::ops::Range;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::address::Loopback;
use crate::connect;
use crate::drive::{Lane, Stats, run};
use crate::fleet::{APPLICATION, FleetOptions, Login};
use crate::histogram::Histogram;
use crate::pace::{Span, metronome, now};
use crate::process::POLL;
use crate::progress;
use crate::report::Figure;
use crate::telemetry::{self, Protocol};
use crate::wire::mqtt::Packet;
use crate::wire::{Answer, Wire, http, mqtt};

/// Commands a second, where nothing else is said.
pub(crate) const RATE: f64 = 200.0;

/// Connections to the API, one command at a time each.
const SENDERS: usize = 16;

/// How long commands may be on their way after the last was sent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a command's payload has its number.
const NUMBER: Range<usize> = 6..16;

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

    /// Telemetry a second that other devices send meanwhile, by the same protocol.
    #[arg(long)]
    pub(crate) telemetry_rate: Option<f64>,

    /// How many seconds are measured, after two in which the server warms up.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
}

impl Options {
    /// Sends with the defaults.
    pub(crate) fn new(protocol: Protocol, target: Loopback, seconds: f64) -> Self {
        Self { protocol, target, devices: 200, rate: RATE, telemetry_rate: None, seconds }
    }

    fn what(&self) -> String {
        let mut what = format!("command over {}", self.protocol.as_str());
        if let Some(rate) = self.telemetry_rate {
            // Writing to a string does not fail.
            write!(what, " beside {rate} telemetry/s").ok();
        }
        what
    }

    fn telemetry(&self) -> Option<telemetry::Options> {
        let mut options = telemetry::Options::new(self.protocol, self.target, self.seconds);
        options.rate = Some(self.telemetry_rate?);
        Some(options)
    }
}

/// Measures commands, and the telemetry beside them.
///
/// # Errors
/// Fails if devices cannot be made, or the server breaks a protocol.
pub(crate) fn measure(options: &Options, fleet: &FleetOptions) -> anyhow::Result<Vec<Figure>> {
    ensure!(!fleet.foreign, "commands need a server with Drogue's API; leave --foreign out");
    run(async {
        let telemetry = options.telemetry();
        let others = telemetry.as_ref().map_or(0, telemetry::Options::connections);
        let mut logins = fleet.enrol(options.devices + others).await?;
        let others = logins.split_off(options.devices);
        let streams = connect_devices(options, &logins).await?;
        let senders = try_join_all((0..SENDERS).map(|_| connect::tcp(fleet.api))).await?;
        let beside = telemetry.map(|telemetry| {
            // On a thread of its own, so that the generator's own queue is not part of a command's latency.
            thread::spawn(move || run(telemetry::send(&telemetry, &others)))
        });
        let authorization = fleet.authorization()?;
        let mut figures = exchange(options, &logins, streams, senders, &authorization).await?;
        if let Some(beside) = beside {
            let figure = beside.join().map_err(|_| anyhow!("the telemetry generator panicked"))??;
            figures.push(figure);
        }
        Ok(figures)
    })
}

async fn connect_devices(options: &Options, logins: &[Login]) -> anyhow::Result<Vec<TcpStream>> {
    let target = options.target;
    match options.protocol {
        Protocol::Http => connect::all(logins, |_| connect::tcp(target)).await,
        Protocol::Mqtt => connect::all(logins, |login| connect::subscribed(target, login)).await,
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
        async move {
            match protocol {
                Protocol::Http => wait_over_http(stream, &login, &ledger).await,
                Protocol::Mqtt => take_over_mqtt(stream, &ledger).await,
            }
            .with_context(|| format!("device {}", login.client_id))
        }
    });
    let devices = try_join_all(devices.map(tokio::task::spawn_local).collect::<Vec<_>>());
    let requests: Rc<[_]> = logins.iter().map(|login| request(login, authorization)).collect();
    let accepted = Stats::new(span);
    let paces = metronome(options.rate, span, senders.len());
    let sending = try_join_all(senders.into_iter().zip(paces).map(|(stream, pace)| {
        let wire = Commands { ledger: ledger.clone(), requests: requests.clone() };
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
    let ledger = ledger.borrow();
    Ok(vec![ledger.figure(options), Figure::of_stats("command accepted by the API", &accepted.borrow())])
}

/// The commands that were sent, by number, and how long they took.
#[derive(Debug)]
struct Ledger {
    span: Span,
    on_the_way: Vec<Option<Instant>>,
    latency: Histogram,
    delivered: u64,
    repeated: u64,
}

impl Ledger {
    fn new(span: Span) -> Self {
        Self { span, on_the_way: Vec::new(), latency: Histogram::default(), delivered: 0, repeated: 0 }
    }

    fn sent(&mut self, intended: Instant) -> usize {
        self.on_the_way.push(Some(intended));
        self.on_the_way.len() - 1
    }

    fn delivered(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        let sent = number(payload).and_then(|number| self.on_the_way.get_mut(number));
        match sent.context("a command came that was not sent")?.take() {
            Some(intended) if self.span.counts(intended) => {
                self.latency.record(now() - intended);
                self.delivered += 1;
            }
            Some(_) => {}
            None => self.repeated += 1,
        }
        Ok(())
    }

    /// Returns how many commands of the counted time did not come.
    fn missing(&self) -> usize {
        self.on_the_way.iter().flatten().filter(|intended| self.span.counts(**intended)).count()
    }

    fn figure(&self, options: &Options) -> Figure {
        let note = match (self.missing(), self.repeated) {
            (0, 0) => String::new(),
            (missing, repeated) => format!("{missing} not delivered, {repeated} repeated"),
        };
        let rate = self.delivered as f64 / self.span.seconds();
        Figure::new(options.what(), rate, "1/s").with_latency(&self.latency).with_note(note)
    }
}

async fn all_delivered(ledger: &RefCell<Ledger>) {
    let deadline = now() + PATIENCE;
    while ledger.borrow().missing() > 0 && now() < deadline {
        tokio::time::sleep(POLL).await;
    }
}

/// Builds a command for a device, with a number that is filled in when it is sent.
fn request(login: &Login, authorization: &str) -> Vec<u8> {
    let target = format!("/v1/apps/{APPLICATION}/devices/{}/commands/load", login.client_id);
    http::post(&target, Some(authorization), body(0).as_bytes())
}

/// Returns the payload of a command with a number.
pub(crate) fn body(number: usize) -> String {
    format!("{{\"n\":\"{number:010}\"}}")
}

/// Returns the number of a command, if it has one.
pub(crate) fn number(payload: &[u8]) -> Option<usize> {
    std::str::from_utf8(payload.get(NUMBER)?).ok()?.parse().ok()
}

/// Commands to one device after the other.
struct Commands {
    ledger: Rc<RefCell<Ledger>>,
    requests: Rc<[Vec<u8>]>,
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
        let response = http::parse(input)?;
        Ok(response.map(|response| Answer { len: response.len, accepted: response.status == 202 }))
    }
}

async fn take_over_mqtt(mut stream: TcpStream, ledger: &RefCell<Ledger>) -> anyhow::Result<()> {
    let mut input = Vec::new();
    loop {
        ensure!(stream.read_buf(&mut input).await? > 0, "the server closed the connection");
        while let Some((len, packet)) = mqtt::parse(&input)? {
            let Packet::Publish(id, payload) = packet else { bail!("unexpected {packet:?}") };
            ledger.borrow_mut().delivered(payload)?;
            if let Some(id) = id {
                stream.write_all(&mqtt::puback(id)).await?;
            }
            input.drain(..len);
        }
    }
}

async fn wait_over_http(
    mut stream: TcpStream,
    login: &Login,
    ledger: &RefCell<Ledger>,
) -> anyhow::Result<()> {
    let request = http::post("/v1/temperature?ttd=60", http::basic(login).as_deref(), b"{\"temp\":42}");
    let mut input = Vec::new();
    loop {
        stream.write_all(&request).await?;
        let len = loop {
            ensure!(stream.read_buf(&mut input).await? > 0, "the server closed the connection");
            if let Some(response) = http::parse(&input)? {
                ensure!(response.status == 202, "telemetry was answered with {}", response.status);
                if !response.body.is_empty() {
                    ledger.borrow_mut().delivered(response.body)?;
                }
                break response.len;
            }
        };
        input.drain(..len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_counted_once() {
        let span = Span::new(Duration::ZERO, Duration::from_secs(60));
        let mut ledger = Ledger::new(span);
        assert_eq!((ledger.sent(span.start), ledger.sent(span.start)), (0, 1));
        ledger.delivered(body(1).as_bytes()).unwrap();
        ledger.delivered(body(1).as_bytes()).unwrap();
        assert_eq!((ledger.delivered, ledger.repeated, ledger.missing()), (1, 1, 1));
        assert!(ledger.delivered(body(2).as_bytes()).is_err());
        assert!(ledger.delivered(b"{}").is_err());
    }
}
