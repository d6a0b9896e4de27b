//! Why Kafka cannot be used.

use crate::channel::SourceError;
use crate::error::ErrorKind;

/// Says why channels on Kafka cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// The address of the cluster has another form.
    #[error(
        "the brokers are host:port, by commas, as in kafka-0:9092,kafka-1:9092 (option --kafka-bootstrap-servers)"
    )]
    BootstrapServers,
    /// The prefix makes no name of a topic.
    #[error("a topic prefix has up to 200 of A-Z a-z 0-9 . _ - (option --kafka-topic-prefix)")]
    TopicPrefix,
    /// A property is none that may be set.
    #[error("'{name}' cannot be set, {instead} (option --kafka-property)")]
    Reserved {
        /// The property.
        name: String,
        /// What to do instead, or why it is so.
        instead: &'static str,
    },
    /// The client knows no such property, or not that value.
    #[error("'{name}' is refused by the Kafka client: {reason} (option --kafka-property)")]
    Property {
        /// The property.
        name: String,
        /// What the client says.
        reason: String,
    },
    /// The properties do not fit together.
    #[error("the Kafka client refuses its configuration: {0} (option --kafka-property)")]
    Client(String),
    /// The program was built without TLS and SASL for Kafka.
    #[error(
        "this program speaks only PLAINTEXT to Kafka: build it with the feature kafka-tls \
         (option --kafka-security-protocol)"
    )]
    WithoutTls,
    /// The cluster does not answer.
    #[error("Kafka at {servers} cannot be reached: {reason} (option --kafka-bootstrap-servers)")]
    Unreachable {
        /// The brokers that were asked.
        servers: String,
        /// What the client says.
        reason: String,
    },
    /// A topic is missing and cannot be made.
    #[error("the topic {topic} is missing and cannot be made: {reason}")]
    Create {
        /// The topic.
        topic: String,
        /// What the broker says.
        reason: String,
    },
    /// A topic that somebody else makes is not there.
    #[error("the topic {0} is missing; whoever names it has to make it")]
    Missing(String),
    /// A topic has a setting with which a promise cannot be kept.
    #[error("{0}")]
    Unsuitable(String),
    /// The system gives no thread.
    #[error("cannot start a thread for Kafka: {0}")]
    Thread(String),
}

impl KafkaError {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BootstrapServers
            | Self::TopicPrefix
            | Self::Reserved { .. }
            | Self::Property { .. }
            | Self::Client(_)
            | Self::WithoutTls
            | Self::Unsuitable(_) => ErrorKind::Invalid,
            Self::Unreachable { .. } | Self::Create { .. } | Self::Missing(_) => ErrorKind::Unavailable,
            Self::Thread(_) => ErrorKind::Internal,
        }
    }
}

impl From<KafkaError> for SourceError {
    fn from(error: KafkaError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
