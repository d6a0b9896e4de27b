//! What can be chosen about Kafka, and what cannot.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError as ClientError;

use super::error::KafkaError;
use crate::auth::Secret;
use crate::channel::Channel;

/// The group that consumers name and never join: librdkafka assigns no partitions without a name.
const GROUP: &str = "drogue";

/// The part of a device's patience that Kafka has: what is left is for telling the device.
const SHARE_OF_PATIENCE: f64 = 0.9;

/// What the promises rest on, and therefore cannot be set as a property; each with what to do instead.
const RESERVED: [(&str, &str); 22] = [
    ("queue.buffering.max.ms", "use its other name, linger.ms"),
    ("message.max.bytes", "it follows from --max-payload"),
    ("bootstrap.servers", "use --kafka-bootstrap-servers"),
    ("metadata.broker.list", "use --kafka-bootstrap-servers"),
    ("message.timeout.ms", "it follows from --publish-timeout"),
    ("delivery.timeout.ms", "it follows from --publish-timeout"),
    ("acks", ACCEPTED),
    ("request.required.acks", ACCEPTED),
    ("enable.idempotence", ACCEPTED),
    ("enable.gapless.guarantee", ACCEPTED),
    ("transactional.id", ACCEPTED),
    ("delivery.report.only.error", ACCEPTED),
    ("partitioner", "all writers must agree on it"),
    ("group.id", OWN_POSITION),
    ("group.instance.id", OWN_POSITION),
    ("group.protocol", OWN_POSITION),
    ("enable.auto.commit", OWN_POSITION),
    ("auto.commit.enable", OWN_POSITION),
    ("enable.auto.offset.store", OWN_POSITION),
    ("auto.offset.reset", OWN_POSITION),
    ("enable.partition.eof", OWN_POSITION),
    ("log.queue", "use --log"),
];
const ACCEPTED: &str = "accepted means persisted";
const OWN_POSITION: &str = "each replica keeps positions of its own";

/// What can be chosen about Kafka.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// The brokers to ask for all others: `host:port`, by commas.
    pub bootstrap_servers: String,
    /// Properties of the Kafka client, by librdkafka's names. Their values are not shown.
    pub properties: Vec<Property>,
    /// A file with a bearer token for the SASL mechanism OAUTHBEARER, read anew before the token expires.
    pub oauth_token_file: Option<PathBuf>,
    /// What the names of the topics begin with; `drogue.` by default.
    pub topic_prefix: String,
    /// The topics of the channels, in the order of [`Channel::ALL`], where somebody else names and makes them.
    pub topic_names: Option<[String; Channel::ALL.len()]>,
    /// How topics are made that are missing.
    pub topics: TopicSettings,
    /// How long a device waits for an acknowledgement; Kafka has nine tenths of it.
    pub publish_timeout: Duration,
    /// The largest event in bytes, attributes included.
    pub max_event: usize,
    /// Events that may wait for Kafka; 100,000 by default.
    pub queue_events: usize,
    /// Bytes that may wait for Kafka; 64 MiB by default.
    pub queue_bytes: usize,
}

/// How topics are made that are missing. Topics that are there are never changed.
#[derive(Debug, Clone)]
pub struct TopicSettings {
    /// Into how many partitions a channel is divided; 12 by default.
    pub partitions: i32,
    /// On how many brokers each record is kept; by default 3, or as many as there are.
    pub replication_factor: Option<i32>,
    /// How many of them must have a record before it is acknowledged; by default one fewer than there are replicas.
    pub min_insync_replicas: Option<i32>,
    /// How long records are kept; 7 days by default.
    pub retention: Duration,
}

impl KafkaSettings {
    /// Returns the defaults, for a cluster.
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            properties: Vec::new(),
            oauth_token_file: None,
            topic_prefix: "drogue.".to_owned(),
            topic_names: None,
            topics: TopicSettings::default(),
            publish_timeout: Duration::from_secs(10),
            max_event: 1 << 20,
            queue_events: 100_000,
            queue_bytes: 64 << 20,
        }
    }

    /// Checks everything that can be known without a broker.
    ///
    /// # Errors
    /// Names the property or option that is bad. Values are not repeated: they may be secrets.
    pub fn check(&self) -> Result<(), KafkaError> {
        if self.bootstrap_servers.split(',').any(|server| !is_address(server.trim())) {
            return Err(KafkaError::BootstrapServers);
        }
        let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.topic_prefix.len() > 200 || !self.topic_prefix.chars().all(is_legal) {
            return Err(KafkaError::TopicPrefix);
        }
        for Property { name, .. } in &self.properties {
            if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| reserved == name) {
                return Err(KafkaError::Reserved { name: name.clone(), instead });
            }
        }
        let speaks_plain = |property: &Property| property.value.expose().eq_ignore_ascii_case("plaintext");
        let needs_tls = |property: &Property| property.name == "security.protocol" && !speaks_plain(property);
        if cfg!(not(feature = "kafka-tls")) && self.properties.iter().any(needs_tls) {
            return Err(KafkaError::WithoutTls);
        }
        for config in [self.producer(), self.consumer()] {
            config.create_native_config().map(drop).map_err(bad_property)?;
        }
        Ok(())
    }

    /// Returns the topics of the channels, in the order of [`Channel::ALL`].
    pub(super) fn names(&self) -> [String; Channel::ALL.len()] {
        let ours = || Channel::ALL.map(|channel| format!("{}{channel}", self.topic_prefix));
        self.topic_names.clone().unwrap_or_else(ours)
    }

    /// Returns how long Kafka may take to acknowledge an event.
    pub(super) fn delivery_timeout(&self) -> Duration {
        self.publish_timeout.mul_f64(SHARE_OF_PATIENCE).max(Duration::from_millis(1))
    }

    /// What all clients have in common. A short back-off, so that an outage is over for us when it is over.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", "drogue")
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", "10000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // A broker that is silent rather than gone is noticed by nobody: ask where the leaders are.
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set_log_level(RDKafkaLogLevel::Warning);
        for Property { name, value } in &self.properties {
            config.set(name, value.expose());
        }
        config
    }

    /// Returns the properties of the producer, also for a bare one that is measured beside this adapter. Each event is
    /// sent at once; what waits meanwhile goes along with the next.
    pub fn producer(&self) -> ClientConfig {
        let defaults = [
            ("linger.ms", "0".to_owned()),
            ("retry.backoff.ms", "50".to_owned()),
            ("request.timeout.ms", "5000".to_owned()),
            ("queue.buffering.max.messages", self.queue_events.to_string()),
            ("queue.buffering.max.kbytes", (self.queue_bytes >> 10).max(1).to_string()),
        ];
        let mut config = with_defaults(self.client(), defaults);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", self.delivery_timeout().as_millis().to_string())
            .set("message.max.bytes", self.max_event.to_string());
        config
    }

    /// Returns the properties of a consumer, also for a bare one that is measured beside this adapter. It is told its
    /// positions and has no other, and holds 8 MiB that wait to be handled.
    pub fn consumer(&self) -> ClientConfig {
        let defaults = [
            ("queued.max.messages.kbytes", "8192".to_owned()),
            ("fetch.max.bytes", self.max_event.max(8 << 20).to_string()),
            // How long a full queue waits before it looks for room: by default a second.
            ("fetch.queue.backoff.ms", "2".to_owned()),
            ("fetch.error.backoff.ms", "100".to_owned()),
        ];
        let mut config = with_defaults(self.client(), defaults);
        config
            .set("group.id", GROUP)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true");
        config
    }
}

