//! The options of Knative, and the variables that a SinkBinding sets.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use serde::Deserialize;
use url::Url;

use super::kafka::max_event;
use super::{BadConfiguration, LimitOptions};
use crate::channel::Channel;
use crate::event::{is_attribute_name, is_reserved};
use crate::kafka::KafkaSettings;
use crate::knative::{ChannelKind, ChannelResource, KnativeSettings, Push, Reading, Target};
use crate::kubernetes::Cluster;
use crate::net::Listen;

/// Where a SinkBinding puts the token for its sink.
const TOKEN_FILE: &str = "/oidc/token";
/// Where Linux says what this machine, or Pod, is called.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// What an endpoint is for: it decides which channel `K_SINK` means, and which ones are subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It serves devices: it publishes telemetry, and follows commands.
    Devices,
    /// It serves applications: it publishes commands, and hands out the events of all channels.
    Applications,
}

impl Role {
    /// Returns the channel that the endpoint's own SinkBinding binds it to.
    fn own(self) -> Channel {
        match self {
            Self::Devices => Channel::Telemetry,
            Self::Applications => Channel::Commands,
        }
    }

    fn follows(self) -> Vec<Channel> {
        match self {
            Self::Devices => vec![Channel::Commands],
            Self::Applications => Channel::ALL.to_vec(),
        }
    }
}

/// Where the channels are on Knative.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Knative")]
pub struct KnativeOptions {
    /// Where the endpoint's own channel takes events: telemetry of an endpoint for devices, commands of command-endpoint.
    ///
    /// A SinkBinding sets the variable.
    #[arg(long, env = "K_SINK", value_name = "URL")]
    pub sink: Option<String>,

    /// Extension attributes for all events, as {"extensions": {"name": "value"}}. A SinkBinding sets the variable.
    #[arg(long, env = "K_CE_OVERRIDES", value_name = "JSON")]
    pub ce_overrides: Option<String>,

    /// Certificates of authorities to trust, PEM. A SinkBinding sets the variable.
    #[arg(long, env = "K_CA_CERTS", value_name = "PEM", hide_env_values = true)]
    pub ca_certs: Option<String>,

    /// A file with a bearer token for the sink. Default: /oidc/token, where a SinkBinding puts it, if it is there
    #[arg(long, env = "DROGUE_OIDC_TOKEN_FILE", value_name = "FILE")]
    pub oidc_token_file: Option<PathBuf>,

    /// Which resource a channel is: NAME=KIND/NAME, as commands=KafkaChannel/commands; may be repeated, or by commas.
    ///
    /// With --kafka-bootstrap-servers, and all three of them KafkaChannels, events are read from the channels' topics, and
    /// every promise holds. Without, the channels push to this replica, by Subscriptions that it makes for itself.
    #[arg(long, env = "DROGUE_CHANNEL", value_name = "NAME=KIND/NAME", value_delimiter = ',', value_parser = resource)]
    pub channel: Vec<ChannelResource>,

    /// Where a channel takes events, instead of asking its resource: NAME=URL; may be repeated, or by commas.
    #[arg(long, env = "DROGUE_CHANNEL_URL", value_name = "NAME=URL", value_delimiter = ',')]
    pub channel_url: Vec<ChannelUrl>,

    /// Where to listen for what the channels push, for the cluster alone.
    #[arg(long, env = "DROGUE_SUBSCRIBER_LISTEN", value_name = "LISTEN", default_value = "0.0.0.0:8090")]
    pub subscriber_listen: Listen,

    /// Where that is for the channels. Default: http:// with the Pod's address and the port listened on
    #[arg(long, env = "DROGUE_SUBSCRIBER_URL", value_name = "URL")]
    pub subscriber_url: Option<Url>,

    /// The Pod that this replica runs in, to which its Subscriptions belong. Default: the host name
    #[arg(long, env = "HOSTNAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// The namespace of the Pod and the channels. Default: the Pod's, or that of the kubeconfig
    #[arg(long, env = "DROGUE_KUBE_NAMESPACE", value_name = "NAMESPACE")]
    pub kube_namespace: Option<String>,
}

