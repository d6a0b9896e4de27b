//! The resources behind channels: where they take events, and in which topic a channel on Kafka has them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;
use url::Url;

use super::error::KnativeError;
use super::sink::Target;
use crate::auth::Secret;
use crate::channel::Channel;
use crate::kubernetes::conditions::unready;
use crate::kubernetes::{Cluster, ClusterError};

/// How long a resource that was just applied may take until it is ready.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// The annotation of a channel's status that names its topic (Knative's channel for Apache Kafka).
const TOPIC: &str = "default.topic";

/// What kind of channel a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// Keeps events in memory.
    InMemoryChannel,
    /// Keeps events in a topic of Apache Kafka.
    KafkaChannel,
    /// Whatever the cluster's default is.
    Channel,
}

impl ChannelKind {
    const ALL: [Self; 3] = [Self::InMemoryChannel, Self::KafkaChannel, Self::Channel];

    /// Returns the kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InMemoryChannel => "InMemoryChannel",
            Self::KafkaChannel => "KafkaChannel",
            Self::Channel => "Channel",
        }
    }

    /// Returns the version in which the resource is served.
    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::InMemoryChannel | Self::Channel => "messaging.knative.dev/v1",
            Self::KafkaChannel => "messaging.knative.dev/v1beta1",
        }
    }

    fn resource(self) -> ApiResource {
        let version = if self == Self::KafkaChannel { "v1beta1" } else { "v1" };
        ApiResource::from_gvk(&GroupVersionKind::gvk("messaging.knative.dev", version, self.as_str()))
    }
}

/// Which resource a channel is, as `commands=KafkaChannel/commands` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelResource {
    /// The channel.
    pub channel: Channel,
    /// The resource's kind.
    pub kind: ChannelKind,
    /// The resource's name, in the namespace of this replica.
    pub name: String,
}

impl FromStr for ChannelResource {
    type Err = KnativeError;

    fn from_str(text: &str) -> Result<Self, KnativeError> {
        let parse = || {
            let (channel, resource) = text.split_once('=')?;
            let (kind, name) = resource.split_once('/')?;
            let kind = ChannelKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
            let is_legal =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
            let is_name = !name.is_empty() && name.bytes().all(is_legal);
            is_name.then_some(Self { channel: Channel::from_name(channel)?, kind, name: name.to_owned() })
        };
        parse().ok_or_else(|| KnativeError::Form(text.to_owned()))
    }
}

impl fmt::Display for ChannelResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// What a channel's resource says once it is ready.
#[derive(Debug)]
pub(super) struct Resolved {
    url: Option<String>,
    /// For whom a token must be, where the channel asks for one.
    audience: Option<String>,
    /// The authority that the channel's certificate is from; PEM.
    pub(super) authority: Option<String>,
    topic: Option<String>,
}

impl ChannelResource {
    /// Reads the resource, and waits until it is ready.
    ///
    /// # Errors
    /// Fails if it is not there, may not be read, or is not ready in time.
    pub(super) async fn resolve(&self, cluster: &Cluster) -> Result<Resolved, KnativeError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(cluster.client(), cluster.namespace(), &self.kind.resource());
        let read = || async {
            let action = format!("cannot read the {self} in the namespace {}", cluster.namespace());
            api.get(&self.name).await.map_err(ClusterError::of(action))
        };
        let object = until_ready(&self.to_string(), None, read).await?;
        let text = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Ok(Resolved {
            url: text("/status/address/url"),
            audience: text("/status/address/audience"),
            authority: text("/status/address/CACerts"),
            topic: object
                .data
                .pointer("/status/annotations")
                .and_then(|annotations| annotations.get(TOPIC)?.as_str())
                .map(str::to_owned),
        })
    }
}

impl Resolved {
    /// Returns where the channel takes events.
    pub(super) fn target(&self, resource: &ChannelResource) -> Result<Target, KnativeError> {
        let unusable = |problem: String| KnativeError::Unusable { resource: resource.to_string(), problem };
        if let Some(audience) = &self.audience {
            return Err(unusable(format!(
                "takes events only with a token for {audience}, which only a SinkBinding gives (K_SINK): turn Knative's \
                 authentication off for it"
            )));
        }
        let url = self.url.as_deref().and_then(|url| Url::parse(url).ok());
        let url =
            url.ok_or_else(|| unusable("is ready and has no address (status.address.url)".to_owned()))?;
        Ok(Target { url, token_file: None })
    }

    /// Returns the topic in which a channel on Kafka has its events.
    pub(super) fn topic(&self, resource: &ChannelResource) -> Result<String, KnativeError> {
        self.topic.clone().ok_or_else(|| KnativeError::Unusable {
            resource: resource.to_string(),
            problem: format!("does not say which topic it has (status.annotations[\"{TOPIC}\"])"),
        })
    }
}

/// Reads an object until its condition `Ready` is true.
///
/// # Errors
/// Fails if it cannot be read, or is not ready within [`PATIENCE`].
pub(super) async fn until_ready<F>(
    name: &str,
    secret: Option<&Secret>,
    read: impl Fn() -> F,
) -> Result<DynamicObject, KnativeError>
where
    F: Future<Output = Result<DynamicObject, ClusterError>>,
{
    let mut told = false;
    let mut reason = String::new();
    let waited = async {
        loop {
            let object = read().await?;
            match unready(&object, "Ready") {
                None => return Ok(object),
                Some(why) => reason = without(&why, secret),
            }
            if !told {
                told = true;
                tracing::info!(resource = name, reason, "waiting until it is ready");
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let result = tokio::time::timeout(PATIENCE, waited).await;
    let late = || KnativeError::NotReady { resource: name.to_owned(), waited: PATIENCE, reason };
    result.unwrap_or_else(|_| Err(late()))
}

/// Returns what others say without a secret that they may have quoted.
pub(super) fn without(text: &str, secret: Option<&Secret>) -> String {
    secret.map_or_else(|| text.to_owned(), |secret| text.replace(secret.expose(), "…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_named_by_kind_and_name() {
        let read = |text: &str| text.parse::<ChannelResource>();
        let expected = ChannelResource {
            channel: Channel::Commands,
            kind: ChannelKind::KafkaChannel,
            name: "c-1".into(),
        };
        assert_eq!(read("commands=KafkaChannel/c-1").unwrap(), expected);
        for bad in [
            "",
            "commands",
            "commands=c",
            "x=Channel/c",
            "commands=Kafka/c",
            "commands=Channel/",
            "commands=Channel/A",
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.to_string().contains("--channel"), "{error}");
        }
    }

    #[test]
    fn what_a_channel_does_not_say_is_named() {
        let resource: ChannelResource = "commands=KafkaChannel/c".parse().unwrap();
        let resolved = Resolved {
            url: Some("http://c.ns.svc".into()),
            topic: Some("t".into()),
            audience: None,
            authority: None,
        };
        assert_eq!(resolved.target(&resource).unwrap().url.as_str(), "http://c.ns.svc/");
        assert_eq!(resolved.topic(&resource).unwrap(), "t");
        let guarded = Resolved { audience: Some("a".into()), ..resolved };
        assert!(guarded.target(&resource).unwrap_err().to_string().contains("a token for a"));
        let silent = Resolved { url: None, topic: None, audience: None, authority: None };
        assert!(silent.target(&resource).unwrap_err().to_string().contains("status.address.url"));
        assert!(silent.topic(&resource).unwrap_err().to_string().contains("default.topic"));
    }
}
