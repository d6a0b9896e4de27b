//! What is there as long as the channels push to this replica.

use std::net::TcpListener;
use std::sync::Arc;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use ring::rand::{SecureRandom, SystemRandom};
use tokio_util::sync::DropGuard;
use url::Url;

use super::echoes::Echoes;
use super::error::KnativeError;
use super::hub::Hub;
use super::probe::Prober;
use super::receiver::Receiver;
use super::resource::ChannelResource;
use super::sink::Sink;
use super::subscriptions::{OwnPod, Subscriptions};
use crate::auth::Secret;
use crate::channel::{Channel, RecordHandler, SourceError, Subscription};
use crate::kubernetes::Cluster;
use crate::process::{Clock, Shutdown};

/// How the channels push to this replica.
#[derive(Debug)]
pub struct Push {
    /// The channels to subscribe to: commands, and perhaps more.
    pub channels: Vec<Channel>,
    /// Where they are taken.
    pub listener: TcpListener,
    /// Where that is for the channels; by default the Pod's address and the listener's port.
    pub subscriber: Option<Url>,
    /// The name of the Pod that this replica runs in.
    pub pod: String,
}

/// What is there as long as the channels push to this replica.
pub(super) struct Pushing {
    hub: Arc<Hub>,
    subscriptions: Arc<Subscriptions>,
    _running: DropGuard,
}

impl Push {
    /// Takes what the channels push, and subscribes to them; commands arrive when this resolves.
    ///
    /// # Errors
    /// Fails if the Pod or the Subscriptions cannot be had, or what is published does not arrive. No Subscription is left
    /// behind then.
    pub(super) async fn start(
        self,
        resources: &[ChannelResource],
        sink: &Arc<Sink>,
        echoes: Arc<Echoes>,
        max_event: usize,
        cluster: &Cluster,
        clock: Clock,
    ) -> Result<Pushing, KnativeError> {
        let Self { channels, listener, subscriber, pod } = self;
        let pod = OwnPod::find(cluster, &pod).await?;
        let port = listener.local_addr().map_or(0, |address| address.port());
        let subscriber = match subscriber {
            Some(url) => url,
            None => own_address(&pod.ip, port)?,
        };
        let token = token()?;
        let wanted = resources.iter().filter(|resource| channels.contains(&resource.channel)).cloned();
        let subscriptions = Subscriptions::new(cluster, pod, wanted.collect(), subscriber, token.clone());
        let (hub, subscriptions) = (Arc::new(Hub::new()), Arc::new(subscriptions));
        let shutdown = Shutdown::new();
        let running = shutdown.clone().drop_guard();
        let receiver = Receiver { hub: hub.clone(), echoes, token, max_event, clock: clock.clone() };
        let ended = shutdown.clone();
        tokio::spawn(async move {
            if let Err(error) = receiver.run(listener, ended).await {
                tracing::error!(%error, "the channels can no longer push to this replica");
            }
        });
        let (sink, told) = (sink.clone(), hub.clone());
        let prober = Prober { sink, hub: told, subscriptions: subscriptions.clone(), clock };
        let begun = async {
            subscriptions.ensure().await?;
            prober.first().await
        };
        if let Err(error) = begun.await {
            subscriptions.remove().await;
            return Err(error);
        }
        tokio::spawn(prober.run(shutdown));
        Ok(Pushing { hub, subscriptions, _running: running })
    }
}

impl Pushing {
    /// Tells whether events arrive.
    pub(super) fn is_live(&self) -> bool {
        self.hub.is_live()
    }

    /// See [`EventSource::subscribe`](crate::channel::EventSource::subscribe).
    pub(super) fn subscribe(
        &self,
        channels: Vec<Channel>,
        handler: Box<dyn RecordHandler>,
    ) -> Result<Subscription, SourceError> {
        self.hub.subscribe(channels, handler)
    }

    /// Leaves no Subscription behind.
    pub(super) async fn end(&self) {
        self.subscriptions.remove().await;
    }
}

/// Returns where a Pod is posted to.
pub(super) fn own_address(ip: &str, port: u16) -> Result<Url, KnativeError> {
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    Url::parse(&format!("http://{host}:{port}"))
        .map_err(|error| KnativeError::Client(format!("the Pod's address {ip} is none: {error}")))
}

/// Makes the secret by which the receiver knows this replica's own Subscriptions: 256 bits.
pub(super) fn token() -> Result<Secret, KnativeError> {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| KnativeError::Client("the system gives no random numbers".to_owned()))?;
    Ok(Secret::new(BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}
