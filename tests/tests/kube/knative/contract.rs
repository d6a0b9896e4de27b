//! The contract of channel adapters, on channels in memory.

use std::collections::{BTreeMap, HashMap};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use common::BoxFuture;
use common::channel::Channel;
use common::knative::{KnativeChannels, KnativeSettings, Push, Reading, Target};
use common::service::Clock;
use tests::contract::{Adapter, Channels};
use tests::knative;

const POD: &str = "contract";

struct Knative {
    channels: knative::Channels,
}

impl Knative {
    async fn new() -> Option<Self> {
        let channels = knative::given("the contract on Knative").await?;
        channels.pod(POD).await;
        Some(Self { channels })
    }
}

impl Adapter for Knative {
    fn open(&self) -> BoxFuture<'_, Result<Channels>> {
        Box::pin(async {
            let urls = self.channels.urls().await;
            let target = |(channel, url)| (channel, Target { url, token_file: None });
            let listener = TcpListener::bind((self.channels.host(), 0))?;
            listener.set_nonblocking(true)?;
            let resource = |channel: Channel| format!("{channel}=InMemoryChannel/{channel}").parse();
            let settings = KnativeSettings {
                targets: urls.into_iter().map(target).collect::<HashMap<_, _>>(),
                resources: Channel::ALL.into_iter().map(resource).collect::<Result<_, _>>()?,
                overrides: BTreeMap::new(),
                ca_certificates: None,
                proxy: Some(self.channels.gateway().clone()),
                reading: Reading::Push(Push {
                    channels: Channel::ALL.to_vec(),
                    listener,
                    subscriber: None,
                    pod: POD.to_owned(),
                }),
                publish_timeout: Duration::from_secs(30),
                max_event: 1 << 20,
            };
            let cluster = self.channels.namespace().cluster();
            let knative = KnativeChannels::open(settings, cluster, Clock::system()).await?;
            Ok(Channels { sink: Arc::new(knative.clone()), source: Arc::new(knative) })
        })
    }
}

tests::channel_contract!(pushed: match Knative::new().await {
    Some(adapter) => adapter,
    None => return Ok(()),
});
