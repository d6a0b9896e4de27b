//! An endpoint over doubles, on a free port.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use common::auth::Authenticator;
use common::channel::Channel;
use common::command::Command;
use common::event::Event;
use common::id::DeviceKey;
use common::net::Listeners;
use common::service::{Clock, DeviceService, Limits, Shutdown};
use common::testing::{
    MemoryChannel, MemorySentCommands, PATIENCE, StaticAuthenticator, command, eventually_blocking,
};
use mqtt_endpoint::{Config, Error};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::outcomes;

pub(crate) const PASSWORD: &str = "open sesame";

/// Held by every fixture, and exclusively by those that measure what the whole process uses.
static PROCESS: RwLock<()> = RwLock::new(());

enum Place {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// What an endpoint is started with.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    /// Another registry than the fixture's own.
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    /// TLS instead of plain connections.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether no other test may run an endpoint meanwhile.
    pub(crate) alone: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: Config::default(),
            limits: Limits::default(),
            clock: Clock::system(),
            authenticator: None,
            tls: None,
            alone: false,
        }
    }
}

/// A running endpoint that knows the devices `d1`, `d2` and `d1@other`.
pub(crate) struct Fixture {
    pub(crate) channel: MemoryChannel,
    pub(crate) authenticator: StaticAuthenticator,
    pub(crate) sent: MemorySentCommands,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    runtime: Runtime,
    running: Option<JoinHandle<Result<(), Error>>>,
    /// Given up last, when the server has ended.
    _place: Place,
}

impl Fixture {
    pub(crate) fn start() -> Self {
        Self::set_up(Setup::default())
    }

    pub(crate) fn with(config: Config, limits: Limits) -> Self {
        Self::set_up(Setup { config, limits, ..Setup::default() })
    }

    /// Starts an endpoint while no other test runs one.
    pub(crate) fn alone() -> Self {
        Self::set_up(Setup { alone: true, ..Setup::default() })
    }

    pub(crate) fn set_up(setup: Setup) -> Self {
        let place = match setup.alone {
            true => Place::Alone { _guard: PROCESS.write().unwrap_or_else(PoisonError::into_inner) },
            false => Place::Shared { _guard: PROCESS.read().unwrap_or_else(PoisonError::into_inner) },
        };
        outcomes::observe();
        let (channel, authenticator) = (MemoryChannel::new(), StaticAuthenticator::new());
        for device in ["default/d1", "default/d2", "other/d1"] {
            authenticator.set(&device_key(device), PASSWORD);
        }
        let known = setup.authenticator.unwrap_or_else(|| Arc::new(authenticator.clone()));
        let runtime = Runtime::new().unwrap();
        let sent = MemorySentCommands::new();
        let (sink, store) = (Arc::new(channel.clone()), Arc::new(sent.clone()));
        let started = DeviceService::start(sink, &channel, known, store, setup.limits, setup.clock);
        let service = runtime.block_on(started).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listeners = match setup.tls {
            Some(tls) => Listeners { plain: None, tls: Some((listener, tls)) },
            None => Listeners { plain: Some(listener), tls: None },
        };
        let shutdown = Shutdown::new();
        let config = Config { mqtt_workers: Some(1), ..setup.config };
        let running = runtime.spawn(mqtt_endpoint::run(config, listeners, service, shutdown.clone()));
        let running = Some(running);
        Self { channel, authenticator, sent, address, shutdown, runtime, running, _place: place }
    }

    /// Puts a command for a device into the channel and returns its id.
    pub(crate) fn send(&self, device: &str, name: &str, payload: &'static [u8]) -> String {
        self.send_command(command(&device_key(device), name.parse().unwrap(), payload))
    }

    pub(crate) fn send_command(&self, command: Command) -> String {
        let id = command.id.as_str().to_owned();
        self.channel.send(command);
        id
    }

    /// Returns the telemetry in the channel.
    pub(crate) fn telemetry(&self) -> Vec<Event> {
        self.channel.events(Channel::Telemetry)
    }

    /// Returns what became of commands, as the channel has it.
    pub(crate) fn replies(&self) -> Vec<Event> {
        let mut outcomes = self.channel.events(Channel::Outcomes);
        outcomes.retain(|event| event.kind == "io.drogue.command.replied.v1");
        outcomes
    }

    /// Waits until so many events of telemetry are in the channel, and returns them.
    pub(crate) fn wait_for_telemetry(&self, count: usize) -> Vec<Event> {
        eventually_blocking("telemetry arrives", || self.telemetry().len() >= count);
        self.telemetry()
    }

    /// Waits until the log says that so many connections are live.
    pub(crate) fn wait_for_connections(&self, live: usize) {
        let count = |kind: &str| {
            let events = self.channel.events(Channel::Commands);
            events.iter().filter(|event| event.kind.contains(kind)).count()
        };
        eventually_blocking("the log knows who is connected", || {
            count(".connected.") == count(".disconnected.") + live
        });
    }

    /// Begins the shutdown and waits for its end.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        self.shutdown.cancel();
        let running = self.running.take().unwrap();
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap() })
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if self.running.is_some() {
            let stopped = self.stop();
            assert!(std::thread::panicking() || stopped.is_ok(), "{stopped:?}");
        }
    }
}

pub(crate) fn device_key(text: &str) -> DeviceKey {
    DeviceKey::from_bytes(text.as_bytes()).unwrap()
}
