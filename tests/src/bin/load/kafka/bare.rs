//! Bare clients, with the properties of the adapter's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientContext, TopicPartitionList};

use common::channel::Channel;

use super::Topics;
use super::record::Bare;

/// How long a producer with a full window waits before it looks for room.
const NAP: Duration = Duration::from_micros(100);

/// How long the last acknowledgements may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A producer with delivery callbacks, and a bounded number of records under way.
pub(super) struct Producer {
    client: ThreadedProducer<Deliveries>,
    deliveries: Arc<Counts>,
    topic: String,
    window: u64,
    sent: u64,
}

#[derive(Debug, Default)]
struct Counts {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

struct Deliveries(Arc<Counts>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = if result.is_ok() { &self.0.acknowledged } else { &self.0.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Producer {
    /// Connects.
    pub(super) fn new(topics: &Topics, channel: Channel, window: u64) -> anyhow::Result<Self> {
        let deliveries = Arc::new(Counts::default());
        let context = Deliveries(deliveries.clone());
        let client = topics.settings().producer().create_with_context(context)?;
        Ok(Self { client, deliveries, topic: topics.of(channel), window, sent: 0 })
    }

    /// Sends a record, as soon as there is room in the window.
    pub(super) fn send(&mut self, record: &Bare) -> anyhow::Result<()> {
        while self.sent - self.acknowledged() >= self.window {
            ensure!(self.deliveries.failed.load(Ordering::Relaxed) == 0, "Kafka did not take a record");
            thread::sleep(NAP);
        }
        self.sent += 1;
        let mut record = record.to(&self.topic);
        loop {
            record = match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) => record,
                Err((error, _)) => return Err(anyhow!("Kafka did not take a record: {error}")),
            };
            thread::sleep(NAP);
        }
    }

    /// Returns how many records were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.deliveries.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until all are acknowledged, and returns how many.
    pub(super) fn finish(self) -> anyhow::Result<u64> {
        self.client.flush(PATIENCE)?;
        // The thread that was told of the last deliveries may not have counted them yet.
        while self.sent > self.acknowledged() + self.deliveries.failed.load(Ordering::Relaxed) {
            thread::sleep(NAP);
        }
        ensure!(self.acknowledged() == self.sent, "Kafka did not take all records");
        Ok(self.sent)
    }
}

/// Connects a consumer that reads a topic from its beginning.
pub(super) fn consumer(topics: &Topics, channel: Channel) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = topics.settings().consumer().create()?;
    let (topic, mut list) = (topics.of(channel), TopicPartitionList::new());
    for partition in 0..topics.partitions(channel)? {
        list.add_partition_offset(&topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}
