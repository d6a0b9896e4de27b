//! A subscription: a thread with a consumer that is told where to begin and keeps its positions itself.
//!
//! It is live as long as it has lately reached where the log ended when [`super::watch`] asked: a partition without a leader,
//! a broker that is silent and a reader that is behind come to the same. No consumer group is joined, so nothing is
//! rebalanced and nothing is left behind.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use metrics::counter;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::Offset;
use rdkafka::{Message, TopicPartitionList};
use tokio::sync::oneshot;

use super::Shared;
use super::cluster::{At, Topic};
use super::context::Context;
use super::positions::Positions;
use super::record::Stored;
use super::settings::bad_property;
use crate::channel::{Channel, Cursor, Flow, LiveGuard, RecordHandler, SourceError, Start, Subscription};
use crate::process::Shutdown;
use crate::time::Timestamp;

/// For how long a reader that has reached the end is believed to be there.
pub(super) const STALE: Duration = Duration::from_secs(3);
/// How long a poll waits for a record: a reader that is to end notices it in that time.
const POLL: Duration = Duration::from_millis(100);
/// How often a reader looks at where it is.
const LOOK: Duration = Duration::from_millis(100);
/// How long it waits after it could not find its place again.
const RETRY: Duration = Duration::from_secs(1);

/// Starts a subscription on a thread of its own.
pub(super) async fn subscribe(
    shared: &Arc<Shared>,
    mut channels: Vec<Channel>,
    start: Start,
    handler: Box<dyn RecordHandler>,
) -> Result<Subscription, SourceError> {
    channels.sort_unstable();
    channels.dedup();
    let (live, end) = (Arc::new(AtomicBool::new(false)), Shutdown::new());
    let guard = end.clone().drop_guard();
    let (started, fixed) = oneshot::channel();
    let task = {
        let (shared, live) = (shared.clone(), live.clone());
        move || {
            // The order matters: whoever sees the handler go sees no live subscription.
            let mut handler = handler;
            let live = LiveGuard::new(live);
            match Reader::open(&shared, &channels, start, live, end) {
                Err(error) => drop(started.send(Err(error))),
                Ok(mut reader) => {
                    let cursor = reader.positions.cursor(shared.cluster.fingerprint);
                    if started.send(Ok(cursor)).is_ok() {
                        reader.run(&mut *handler);
                    }
                }
            }
        }
    };
    thread::Builder::new().name("kafka-reader".into()).spawn(task).map_err(unavailable)?;
    let start: Cursor =
        fixed.await.unwrap_or_else(|_| Err(unavailable("the subscription failed to start")))?;
    Ok(Subscription::new(live, guard).starting_at(start))
}

fn unavailable(reason: impl ToString) -> SourceError {
    SourceError::Unavailable(reason.to_string())
}

struct Reader<'a> {
    live: LiveGuard,
    shared: &'a Shared,
    consumer: BaseConsumer<Context>,
    topics: Vec<Topic>,
    positions: Positions,
    /// When the client last said of a partition that it had read it to the end, whatever is there that is no record. It
    /// does not say of which topic, so this is kept where there is only one.
    exhausted: Vec<Option<Instant>>,
    /// The handler was told that a topic is no longer what it was.
    told: bool,
    /// The latest question of the watch by whose answer this reader was at the end, on both clocks.
    confirmed: (Instant, Timestamp),
    next_look: Instant,
    end: Shutdown,
}

impl<'a> Reader<'a> {
    fn open(
        shared: &'a Shared,
        channels: &[Channel],
        start: Start,
        live: LiveGuard,
        end: Shutdown,
    ) -> Result<Self, SourceError> {
        let topics: Vec<_> = channels.iter().map(|channel| shared.cluster.topic(*channel).clone()).collect();
        let now = shared.clock.now();
        let positions = begin(shared, &topics, start)?;
        let context = Context::new(shared.settings.oauth_token_file.clone(), shared.clock.clone());
        let consumer = shared.settings.consumer().create_with_context(context).map_err(bad_property)?;
        let only = if let [only] = topics.as_slice() { only.partitions } else { 0 };
        let reader = Self {
            live,
            shared,
            consumer,
            topics,
            positions,
            exhausted: vec![None; usize::try_from(only).unwrap_or(0)],
            told: false,
            confirmed: (now.instant, now.wall),
            next_look: now.instant,
            end,
        };
        reader.assign().map_err(unavailable)?;
        // Where the log ends was asked a moment ago: from there on nothing is missed.
        reader.live.set(true);
        Ok(reader)
    }