/// Where a channel takes events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelUrl {
    channel: Channel,
    url: Url,
}

impl FromStr for ChannelUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(channel, url)| {
            Some(Self { channel: Channel::from_name(channel)?, url: http_url(url)? })
        });
        parsed.ok_or_else(|| {
            "expected NAME=URL, with one of telemetry, commands, outcomes and an http or https URL".to_owned()
        })
    }
}

/// What of the options is good, before anything is bound.
pub(super) struct Checked {
    targets: HashMap<Channel, Target>,
    overrides: BTreeMap<String, String>,
    pushed: Option<Vec<Channel>>,
    pod: String,
}

impl KnativeOptions {
    /// Tells whether the channels are on Knative.
    pub(super) fn is_chosen(&self) -> bool {
        self.given_sink().is_some() || !self.channel.is_empty() || !self.channel_url.is_empty()
    }

    fn given_sink(&self) -> Option<&str> {
        self.sink.as_deref().filter(|sink| !sink.is_empty())
    }

    /// Checks what can be known without a cluster. `kafka`: the brokers that keep the channels are given.
    ///
    /// # Errors
    /// Names the option that is bad or missing.
    pub(super) fn check(&self, role: Role, kafka: bool) -> Result<Checked, BadConfiguration> {
        let targets = self.targets(role)?;
        let has = |channel: Channel| self.channel.iter().any(|resource| resource.channel == channel);
        if let Some(twice) = twice(self.channel.iter().map(|resource| resource.channel)) {
            return bad(format!("the channel {twice} is given twice (option --channel)"));
        }
        let pushed = (!kafka).then(|| role.follows());
        let of_topics = if kafka { Channel::ALL.to_vec() } else { Vec::new() };
        for channel in pushed.iter().flatten().chain(&of_topics).copied() {
            if !has(channel) {
                return bad(format!(
                    "which resource the channel {channel} is must be known to follow it (option --channel \
                     {channel}=KIND/NAME)"
                ));
            }
        }
        for channel in Channel::ALL {
            // Where telemetry goes is no matter for who publishes none.
            let is_needed = role == Role::Devices || channel != Channel::Telemetry;
            if is_needed && !targets.contains_key(&channel) && !has(channel) {
                return bad(format!(
                    "where {channel} takes events is not known (options --channel, --channel-url)"
                ));
            }
        }
        let other = self.channel.iter().find(|resource| resource.kind != ChannelKind::KafkaChannel);
        if let Some(other) = other.filter(|_| kafka) {
            return bad(format!(
                "a {} has no topic to read: leave out --kafka-bootstrap-servers, or give KafkaChannels (option --channel)",
                other.kind.as_str()
            ));
        }
        let pod = if kafka { String::new() } else { self.pod()? };
        if !kafka && self.subscriber_listen == Listen::Off {
            return bad("the channels push to this replica, so it must listen (option --subscriber-listen)");
        }
        Ok(Checked { targets, overrides: self.overrides()?, pushed, pod })
    }

    fn targets(&self, role: Role) -> Result<HashMap<Channel, Target>, BadConfiguration> {
        if let Some(twice) = twice(self.channel_url.iter().map(|each| each.channel)) {
            return bad(format!("the channel {twice} is given twice (option --channel-url)"));
        }
        let given = self.channel_url.iter();
        let mut targets: HashMap<_, _> =
            given.map(|each| (each.channel, Target { url: each.url.clone(), token_file: None })).collect();
        let own = role.own();
        match (self.given_sink(), targets.contains_key(&own)) {
            (None, true) => {}
            (None, false) => return bad(missing_sink(own)),
            (Some(_), true) => {
                return bad(format!(
                    "K_SINK (option --sink) and --channel-url {own}=… say the same: leave out one"
                ));
            }
            (Some(sink), false) => {
                let url = http_url(sink).ok_or_else(|| {
                    BadConfiguration("K_SINK (option --sink) must be an http or https URL".to_owned())
                })?;
                let usual = || Some(PathBuf::from(TOKEN_FILE)).filter(|file| file.exists());
                let token_file = self.oidc_token_file.clone().or_else(usual);
                targets.insert(own, Target { url, token_file });
            }
        }
        Ok(targets)
    }

