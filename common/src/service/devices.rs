//! What an endpoint holds: the way in for devices.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use super::commands::CommandHandler;
use super::error::ServiceError;
use super::meters::{self, Meters};
use super::replies::Replies;
use super::session::Session;
use super::shards::Shards;
use crate::auth::{AuthError, Authenticator, Change, Login};
use crate::channel::{Channel, EventSink, EventSource, SourceError, Start, Subscription};
use crate::command::DEFAULT_LIFETIME;
use crate::connections::{ConnectionTable, Effect};
use crate::id::EventId;
use crate::process::{Clock, new_event_id};
use crate::replies::SentCommands;
use crate::sessions::SessionTable;

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

/// The devices of this replica. Clones share one state; the command subscription ends with the last of them.
#[derive(Clone)]
pub struct DeviceService {
    pub(super) shared: Arc<Shared>,
    subscription: Arc<Subscription>,
}

/// What all sessions and connections of this replica share.
pub(super) struct Shared {
    pub(super) sink: Arc<dyn EventSink>,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    /// Tells this start of this replica from all others.
    pub(super) incarnation: EventId,
    pub(super) meters: Meters,
    pub(super) sessions: Shards<SessionTable>,
    pub(super) connections: Shards<ConnectionTable>,
    pub(super) replies: Replies,
    counter: AtomicU64,
}

impl Shared {
    /// Returns a number that is higher than all before.
    pub(super) fn next(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    fn change(&self, change: &Change) {
        match change {
            Change::Device(device) => {
                let wakers = self.sessions.of(device.as_str().as_bytes()).change(change);
                wakers.into_iter().for_each(Waker::wake);
            }
            Change::Application(_) => self.change_sessions(|table| table.change(change)),
        }
    }

    /// Changes the sessions of all devices, and wakes whom that concerns with no lock held.
    pub(super) fn change_sessions(&self, change: impl Fn(&mut SessionTable) -> Vec<Waker>) {
        for mut table in self.sessions.each() {
            let wakers = change(&mut table);
            drop(table);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Does what a change of the connection table asks for. Called with no lock held.
    pub(super) fn carry_out(&self, effects: impl IntoIterator<Item = Effect>) {
        for effect in effects {
            match effect {
                Effect::Assigned(_, Some(waker)) => waker.wake(),
                Effect::Assigned(_, None) => {}
                Effect::Ended(command, outcome) => meters::outcome(&command, outcome),
            }
        }
    }
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
        let shared = Arc::new(Shared {
            sink,
            authenticator,
            replies: Replies::new(sent, limits.reply_window),
            limits,
            incarnation: new_event_id(clock.wall()),
            clock,
            meters: Meters::new(),
            sessions: Shards::default(),
            connections: Shards::default(),
            counter: AtomicU64::new(1),
        });
        let observed = Arc::downgrade(&shared);
        shared.authenticator.observe(Box::new(move |change| {
            if let Some(shared) = observed.upgrade() {
                shared.change(change);
            }
        }));
        let handler = CommandHandler::new(shared.clone());
        let subscription = source.subscribe(&[Channel::Commands], Start::Latest, Box::new(handler)).await?;
        Ok(Self { shared, subscription: Arc::new(subscription) })
    }

    /// Tells whether a command that is accepted now reaches the connections held here.
    pub fn is_live(&self) -> bool {
        self.subscription.is_live()
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
        self.shared.change_sessions(SessionTable::shut_down);
    }
}

impl fmt::Debug for DeviceService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceService").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}
