//! A real Kafka: the broker that the environment names, and topics of a test's own on it.

use std::collections::HashMap;
use std::time::Duration;

use common::channel::Channel;
use common::kafka::{KafkaSettings, TopicSettings};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::clients::skip;
use crate::secrets;

/// The variable that names the brokers.
const VARIABLE: &str = "KAFKA_BOOTSTRAP_SERVERS";

/// Returns the brokers that the environment names. Says visibly that `test` is skipped if it names none.
///
/// # Panics
/// Panics if it names none and `DROGUE_TEST_REQUIRE` lists `kafka`.
pub fn given(test: &str) -> Option<String> {
    let given = brokers();
    if given.is_none() {
        skip(test, "kafka", &format!("{VARIABLE} names no Kafka broker"));
    }
    given
}

#[expect(clippy::disallowed_methods, reason = "tests have no command line to take this from")]
fn brokers() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|servers| !servers.is_empty())
}

/// Topics that no other test uses. They are deleted when this is dropped.
#[derive(Debug)]
pub struct Topics {
    servers: String,
    prefix: String,
}

impl Topics {
    /// Thinks up names. Whoever opens the channels makes the topics.
    pub fn new(servers: impl Into<String>) -> Self {
        Self { servers: servers.into(), prefix: format!("test-{}.", secrets::unique()) }
    }

    /// Returns what the names begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the brokers.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// Returns the topic of a channel.
    pub fn of(&self, channel: Channel) -> String {
        format!("{}{channel}", self.prefix)
    }

    /// Deletes the records of the only partition of a channel that lie before an offset.
    ///
    /// # Panics
    /// Panics if the brokers refuse.
    pub async fn delete_records(&self, channel: Channel, before: i64) {
        let client = ClientConfig::new().set("bootstrap.servers", &self.servers).create();
        let admin: AdminClient<DefaultClientContext> = client.expect("an admin client");
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&self.of(channel), 0, Offset::Offset(before)).expect("an offset");
        let deleted = admin.delete_records(&offsets, &AdminOptions::new()).await;
        deleted.expect("the brokers delete records");
    }

    /// Returns settings for these topics, with few partitions.
    pub fn settings(&self) -> KafkaSettings {
        let topics = TopicSettings { partitions: 3, ..TopicSettings::default() };
        let defaults = KafkaSettings::new(&self.servers);
        KafkaSettings { topic_prefix: self.prefix.clone(), topics, ..defaults }
    }
}

impl Drop for Topics {
    fn drop(&mut self) {
        let client = ClientConfig::new().set("bootstrap.servers", &self.servers).create();
        let Ok(admin): Result<AdminClient<DefaultClientContext>, _> = client else { return };
        let names = Channel::ALL.map(|channel| self.of(channel));
        let names = names.each_ref().map(String::as_str);
        // A broker that is gone keeps them; nothing depends on it.
        drop(futures_util::FutureExt::now_or_never(admin.delete_topics(&names, &AdminOptions::new())));
    }
}

/// A record as a reader finds it that shares nothing with the product.
#[derive(Debug, Clone)]
pub struct Record {
    /// The partition.
    pub partition: i32,
    /// The key.
    pub key: String,
    /// The headers.
    pub headers: HashMap<String, String>,
    /// The value.
    pub value: Vec<u8>,
}

impl Record {
    /// Returns a header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Reads all that a topic holds, partition by partition, in order.
///
/// # Panics
/// Panics if the brokers do not answer.
pub async fn read(servers: &str, topic: &str) -> Vec<Record> {
    let (servers, topic) = (servers.to_owned(), topic.to_owned());
    let read = move || read_blocking(&servers, &topic);
    tokio::task::spawn_blocking(read).await.expect("the topic can be read")
}

fn read_blocking(servers: &str, topic: &str) -> Vec<Record> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", "test").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("the brokers answer");
    let mut missing = 0;
    let mut partitions = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE).expect("they answer");
        partitions.add_partition_offset(topic, partition.id(), Offset::Offset(low)).expect("an offset");
        missing += high - low;
    }
    consumer.assign(&partitions).expect("the partitions are assigned");
    let mut records = Vec::new();
    while missing > 0 {
        // An error is one that the client mends itself; silence is none.
        let Ok(message) = consumer.poll(PATIENCE).expect("records come") else { continue };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        records.push(Record {
            partition: message.partition(),
            key: text(message.key().unwrap_or_default()),
            headers: headers.map(|one| (one.key.to_owned(), text(one.value.unwrap_or_default()))).collect(),
            value: message.payload().unwrap_or_default().to_vec(),
        });
        missing -= 1;
    }
    records.sort_by_key(|record| record.partition);
    records
}

/// Writes a record as another producer would, into the partition of its key or another one.
///
/// # Panics
/// Panics if the brokers do not take it.
pub async fn write(
    servers: &str,
    topic: &str,
    key: &str,
    headers: &[(&str, Option<&str>)],
    value: &[u8],
    partition: Option<i32>,
) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("partitioner", "murmur2_random");
    let producer: FutureProducer = config.create().expect("a producer");
    let headers = headers
        .iter()
        .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value }));
    let mut record = FutureRecord::to(topic).key(key).payload(value).headers(headers);
    record.partition = partition;
    producer.send(record, PATIENCE).await.expect("the brokers take a record");
}