    fn overrides(&self) -> Result<BTreeMap<String, String>, BadConfiguration> {
        #[derive(Deserialize)]
        struct Overrides {
            #[serde(default)]
            extensions: BTreeMap<String, String>,
        }
        let Some(text) = self.ce_overrides.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(BTreeMap::new());
        };
        let parsed = serde_json::from_str::<Overrides>(text);
        let Overrides { extensions } = parsed.map_err(|error| {
            BadConfiguration(format!(
                "K_CE_OVERRIDES (option --ce-overrides) must be {{\"extensions\": {{\"name\": \"value\"}}}}: {error}"
            ))
        })?;
        match extensions.keys().find(|name| !is_attribute_name(name) || is_reserved(name)) {
            Some(name) => bad(format!(
                "K_CE_OVERRIDES (option --ce-overrides) cannot set '{name}': it is no name of an extension attribute, or \
                 this cloud's own"
            )),
            None => Ok(extensions),
        }
    }

    fn pod(&self) -> Result<String, BadConfiguration> {
        let given = self.pod_name.clone().filter(|name| !name.is_empty());
        let host = || fs::read_to_string(Path::new(HOST_NAME)).ok().map(|name| name.trim().to_owned());
        given.or_else(host).filter(|name| !name.is_empty()).ok_or_else(|| {
            BadConfiguration(
                "which Pod this is cannot be known by its host name (option --pod-name)".to_owned(),
            )
        })
    }

    /// Finds the API server.
    ///
    /// # Errors
    /// Says why there is none.
    pub(super) async fn cluster(&self) -> Result<Cluster, crate::kubernetes::ClusterError> {
        Cluster::connect(self.kube_namespace.clone()).await
    }

    /// Makes the settings of what was checked. Binds the receiver's socket.
    ///
    /// # Errors
    /// Names the address that is not to be had.
    pub(super) fn settings(
        self,
        checked: Checked,
        kafka: Option<KafkaSettings>,
        limits: &LimitOptions,
    ) -> anyhow::Result<KnativeSettings> {
        let Checked { targets, overrides, pushed, pod } = checked;
        let reading = match (kafka, pushed) {
            (Some(kafka), _) => Reading::Topics(Box::new(kafka)),
            (None, channels) => {
                let listener = self.subscriber_listen.bind("--subscriber-listen")?;
                let listener =
                    listener.ok_or_else(|| BadConfiguration("--subscriber-listen is off".to_owned()))?;
                let channels = channels.unwrap_or_default();
                Reading::Push(Push { channels, listener, subscriber: self.subscriber_url, pod })
            }
        };
        Ok(KnativeSettings {
            targets,
            resources: self.channel,
            overrides,
            ca_certificates: self.ca_certs.filter(|pem| !pem.is_empty()),
            proxy: None,
            reading,
            publish_timeout: limits.publish_timeout,
            max_event: max_event(limits),
        })
    }
}

fn bad<T>(reason: impl Into<String>) -> Result<T, BadConfiguration> {
    Err(BadConfiguration(reason.into()))
}

fn missing_sink(own: Channel) -> String {
    format!(
        "K_SINK is missing, where {own} takes events: a SinkBinding sets it, in Pods that are made after it. If one is there, \
         this Pod was made before it, and the Deployment's next one has it; if none is, apply one whose subject is this \
         workload and whose sink is the channel {own}, or give --channel-url {own}=URL"
    )
}

fn resource(text: &str) -> Result<ChannelResource, String> {
    text.parse().map_err(|error: crate::knative::KnativeError| error.to_string())
}

fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn twice(channels: impl Iterator<Item = Channel>) -> Option<Channel> {
    let mut seen = Vec::new();
    for channel in channels {
        if seen.contains(&channel) {
            return Some(channel);
        }
        seen.push(channel);
    }
    None
}
