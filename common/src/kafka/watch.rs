//! Asks once a second where the partitions end. Whoever reads knows by that whether it is behind, or cut off.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use metrics::{Gauge, gauge};
use rdkafka::metadata::MetadataTopic;

use super::cluster::{At, Cluster, Topic};
use super::error::KafkaError;
use crate::channel::Channel;
use crate::process::{Clock, Shutdown};

/// How often the cluster is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long it may take to answer. Shorter than [`super::reader`] believes an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the partitions of all channels ended when it was asked.
#[derive(Debug)]
pub(super) struct Ends {
    /// When it was asked.
    pub(super) asked: Instant,
    /// In the order of [`Channel::ALL`]; `None` where a leader did not answer.
    pub(super) offsets: Vec<Vec<Option<i64>>>,
}

impl Ends {
    /// Tells whether all partitions answered.
    fn are_whole(&self) -> bool {
        self.offsets.iter().flatten().all(Option::is_some)
    }
}

/// The latest answer of the cluster. Dropping it ends the thread that asks.
pub(super) struct Watch {
    seen: Arc<Seen>,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

/// What the thread that asks has found out.
struct Seen {
    ends: Mutex<Arc<Ends>>,
    /// Why a channel is no longer what it was when it was opened, in the order of [`Channel::ALL`].
    changed: Mutex<[Option<String>; Channel::ALL.len()]>,
}

impl Watch {
    /// Starts to ask. Blocks until the first answer.
    pub(super) fn start(cluster: Arc<Cluster>, clock: Clock) -> Result<Self, KafkaError> {
        let asked = clock.instant();
        let offsets = cluster.all_offsets(&cluster.topics, At::End)?;
        let offsets = offsets.into_iter().map(|ends| ends.into_iter().map(Some).collect()).collect();
        let seen = Seen { ends: Mutex::new(Arc::new(Ends { asked, offsets })), changed: Mutex::default() };
        let seen = Arc::new(seen);
        let shutdown = Shutdown::new();
        let mut asker =
            Asker { cluster, clock, is_reachable: true, reachable: gauge!("drogue_kafka_reachable") };
        asker.reachable.set(1.0);
        let task = {
            let (seen, shutdown) = (seen.clone(), shutdown.clone());
            move || {
                // One topic is counted anew in each round, once the ends are known: that may take its time.
                for topic in (0..Channel::ALL.len()).cycle() {
                    thread::park_timeout(INTERVAL);
                    if shutdown.is_cancelled() {
                        return;
                    }
                    let ends = asker.ask();
                    let is_whole = ends.are_whole();
                    *lock(&seen.ends) = Arc::new(ends);
                    if is_whole && !shutdown.is_cancelled() {
                        // Not held while the brokers are asked.
                        let known = lock(&seen.changed)[topic].clone();
                        let changed = known.or_else(|| asker.recount(topic));
                        lock(&seen.changed)[topic] = changed;
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("kafka-watch".into()).spawn(task);
        let thread = Some(thread.map_err(|error| KafkaError::Thread(error.to_string()))?);
        Ok(Self { seen, shutdown, thread })
    }

    /// Returns the latest answer.
    pub(super) fn ends(&self) -> Arc<Ends> {
        lock(&self.seen.ends).clone()
    }

    /// Says why a channel is no longer what it was when it was opened, if that is so.
    pub(super) fn changed(&self, channel: Channel) -> Option<String> {
        lock(&self.seen.changed)[channel as usize].clone()
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Asker {
    cluster: Arc<Cluster>,
    clock: Clock,
    is_reachable: bool,
    reachable: Gauge,
}

impl Asker {
    fn ask(&mut self) -> Ends {
        let asked = self.clock.instant();
        let answer = self.cluster.offsets(&self.cluster.topics, At::End, PATIENCE);
        let unknown = |topic: &Topic| vec![None; usize::try_from(topic.partitions).unwrap_or(0)];
        let error = answer.as_ref().err().cloned();
        let offsets = answer.unwrap_or_else(|_| self.cluster.topics.iter().map(unknown).collect());
        let ends = Ends { asked, offsets };
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

    /// Compares how many partitions a topic has with how many it had, and says if that is not the same. If the topic does
    /// not answer, nothing is said.
    fn recount(&self, topic: usize) -> Option<String> {
        let topic = &self.cluster.topics[topic];
        let metadata = self.cluster.lookup.metadata(&topic.name, PATIENCE).ok()?;
        let is_it = |found: &&MetadataTopic| found.name() == topic.name && found.error().is_none();
        let count = metadata.topics().iter().find(is_it).map(|found| found.partitions().len())?;
        if i32::try_from(count) == Ok(topic.partitions) {
            return None;
        }
        let reason = format!(
            "the topic {} has {count} partitions and had {} when this process started; restart it",
            topic.name, topic.partitions
        );
        tracing::error!("{reason}");
        Some(reason)
    }
}
