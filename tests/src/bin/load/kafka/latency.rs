//! The floor of commands: how long a record takes from a bare producer to a bare consumer.

use std::thread;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use common::channel::Channel;
use common::service::Clock;
use rdkafka::Message;
use rdkafka::consumer::BaseConsumer;

use super::record::{self, Bare};
use super::{Topics, bare};
use crate::command;
use crate::histogram::Histogram;
use crate::pace::{Span, now};
use crate::progress;
use crate::report::Figure;

/// How many devices take turns, as in the measurement of commands.
const DEVICES: usize = 200;

/// More than is ever under way.
const WINDOW: u64 = 10_000;

/// How long records may be on their way after the last was sent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measures records of the shape of commands at a rate, an open loop: a latency counts from the time at which a record
/// should have been sent, as that of a command does.
///
/// # Errors
/// Fails if the brokers do, or a record does not come.
pub(crate) fn measure(topics: &Topics, rate: f64, seconds: f64) -> anyhow::Result<Figure> {
    topics.make()?;
    let consumer = bare::consumer(topics, Channel::Commands)?;
    let mut producer = bare::Producer::new(topics, Channel::Commands, WINDOW)?;
    let clock = Clock::system();
    let records = (0..DEVICES).map(|number| {
        let event = record::command(&format!("load-{number}"), command::body(0), &clock)?;
        Ok(Bare::of(&event))
    });
    let mut records = records.collect::<anyhow::Result<Vec<_>>>()?;
    let progress = progress::running("bare produce to consume");
    let beats = Beats::new(rate, seconds);
    let reader = thread::spawn(move || read(&consumer, beats));
    for number in 0..beats.count {
        let record = &mut records[number % DEVICES];
        record.payload = command::body(number).into_bytes();
        thread::sleep(beats.due(number).saturating_duration_since(now()));
        producer.send(record)?;
    }
    let sent = producer.finish()?;
    let latency = reader.join().map_err(|_| anyhow!("the reader panicked"))??;
    progress.finish_and_clear();
    topics.ensure_kept(Channel::Commands, sent)?;
    Ok(Figure::new("produce to consume", rate, "1/s").with_latency(&latency))
}

/// When records are due.
#[derive(Debug, Clone, Copy)]
struct Beats {
    span: Span,
    period: Duration,
    count: usize,
}

impl Beats {
    fn new(rate: f64, seconds: f64) -> Self {
        let span = Span::new(Duration::from_secs(2), Duration::from_secs_f64(seconds));
        let count = ((span.end - span.start).as_secs_f64() * rate) as usize;
        Self { span, period: Duration::from_secs_f64(1.0 / rate), count }
    }

    fn due(&self, number: usize) -> std::time::Instant {
        self.span.start + self.period.mul_f64(number as f64)
    }
}

fn read(consumer: &BaseConsumer, beats: Beats) -> anyhow::Result<Histogram> {
    let (mut latency, mut missing) = (Histogram::default(), beats.count);
    while missing > 0 {
        // Errors that pass are told by the library itself; a record that does not come is told below.
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let arrived = now();
            let due = message.payload().and_then(command::number).map(|number| beats.due(number));
            if let Some(due) = due.filter(|due| beats.span.counts(*due)) {
                latency.record(arrived.saturating_duration_since(due));
            }
            missing -= 1;
        }
        ensure!(now() < beats.span.end + PATIENCE, "{missing} records did not come");
    }
    Ok(latency)
}
