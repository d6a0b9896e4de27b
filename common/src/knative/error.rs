//! Why channels on Knative cannot be used.

use std::time::Duration;

use crate::channel::Channel;
use crate::error::ErrorKind;
use crate::kafka::KafkaError;
use crate::kubernetes::ClusterError;
use crate::web::WebError;

/// Says why channels on Knative cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum KnativeError {
    /// The name of a channel's resource has another form.
    #[error(
        "'{0}' is no channel: expected NAME=KIND/NAME, as commands=KafkaChannel/commands, with one of telemetry, commands, \
         outcomes and one of InMemoryChannel, KafkaChannel, Channel (option --channel)"
    )]
    Form(String),
    /// It is not said which resource a channel is.
    #[error("which resource the channel {0} is must be known (option --channel {0}=KIND/NAME)")]
    NoResource(Channel),
    /// The replica's own Subscription is refused.
    #[error("the Subscription {name} is refused: {reason}")]
    Refused {
        /// Its name.
        name: String,
        /// What the API server says, without the secret in the subscriber's address.
        reason: String,
    },
    /// The API server was of no use.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A resource did not become ready.
    #[error("{resource} is not ready after {waited:?}: {reason}")]
    NotReady {
        /// Its kind and name.
        resource: String,
        /// How long it was waited for.
        waited: Duration,
        /// What its condition says.
        reason: String,
    },
    /// A channel's resource says something that cannot be used.
    #[error("{resource} {problem}")]
    Unusable {
        /// Its kind and name.
        resource: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What is published does not come back.
    #[error(
        "what is published to {channel} does not arrive at {url} within {waited:?}: can the channel's dispatcher reach that \
         address (NetworkPolicy; options --subscriber-listen, --subscriber-url)? {reason}"
    )]
    Silent {
        /// The channel.
        channel: Channel,
        /// Where it ought to arrive, without the token.
        url: String,
        /// How long it was waited for.
        waited: Duration,
        /// What publishing said.
        reason: String,
    },
    /// The client for publishing cannot be made.
    #[error("cannot publish over HTTP: {0}")]
    Client(String),
    /// The server for the replica's own subscriptions cannot start.
    #[error(transparent)]
    Server(#[from] WebError),
    /// The topics beneath the channels cannot be read.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}

impl KnativeError {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Form(_) | Self::NoResource(_) | Self::Unusable { .. } | Self::Client(_) => {
                ErrorKind::Invalid
            }
            Self::Cluster(error) => error.kind(),
            Self::Refused { .. } | Self::NotReady { .. } | Self::Silent { .. } => ErrorKind::Unavailable,
            Self::Server(_) => ErrorKind::Internal,
            Self::Kafka(error) => error.kind(),
        }
    }
}
