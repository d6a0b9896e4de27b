//! The shell of the trackers over channels in memory and a real ledger; a device service plays the device.

mod charge;
mod following;

use std::sync::Arc;
use std::time::Duration;

use common::auth::{Login, Secret};
use common::channel::Channel;
use common::command::Command;
use common::connections::{Capacity, Terms};
use common::event::COMMAND_TYPE;
use common::id::{DeviceKey, EventId};
use common::ledger::{Ledger, Submission, Submitted};
use common::outcome::{Confirmation, Outcome, Transition};
use common::records::OrderRecord;
use common::registry::{Registry, RegistrySettings, sqlite_url};
use common::service::{Clock, Connection, Delivery, DeviceService, Limits, Protocol, Session, Shutdown};
use common::testing::{
    self, MemoryChannel, MemorySentCommands, PATIENCE, StaticAuthenticator, device_service, eventually,
};
use tokio::task::JoinHandle;

use super::{Tracker, TrackerError};
use crate::Config;

/// A channel, a ledger, and one replica that a device can connect to.
struct Cloud {
    channel: MemoryChannel,
    registry: Registry,
    service: DeviceService,
    device: DeviceKey,
    _dir: tempfile::TempDir,
}

/// A replica of the trackers.
struct Replica {
    tracker: Tracker,
    shutdown: Shutdown,
    running: JoinHandle<Result<(), TrackerError>>,
}

impl Replica {
    fn is_acting(&self) -> bool {
        self.tracker.shared.seats[0].is_acting()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.running).await.expect("it ends").unwrap().unwrap();
    }
}

impl Cloud {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = sqlite_url(&dir.path().join("registry.sqlite"));
        let registry = Registry::open(&url, RegistrySettings::default()).await.unwrap();
        let (channel, devices) = (MemoryChannel::new(), StaticAuthenticator::new());
        let device = DeviceKey::from_bytes(b"app/d").unwrap();
        devices.set(&device, "secret");
        let sent = MemorySentCommands::new();
        let service = device_service(&channel, &devices, &sent, Limits::default()).await.unwrap();
        Self { channel, registry, service, device, _dir: dir }
    }

    /// Starts a replica of the trackers that has read all there is.
    async fn tracker(&self) -> Replica {
        let settings = Config::default().tracker(&Limits::default(), None);
        let (sink, clock) = (Arc::new(self.channel.clone()), Clock::system());
        let started = Tracker::start(sink, &self.channel, &self.registry, settings, clock).await;
        let ((tracker, tracking), shutdown) = (started.unwrap(), Shutdown::new());
        let running = tokio::spawn(tracking.run(shutdown.clone()));
        eventually("it has caught up", || tracker.is_live()).await;
        Replica { tracker, shutdown, running }
    }

    /// Starts one, and waits until it acts.
    async fn acting(&self) -> Replica {
        let replica = self.tracker().await;
        eventually("it acts", || replica.is_acting()).await;
        replica
    }

    fn ledger(&self) -> Ledger {
        Ledger::of(&self.registry)
    }

    fn command(&self, name: &str) -> Command {
        testing::command(&self.device, name.parse().unwrap(), b"on")
    }

    /// Accepts a command that is kept, `ago`, as far as the ledger is concerned.
    async fn submit(&self, name: &str, ago: Duration) -> Command {
        let expires = Clock::system().wall().saturating_add(10 * PATIENCE);
        let command = Command { kept: true, expires, ..self.command(name) };
        let submission = Submission {
            command: command.clone(),
            accepted: Clock::system().wall().saturating_sub(ago),
            idempotency: None,
            supersede: None,
            max_pending: 50,
        };
        let submitted = self.ledger().submit(submission).await.unwrap();
        assert_eq!(submitted, Submitted::New { superseded: Vec::new() });
        command
    }

    /// Sends a command that is kept.
    async fn send(&self, name: &str) -> Command {
        let command = self.submit(name, Duration::ZERO).await;
        self.channel.send(command.clone());
        command
    }

    async fn log_in(&self) -> Session {
        let login = Login { device: self.device.clone(), secret: Secret::new("secret") };
        self.service.log_in(Protocol::Mqtt, &login, None).await.unwrap()
    }

    /// Connects the device, to take any number of commands.
    async fn connect(&self, session: &Session) -> Connection {
        session.connect(session.queue()).await.unwrap()
    }

    /// Connects the device, to take one command.
    async fn wait(&self, session: &Session) -> Connection {
        session.connect(Terms { capacity: Capacity::One, deadline: None }).await.unwrap()
    }

    /// Returns what is told of commands, as `name state`.
    fn told(&self) -> Vec<String> {
        let events = self.channel.events(Channel::Outcomes);
        let outcomes = events.into_iter().filter_map(|event| Transition::from_event(event).unwrap());
        outcomes.map(|outcome| format!("{} {}", outcome.name, outcome.state)).collect()
    }

    async fn until_told(&self, what: &str) {
        eventually(what, || self.told().iter().any(|told| told == what)).await;
    }

    /// Returns how often something is told.
    fn count(&self, what: &str) -> usize {
        self.told().iter().filter(|told| *told == what).count()
    }

    /// Returns the epochs of the records that hand commands over.
    fn handovers(&self) -> Vec<u64> {
        let events = self.channel.events(Channel::Commands);
        let records = events.iter().filter_map(|event| OrderRecord::from_event(event).unwrap());
        let epoch = |record| if let OrderRecord::Handover(given) = record { Some(given.epoch) } else { None };
        records.filter_map(epoch).collect()
    }

    /// Returns how often the channel has a command.
    fn copies(&self, id: &EventId) -> usize {
        let events = self.channel.events(Channel::Commands);
        events.iter().filter(|event| event.kind == COMMAND_TYPE && event.id == *id).count()
    }
}

/// Waits for a command and begins to write it.
async fn begun(connection: &Connection) -> (Delivery, String) {
    let received = tokio::time::timeout(PATIENCE, connection.receive()).await;
    let mut delivery = received.expect("a command comes").unwrap();
    let name = delivery.begin().unwrap().name.to_string();
    (delivery, name)
}

/// Waits for a command, and acknowledges it as the device would.
async fn deliver(connection: &Connection) -> String {
    let (delivery, name) = begun(connection).await;
    delivery.finish(Outcome::Delivered(Confirmation::Puback));
    name
}
