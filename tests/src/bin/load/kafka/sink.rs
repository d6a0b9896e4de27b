//! The adapter alone: how many events a second it gets acknowledged, beside a bare producer with the same records.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use common::channel::{Channel, EventSink};
use common::event::Event;
use common::kafka::KafkaChannels;
use common::service::Clock;
use futures_util::future::try_join_all;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::BorrowedMessage;

use super::record::{self, Bare};
use super::{Topics, bare};
use crate::drive::run;
use crate::pace::{Span, now};
use crate::process::own_processor_time;
use crate::progress;
use crate::report::Figure;

/// How many different events there are. They are made before, for both alike.
const EVENTS: usize = 10_000;

/// How many tasks publish, each with a window of its own.
const PUBLISHERS: usize = 4;

/// How many events may wait for their acknowledgement in all.
const WINDOW: usize = 10_000;

/// Measures the bare producer and the adapter, on topics of their own with equal partitions.
///
/// # Errors
/// Fails if the brokers do, a topic has fewer records than were acknowledged, or the records are not the same.
pub(crate) fn measure(
    bare_topics: &Topics,
    topics: &Topics,
    seconds: f64,
) -> anyhow::Result<(Figure, Figure)> {
    bare_topics.make()?;
    topics.make()?;
    let clock = Clock::system();
    let events = (0..EVENTS).map(|number| record::telemetry(&format!("load-{number:05}"), &clock));
    let events = events.collect::<anyhow::Result<Vec<_>>>()?;
    let bare = Measured::of(|| send(bare_topics, &events, seconds))?;
    let ours = Measured::of(|| publish(topics, &events, seconds))?;
    let (one, other) =
        (bare::consumer(topics, Channel::Telemetry)?, bare::consumer(bare_topics, Channel::Telemetry)?);
    record::ensure_same(&first(&one)?, &first(&other)?)?;
    let what = format!("events, {} partitions", topics.partitions(Channel::Telemetry)?);
    let bare = bare.figure(&what, bare_topics)?;
    Ok((bare, ours.figure(&what, topics)?))
}

fn first(consumer: &BaseConsumer) -> anyhow::Result<BorrowedMessage<'_>> {
    let deadline = now() + Duration::from_secs(10);
    loop {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            return Ok(message);
        }
        ensure!(now() < deadline, "there is no record in a topic that has some");
    }
}

/// What one of both did.
#[derive(Debug, Default)]
struct Counts {
    /// Events a second that were acknowledged while it was counted.
    rate: f64,
    /// Events that were acknowledged, whenever.
    acknowledged: u64,
}

struct Measured {
    counts: Counts,
    processor_time: Duration,
}

impl Measured {
    fn of(measurement: impl FnOnce() -> anyhow::Result<Counts>) -> anyhow::Result<Self> {
        let before = own_processor_time()?;
        let counts = measurement()?;
        Ok(Self { counts, processor_time: own_processor_time()? - before })
    }

    fn figure(&self, what: &str, topics: &Topics) -> anyhow::Result<Figure> {
        let Counts { rate, acknowledged } = self.counts;
        let kept = topics.ensure_kept(Channel::Telemetry, acknowledged)?;
        let each = self.processor_time.as_secs_f64() * 1e6 / acknowledged as f64;
        let note = format!("{each:.2} µs of processor time each, {kept}");
        Ok(Figure::new(what, rate, "1/s").with_note(note))
    }
}

/// Sends with a bare producer.
fn send(topics: &Topics, events: &[Event], seconds: f64) -> anyhow::Result<Counts> {
    let records: Vec<_> = events.iter().map(Bare::of).collect();
    let mut producer = bare::Producer::new(topics, Channel::Telemetry, WINDOW as u64)?;
    let progress = progress::running("bare producer");
    let span = Span::new(Duration::from_secs(2), Duration::from_secs_f64(seconds));
    let (mut counted, mut before) = (None, 0);
    for record in records.iter().cycle() {
        let now = now();
        if now >= span.end {
            break;
        }
        if counted.is_none() && now >= span.counted {
            (counted, before) = (Some(now), producer.acknowledged());
        }
        producer.send(record)?;
    }
    let rate = (producer.acknowledged() - before) as f64 / span.seconds();
    let acknowledged = producer.finish()?;
    progress.finish_and_clear();
    Ok(Counts { rate, acknowledged })
}

/// Publishes with the adapter. Few tasks wait for many events, as endpoints do.
fn publish(topics: &Topics, events: &[Event], seconds: f64) -> anyhow::Result<Counts> {
    run(async {
        let channels = KafkaChannels::open(topics.settings(), Clock::system()).await?;
        let progress = progress::running("adapter");
        let span = Span::new(Duration::from_secs(2), Duration::from_secs_f64(seconds));
        let (counted, acknowledged) = (Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(0_u64)));
        let publishers = events.chunks(events.len().div_ceil(PUBLISHERS)).map(|events| {
            let (channels, events) = (channels.clone(), events.to_vec());
            let (counted, acknowledged) = (counted.clone(), acknowledged.clone());
            tokio::task::spawn_local(async move {
                let (mut events, mut under_way) = (events.iter().cycle().cloned(), VecDeque::new());
                loop {
                    while under_way.len() < WINDOW / PUBLISHERS && now() < span.end {
                        let event = events.next();
                        under_way.extend(event.map(|event| channels.publish(Channel::Telemetry, event)));
                    }
                    let Some(oldest) = under_way.pop_front() else { return anyhow::Ok(()) };
                    oldest.await?;
                    acknowledged.set(acknowledged.get() + 1);
                    if span.counts(now()) {
                        counted.set(counted.get() + 1);
                    }
                }
            })
        });
        for publisher in try_join_all(publishers.collect::<Vec<_>>()).await? {
            publisher?;
        }
        progress.finish_and_clear();
        Ok(Counts { rate: counted.get() as f64 / span.seconds(), acknowledged: acknowledged.get() })
    })
}
