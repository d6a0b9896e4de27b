//! A real Kafka: the broker that the environment names, and topics of a test's own on it.

use common::channel::Channel;
use common::kafka::{KafkaSettings, TopicSettings};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

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
