//! Asks once a second where the partitions end. Whoever reads knows by that whether it is behind, or cut off.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use metrics::{Gauge, gauge};

use super::cluster::{At, Cluster, Topic};
use super::error::KafkaError;
use crate::channel::Channel;
use crate::process::{Clock, Shutdown};

/// How often the cluster is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the first question waits before it is asked again.
const RETRY: Duration = Duration::from_millis(50);
/// How long it may take to answer. Shorter than [`super::reader`] believes an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is asked how many partitions there are, in rounds.
const RECOUNT: u32 = 5;

/// Where the partitions of all channels ended when it was asked.
#[derive(Debug)]
pub(super) struct Ends {
    /// When it was asked.
    pub(super) asked: Instant,
    /// In the order of [`Channel::ALL`]; `None` where a leader did not answer.
    pub(super) offsets: Vec<Vec<Option<i64>>>,
    /// Why a channel is no longer what it was when it was opened.
    pub(super) changed: Vec<Option<String>>,
}

impl Ends {
    /// Tells whether all partitions answered.
    fn are_whole(&self) -> bool {
        self.offsets.iter().flatten().all(Option::is_some)
    }
}

/// The latest answer of the cluster. Dropping it ends the thread that asks.
pub(super) struct Watch {
    ends: Arc<Mutex<Arc<Ends>>>,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts to ask. Blocks until the first answer.
    pub(super) fn start(cluster: Arc<Cluster>, clock: Clock) -> Result<Self, KafkaError> {
        let (asked, offsets) = first_ends(&cluster, &clock)?;
        let offsets = offsets.into_iter().map(|ends| ends.into_iter().map(Some).collect()).collect();
        let ends = Ends { asked, offsets, changed: vec![None; Channel::ALL.len()] };
        let ends = Arc::new(Mutex::new(Arc::new(ends)));
        let shutdown = Shutdown::new();
        let mut asker = Asker {
            cluster,
            clock,
            round: 0,
            is_reachable: true,
            reachable: gauge!("drogue_kafka_reachable"),
        };
        asker.reachable.set(1.0);
        let task = {
            let (ends, shutdown) = (ends.clone(), shutdown.clone());
            move || {
                while !shutdown.is_cancelled() {
                    thread::park_timeout(INTERVAL);
                    let latest = ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let next = Arc::new(asker.ask(&latest));
                    *ends.lock().unwrap_or_else(PoisonError::into_inner) = next;
                }
            }
        };
        let thread = thread::Builder::new().name("kafka-watch".into()).spawn(task);
        let thread = Some(thread.map_err(|error| KafkaError::Thread(error.to_string()))?);
        Ok(Self { ends, shutdown, thread })
    }

    /// Returns the latest answer.
    pub(super) fn ends(&self) -> Arc<Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells whether every partition has answered within `age`.
    pub(super) fn is_reachable(&self, now: Instant, age: Duration) -> bool {
        let ends = self.ends();
        ends.are_whole() && now.saturating_duration_since(ends.asked) < age
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("the thread that watches Kafka had panicked");
        }
    }
}

/// Asks until all partitions answer: a leader of a topic that was just made may not know yet that it is one.
fn first_ends(cluster: &Cluster, clock: &Clock) -> Result<(Instant, Vec<Vec<i64>>), KafkaError> {
    let deadline = clock.instant() + super::cluster::PATIENCE;
    loop {
        let asked = clock.instant();
        match cluster.all_offsets(&cluster.topics, At::End) {
            Err(_) if clock.instant() < deadline => thread::sleep(RETRY),
            answer => return Ok((asked, answer?)),
        }
    }
}

struct Asker {
    cluster: Arc<Cluster>,
    clock: Clock,
    round: u32,
    is_reachable: bool,
    reachable: Gauge,
}

impl Asker {
    fn ask(&mut self, latest: &Ends) -> Ends {
        let asked = self.clock.instant();
        let answer = self.cluster.offsets(&self.cluster.topics, At::End, PATIENCE);
        let unknown = |topic: &Topic| vec![None; usize::try_from(topic.partitions).unwrap_or(0)];
        let error = answer.as_ref().err().cloned();
        let offsets = answer.unwrap_or_else(|_| self.cluster.topics.iter().map(unknown).collect());
        self.round = self.round.wrapping_add(1);
        let changed = if self.round.is_multiple_of(RECOUNT) {
            self.recount(&latest.changed)
        } else {
            latest.changed.clone()
        };
        let ends = Ends { asked, offsets, changed };
        self.tell(ends.are_whole(), error);
        ends
    }

    /// Says once when an outage begins, and once when it ends.
    fn tell(&mut self, is_reachable: bool, error: Option<KafkaError>) {
        if is_reachable != self.is_reachable {
            if is_reachable {
                tracing::info!(servers = self.cluster.servers, "Kafka answers again, for all partitions");
            } else {
                let reason = error
                    .unwrap_or_else(|| self.cluster.unreachable("partitions have no leader that answers"));
                tracing::warn!("{reason}; trying again until it answers");
            }
        }
        self.is_reachable = is_reachable;
        self.reachable.set(f64::from(u8::from(is_reachable)));
    }

    /// Compares how many partitions there are with how many there were. A topic that does not answer is left as it is.
    fn recount(&self, latest: &[Option<String>]) -> Vec<Option<String>> {
        let recounted = self.cluster.topics.iter().zip(latest).map(|(topic, latest)| {
            let Ok(metadata) = self.cluster.lookup.metadata(&topic.name, PATIENCE) else {
                return latest.clone();
            };
            let found =
                metadata.topics().iter().find(|found| found.name() == topic.name && found.error().is_none());
            let Some(count) = found.map(|found| found.partitions().len()) else { return latest.clone() };
            if i32::try_from(count) == Ok(topic.partitions) {
                return None;
            }
            let reason = format!(
                "the topic {} has {count} partitions and had {} when this process started; restart it",
                topic.name, topic.partitions
            );
            if latest.is_none() {
                tracing::error!("{reason}");
            }
            Some(reason)
        });
        recounted.collect()
    }
}