/// Sets what was not set as a property.
fn with_defaults(
    mut config: ClientConfig,
    defaults: impl IntoIterator<Item = (&'static str, String)>,
) -> ClientConfig {
    for (name, default) in defaults {
        if config.get(name).is_none() {
            config.set(name, default);
        }
    }
    config
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            partitions: 12,
            replication_factor: None,
            min_insync_replicas: None,
            retention: Duration::from_secs(7 * 86_400),
        }
    }
}

fn is_address(text: &str) -> bool {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Names the property that the client refuses. What the client says of it is repeated without the value.
pub(super) fn bad_property(error: ClientError) -> KafkaError {
    let ClientError::ClientConfig(_, description, name, value) = error else {
        return KafkaError::Client(error.to_string());
    };
    let reason = if value.is_empty() { description } else { description.replace(&value, "…") };
    KafkaError::Property { name, reason }
}

/// A property of the Kafka client, by librdkafka's name.
#[derive(Clone, PartialEq, Eq)]
pub struct Property {
    /// The name, as `linger.ms`.
    pub name: String,
    /// The value, which may be a secret.
    pub value: Secret,
}

impl Property {
    /// Makes a property.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: Secret::new(value) }
    }
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

impl std::str::FromStr for Property {
    type Err = String;

    /// Parses `key=value`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => Ok(Self::new(name.trim(), value)),
            Some(_) | None => Err("expected key=value, as in linger.ms=5".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> KafkaSettings {
        KafkaSettings { properties: vec![Property::new(name, value)], ..KafkaSettings::new("localhost:9092") }
    }

    #[test]
    fn what_the_promises_rest_on_cannot_be_set() {
        assert_eq!(with("linger.ms", "5").check(), Ok(()));
        for (name, value, hint) in [
            ("acks", "1", "persisted"),
            ("enable.idempotence", "false", "persisted"),
            ("delivery.timeout.ms", "1", "--publish-timeout"),
            ("auto.offset.reset", "latest", "positions"),
            ("bootstrap.servers", "b:1", "--kafka-bootstrap-servers"),
        ] {
            let error = with(name, value).check().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(hint), "{error}");
        }
    }

    #[test]
    fn a_bad_property_is_named_and_its_value_is_not() {
        for (name, value) in
            [("no.such.thing", "hunter2"), ("linger.ms", "hunter2"), ("socket.keepalive.enable", "hunter2")]
        {
            let error = with(name, value).check().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("--kafka-property"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let shown = format!("{:?}", with("sasl.password", "hunter2"));
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    }

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn without_the_feature_tls_is_an_error_that_names_it() {
        for protocol in ["SSL", "sasl_ssl", "SASL_PLAINTEXT"] {
            let error = with("security.protocol", protocol).check().unwrap_err().to_string();
            assert!(error.contains("kafka-tls"), "{error}");
        }
        assert_eq!(with("security.protocol", "plaintext").check(), Ok(()));
    }

    #[test]
    fn addresses_and_prefixes_have_a_form() {
        for bad in ["", "localhost", "localhost:", ":9092", "a:1,", "a:0", "a:99999"] {
            assert_eq!(KafkaSettings::new(bad).check(), Err(KafkaError::BootstrapServers), "{bad}");
        }
        for good in ["a:1", "a:1, b:2", "[::1]:9092"] {
            assert_eq!(KafkaSettings::new(good).check(), Ok(()), "{good}");
        }
        let bad = KafkaSettings { topic_prefix: "a/b".to_owned(), ..KafkaSettings::new("a:1") };
        assert_eq!(bad.check(), Err(KafkaError::TopicPrefix));
    }

    #[test]
    fn kafka_gives_up_before_the_device_does() {
        let settings = KafkaSettings::new("a:1");
        assert!(settings.delivery_timeout() < settings.publish_timeout);
        assert_eq!(settings.producer().get("message.timeout.ms"), Some("9000"));
    }
}
