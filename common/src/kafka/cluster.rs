//! What is asked of the cluster beside reading and writing: which partitions there are, and where they begin and end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::Offset;

use super::context::{Context, Trouble};
use super::error::KafkaError;
use super::settings::{KafkaSettings, bad_property};
use crate::channel::Channel;
use crate::process::Clock;
use crate::time::Timestamp;

/// How long the cluster may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before it is asked again.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// A client that reads and writes no records. Its calls block.
pub(super) struct Lookup {
    client: Arc<BaseConsumer<Context>>,
    trouble: Trouble,
    ended: Arc<AtomicBool>,
    poller: Option<JoinHandle<()>>,
}

impl Lookup {
    pub(super) fn new(settings: &KafkaSettings, clock: Clock) -> Result<Self, KafkaError> {
        let context = Context::new(settings.oauth_token_file.clone(), clock);
        let trouble = context.trouble.clone();
        let client = settings.client().create_with_context(context).map_err(bad_property)?;
        let (client, ended): (Arc<BaseConsumer<Context>>, _) =
            (Arc::new(client), Arc::new(AtomicBool::new(false)));
        let poll = {
            let (client, ended) = (client.clone(), ended.clone());
            // Serves what the client calls back for; there are no records.
            move || {
                while !ended.load(Ordering::Acquire) {
                    drop(client.poll(Duration::from_millis(200)));
                }
            }
        };
        let poller = thread::Builder::new().name("kafka-lookup".into()).spawn(poll);
        let poller = Some(poller.map_err(|error| KafkaError::Thread(error.to_string()))?);
        Ok(Self { client, trouble, ended, poller })
    }

    /// Returns what the client last complained of, or else `otherwise`.
    pub(super) fn reason(&self, otherwise: impl ToString) -> String {
        self.trouble.or(otherwise)
    }

    /// Asks for a topic, its partitions and all brokers.
    pub(super) fn metadata(&self, topic: &str, patience: Duration) -> KafkaResult<Metadata> {
        self.client.fetch_metadata(Some(topic), patience)
    }

    /// Asks for the identity of the cluster.
    pub(super) fn cluster_id(&self) -> Option<String> {
        self.client.client().fetch_cluster_id(PATIENCE)
    }

    /// Asks all leaders at once for an offset in each partition: the first, the end, or the first since a time.
    ///
    /// A partition whose leader does not answer has none.
    fn offsets(&self, topics: &[Topic], at: At, patience: Duration) -> KafkaResult<Vec<Vec<Option<i64>>>> {
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..topic.partitions {
                list.add_partition_offset(&topic.name, partition, at.query())?;
            }
        }
        let answer = self.client.offsets_for_times(list, patience)?;
        let of = |topic: &Topic| {
            let mut offsets = vec![None; usize::try_from(topic.partitions).unwrap_or(0)];
            for element in answer.elements_for_topic(&topic.name) {
                let place = usize::try_from(element.partition()).ok().and_then(|at| offsets.get_mut(at));
                if let (Some(place), Ok(()), Offset::Offset(offset)) =
                    (place, element.error(), element.offset())
                {
                    *place = Some(offset);
                }
            }
            offsets
        };
        Ok(topics.iter().map(of).collect())
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Some(poller) = self.poller.take()
            && poller.join().is_err()
        {
            tracing::error!("the thread that serves the Kafka client had panicked");
        }
    }
}

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    /// That of the oldest record that is kept.
    Beginning,
    /// That of the next record.
    End,
    /// That of the first record since then, if there is one.
    Time(Timestamp),
}

impl At {
    /// Returns the query of ListOffsets: -1 and -2 are times that stand for the end and the beginning.
    fn query(self) -> Offset {
        match self {
            Self::Beginning => Offset::Beginning,
            Self::End => Offset::End,
            Self::Time(time) => Offset::Offset(time.as_millis()),
        }
    }
}

/// The topic of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) channel: Channel,
    pub(super) name: String,
    /// How many partitions it has.
    pub(super) partitions: i32,
}

/// The topics of all channels, and the cluster that they are in.
pub(super) struct Cluster {
    pub(super) lookup: Lookup,
    pub(super) servers: String,
    /// In the order of [`Channel::ALL`].
    pub(super) topics: Vec<Topic>,
    /// Tells this cluster and prefix from others.
    pub(super) fingerprint: u64,
    pub(super) clock: Clock,
}

impl Cluster {
    /// Returns the topic of a channel.
    pub(super) fn topic(&self, channel: Channel) -> &Topic {
        &self.topics[channel as usize]
    }

    /// Asks for an offset in each partition of channels. A partition whose leader does not answer has none.
    pub(super) fn offsets(
        &self,
        topics: &[Topic],
        at: At,
        patience: Duration,
    ) -> Result<Vec<Vec<Option<i64>>>, KafkaError> {
        self.lookup.offsets(topics, at, patience).map_err(|error| self.unreachable(error))
    }

    /// Asks for an offset in each partition of channels, all of which must answer: again, while they elect leaders.
    pub(super) fn all_offsets(&self, topics: &[Topic], at: At) -> Result<Vec<Vec<i64>>, KafkaError> {
        let deadline = self.clock.instant() + PATIENCE;
        loop {
            let answer = self.offsets(topics, at, PATIENCE).and_then(|offsets| {
                let whole = offsets.into_iter().map(|partitions| partitions.into_iter().collect());
                whole.collect::<Option<_>>().ok_or_else(|| self.unreachable("a partition has no leader"))
            });
            if answer.is_ok() || self.clock.instant() >= deadline {
                return answer;
            }
            thread::sleep(RETRY);
        }
    }

    pub(super) fn unreachable(&self, reason: impl ToString) -> KafkaError {
        KafkaError::Unreachable { servers: self.servers.clone(), reason: self.lookup.reason(reason) }
    }
}

/// Returns the partition in which the records of a key lie: that of Java's default partitioner.
pub(super) fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let hash = murmur2::murmur2(key, murmur2::KAFKA_SEED) & 0x7fff_ffff;
    i32::try_from(hash).unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_where_javas_partitioner_puts_them() {
        // From UtilsTest.testMurmur2 of Apache Kafka: the hashes of these keys, made positive.
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(partition_of(key.as_bytes(), i32::MAX), hash & i32::MAX, "{key}");
        }
        assert_eq!(partition_of(b"abc", 1), 0);
    }
}