    fn assign(&self) -> Result<(), ClientError> {
        let mut list = TopicPartitionList::new();
        for (topic, (_, offsets)) in self.topics.iter().zip(self.positions.channels()) {
            for (partition, offset) in (0..).zip(offsets) {
                list.add_partition_offset(&topic.name, partition, Offset::Offset(*offset))?;
            }
        }
        self.consumer.assign(&list)
    }

    fn run(&mut self, handler: &mut dyn RecordHandler) {
        let mut lost = false;
        while !self.end.is_cancelled() {
            let flow = match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    // What came now was behind the end that was found before.
                    let place = usize::try_from(message.partition()).ok();
                    if let Some(exhausted) = place.and_then(|at| self.exhausted.get_mut(at)) {
                        *exhausted = None;
                    }
                    deliver(&mut self.positions, &self.topics, self.shared, &message, handler)
                }
                Some(Err(error)) => {
                    lost |= self.heed(&error);
                    Flow::Continue
                }
                None => Flow::Continue,
            };
            if flow == Flow::Stop {
                return;
            }
            let now = self.shared.clock.now();
            if now.instant < self.next_look {
                continue;
            }
            self.next_look = now.instant + LOOK;
            if self.look(now.instant, now.wall, handler) == Flow::Stop {
                return;
            }
            if lost {
                match self.find_place(handler) {
                    Ok(Flow::Stop) => return,
                    Ok(Flow::Continue) => lost = false,
                    Err(error) => {
                        tracing::debug!(%error, "a reader cannot find its place, trying again");
                        self.next_look = now.instant + RETRY;
                    }
                }
            }
        }
    }

    /// Takes what the client says. Returns whether a position is no longer there.
    fn heed(&mut self, error: &ClientError) -> bool {
        if let ClientError::PartitionEOF(partition) = error {
            let place = usize::try_from(*partition).ok().and_then(|at| self.exhausted.get_mut(at));
            if let Some(place) = place {
                *place = Some(self.shared.clock.instant());
            }
            return false;
        }
        tracing::debug!(%error, "Kafka consumer");
        matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::AutoOffsetReset
                    | RDKafkaErrorCode::OffsetOutOfRange
                    | RDKafkaErrorCode::LogTruncation
            )
        )
    }

    /// Judges whether this reader is where the log ends.
    fn look(&mut self, now: Instant, wall: Timestamp, handler: &mut dyn RecordHandler) -> Flow {
        let ends = self.shared.watch.ends();
        let changed = self.topics.iter().find_map(|topic| self.shared.watch.changed(topic.channel));
        if ends.asked > self.confirmed.0 {
            let reached = self.positions.channels().iter().all(|(channel, offsets)| {
                offsets.iter().zip(&ends.offsets[*channel as usize]).enumerate().all(
                    |(at, (position, end))| {
                        let exhausted = self.exhausted.get(at).copied().flatten();
                        end.is_some_and(|end| *position >= end || exhausted.is_some_and(|at| at > ends.asked))
                    },
                )
            });
            if reached {
                self.confirmed = (ends.asked, wall);
            }
        }
        let is_live = changed.is_none() && now.saturating_duration_since(self.confirmed.0) < STALE;
        if self.live.set(is_live) != is_live {
            let channels: Vec<_> = self.topics.iter().map(|topic| topic.channel.as_str()).collect();
            if is_live {
                tracing::info!(?channels, "a reader has caught up with Kafka");
            } else {
                tracing::warn!(?channels, "a reader is behind, or cut off from Kafka");
            }
        }
        match changed {
            Some(reason) if !self.told => {
                self.told = true;
                handler.interrupted(&SourceError::Unavailable(reason))
            }
            Some(_) | None => Flow::Continue,
        }
    }

    /// Finds a place for each position that is no longer there, and tells the handler of the gap, if there is one: the
    /// client says it of each partition by itself, and of some after they have been mended.
    ///
    /// Retention passes a reader that was away for long: it goes on with the oldest record. A log that is shorter than
    /// it was has lost its end, or was made anew: there it goes on with what was recorded since it was last at the end.
    fn find_place(&mut self, handler: &mut dyn RecordHandler) -> Result<Flow, SourceError> {
        self.live.set(false);
        let cluster = &self.shared.cluster;
        let oldest = cluster.all_offsets(&self.topics, At::Beginning)?;
        let ends = cluster.all_offsets(&self.topics, At::End)?;
        let since = cluster.offsets(&self.topics, At::Time(self.confirmed.1), super::cluster::PATIENCE)?;
        let mut is_gap = false;
        for (at, topic) in self.topics.iter().enumerate() {
            for (partition, ((oldest, end), since)) in
                oldest[at].iter().zip(&ends[at]).zip(&since[at]).enumerate()
            {
                let Some(position) = self.positions.get_mut(topic.channel, partition) else { continue };
                let found = if *position > *end { since.unwrap_or(*end) } else { (*position).max(*oldest) };
                if found != *position {
                    tracing::error!(
                        topic = topic.name,
                        partition,
                        from = *position,
                        to = found,
                        "records are gone that were not read"
                    );
                    *position = found;
                    is_gap = true;
                }
            }
        }
        self.assign().map_err(unavailable)?;
        if !is_gap {
            return Ok(Flow::Continue);
        }
        counter!("drogue_kafka_interruptions_total").increment(1);
        Ok(handler.interrupted(&SourceError::Gone))
    }
}

