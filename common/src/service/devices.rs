//! What an endpoint holds: the way in for devices.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::commands::CommandHandler;
use super::error::ServiceError;
use super::heartbeat::Beating;
use super::meters;
use super::replies::Replies;
use super::reports::{Report, Reports};
use super::session::Session;
use super::shared::Shared;
use crate::auth::{AuthError, Authenticator, Login};
use crate::channel::{Channel, EventSink, EventSource, Partition, SourceError, Start, Subscription};
use crate::command::DEFAULT_LIFETIME;
use crate::id::EventId;
use crate::process::Clock;
use crate::replies::SentCommands;

/// Limits on what devices may use, the same on every protocol.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most bytes of a payload.
    pub max_payload: usize,
    /// The most connections of one device on this replica.
    pub max_device_connections: usize,
    /// The longest wait for a command.
    pub max_ttd: Duration,
    /// How long a login may take, the wait for its turn included.
    pub login_timeout: Duration,
    /// How long a device waits for the channel's acknowledgement.
    pub publish_timeout: Duration,
    /// How many commands wait for a device that takes them slowly.
    pub command_queue: usize,
    /// How long a command lives that says nothing about it.
    pub command_lifetime: Duration,
    /// How often this replica says that it lives.
    pub heartbeat_interval: Duration,
    /// After how long a silence a replica is taken for dead.
    pub lapse_after: Duration,
    /// How long after a command was delivered its device may reply.
    pub reply_window: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload: 256 * 1024,
            max_device_connections: 10,
            max_ttd: Duration::from_secs(60),
            login_timeout: Duration::from_secs(30),
            publish_timeout: Duration::from_secs(10),
            command_queue: 100,
            command_lifetime: DEFAULT_LIFETIME,
            heartbeat_interval: Duration::from_secs(1),
            lapse_after: Duration::from_secs(5),
            reply_window: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// The protocol by which a device came, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// MQTT 3.1.1 or 5.
    Mqtt,
}

impl Protocol {
    /// Returns the protocol's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Mqtt => "mqtt",
        }
    }
}

/// The devices of this replica. Clones share one state; the command subscription and the heartbeat end with the last of
/// them.
#[derive(Clone)]
pub struct DeviceService {
    pub(super) shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    beating: Arc<Beating>,
}

impl DeviceService {
    /// Starts the service; commands are live when this resolves. `sent` is asked about commands that a device replies to
    /// and that this replica does not remember.
    ///
    /// # Errors
    /// Fails if the commands channel cannot be subscribed to.
    pub async fn start(
        sink: Arc<dyn EventSink>,
        source: &dyn EventSource,
        authenticator: Arc<dyn Authenticator>,
        sent: Arc<dyn SentCommands>,
        limits: Limits,
        clock: Clock,
    ) -> Result<Self, SourceError> {
        let (reports, queue) = Reports::new();
        let replies = Replies::new(sent, limits.reply_window);
        let shared = Arc::new(Shared::new(sink, authenticator, replies, limits, clock, reports));
        queue.publish(&shared);
        let observed = Arc::downgrade(&shared);
        shared.authenticator.observe(Box::new(move |change| {
            if let Some(shared) = observed.upgrade() {
                shared.change(change);
            }
        }));
        let handler = CommandHandler::new(shared.clone());
        let subscription = source.subscribe(&[Channel::Commands], Start::Latest, Box::new(handler)).await?;
        let beating = Arc::new(Beating::start(&shared).await);
        Ok(Self { shared, subscription: Arc::new(subscription), beating })
    }

    /// Tells whether a command that is accepted now reaches the connections held here: records are read, and others know
    /// in every partition that this replica lives. After a long outage it first announces its connections anew.
    pub fn is_live(&self) -> bool {
        let mut partitions = (0..self.shared.sink.partitions()).map(Partition);
        self.subscription.is_live() && partitions.all(|partition| self.shared.is_heard(partition))
    }

    /// Returns what tells this start of the replica from all others, until it has missed records and starts over.
    pub fn incarnation(&self) -> EventId {
        self.shared.pulse.incarnation()
    }

    /// Returns the limits.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Returns the clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Logs a device in. With a client id, an older session of the same device and client id is taken over.
    ///
    /// # Errors
    /// Fails if the credentials are not known to be right, or the device has too many sessions.
    pub async fn log_in(
        &self,
        protocol: Protocol,
        login: &Login,
        client: Option<Arc<str>>,
    ) -> Result<Session, ServiceError> {
        let limit = self.shared.limits.login_timeout;
        let login = Session::log_in(&self.shared, protocol, login, client);
        let result = match tokio::time::timeout(limit, login).await {
            Ok(result) => result,
            Err(_) => Err(ServiceError::LoginTimedOut(limit)),
        };
        if let Err(error) = &result {
            meters::refused_login(protocol, error.kind());
        }
        result
    }

    /// Counts a login whose credentials have no usable form, and returns what to answer.
    pub fn refuse_login(&self, protocol: Protocol) -> ServiceError {
        let error = ServiceError::from(AuthError::Denied);
        meters::refused_login(protocol, error.kind());
        error
    }

    /// Ends all sessions and waits, as the replica shuts down.
    pub fn shut_down(&self) {
        self.shared.shut_down();
    }

    /// Says the last words of the replica, once its endpoints have ended: all that it has to report, and that it is gone,
    /// so that nobody waits for its lapse. Gives up after `limit`.
    pub async fn finish(&self, limit: Duration) {
        self.shut_down();
        let last_words = async {
            self.shared.reports.flush().await;
            self.beating.stop();
            self.shared.reports.send(Report::Lapse(self.shared.pulse.incarnation()));
            self.shared.reports.flush().await;
        };
        if tokio::time::timeout(limit, last_words).await.is_err() {
            tracing::warn!("the channel did not take the last reports in time, others wait for the lapse");
        }
    }
}

impl fmt::Debug for DeviceService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceService").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}