/// Returns the positions at which a subscription starts.
fn begin(shared: &Shared, topics: &[Topic], start: Start) -> Result<Positions, SourceError> {
    let cluster = &shared.cluster;
    let with = |offsets: Vec<Vec<i64>>| {
        Positions::new(topics.iter().map(|topic| topic.channel).zip(offsets).collect())
    };
    let cursor = match start {
        Start::Latest => return Ok(with(cluster.all_offsets(topics, At::End)?)),
        Start::Earliest => return Ok(with(cluster.all_offsets(topics, At::Beginning)?)),
        Start::After(cursor) => cursor,
    };
    let counts: Vec<_> =
        topics.iter().map(|topic| (topic.channel, usize::try_from(topic.partitions).unwrap_or(0))).collect();
    let positions = Positions::parse(&cursor, cluster.fingerprint, &counts)?;
    let oldest = cluster.all_offsets(topics, At::Beginning)?;
    let ends = cluster.all_offsets(topics, At::End)?;
    for ((_, offsets), (oldest, ends)) in positions.channels().iter().zip(oldest.iter().zip(&ends)) {
        for (position, (oldest, end)) in offsets.iter().zip(oldest.iter().zip(ends)) {
            if position > end {
                return Err(SourceError::InvalidCursor);
            }
            if position < oldest {
                return Err(SourceError::Gone);
            }
        }
    }
    Ok(positions)
}

/// Hands a record over, and notes what comes next.
fn deliver(
    positions: &mut Positions,
    topics: &[Topic],
    shared: &Shared,
    message: &BorrowedMessage<'_>,
    handler: &mut dyn RecordHandler,
) -> Flow {
    let topic = match topics {
        [only] => Some(only),
        several => several.iter().find(|topic| topic.name == message.topic()),
    };
    let Some(topic) = topic else { return Flow::Continue };
    let partition = usize::try_from(message.partition()).unwrap_or(usize::MAX);
    let Some(position) = positions.get_mut(topic.channel, partition) else { return Flow::Continue };
    // What was fetched before the place was found anew.
    if message.offset() < *position {
        return Flow::Continue;
    }
    *position = message.offset() + 1;
    handler.record(&Stored { topic, message, positions, fingerprint: shared.cluster.fingerprint })
}
