//! The shell over a channel and a registry in memory.

mod limits;
mod order;
mod outcomes;
mod replicas;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::commands::CommandHandler;
use super::*;
use crate::auth::{Login, Secret};
use crate::channel::{Channel, Cursor, Flow, Partition, Place, PublishError, Record, RecordHandler};
use crate::command::Command;
use crate::error::ErrorKind;
use crate::event::{Event, Malformed};
use crate::id::{ConnectionRef, DeviceKey};
use crate::ingest::{Telemetry, Ttd};
use crate::outcome::Transition;
use crate::records::{Connected, Given, Handover, OrderRecord};
use crate::testing::{self, MemoryChannel, StaticAuthenticator, device_service, eventually};
use crate::time::Timestamp;

struct Fixture {
    channel: MemoryChannel,
    registry: StaticAuthenticator,
    service: DeviceService,
    device: DeviceKey,
}

impl Fixture {
    async fn new(limits: Limits) -> Self {
        let (channel, registry) = (MemoryChannel::new(), StaticAuthenticator::new());
        let device = DeviceKey::from_bytes(b"default/d1").unwrap();
        registry.set(&device, "secret");
        let service = device_service(&channel, &registry, limits).await.unwrap();
        Self { channel, registry, service, device }
    }

    /// Makes a fixture whose wall clock shows what is returned.
    async fn with_wall_clock() -> (Self, Arc<AtomicI64>) {
        let wall = Arc::new(AtomicI64::new(Clock::system().wall().as_millis()));
        let shown = wall.clone();
        let clock = Clock::with_wall(move || Timestamp::from_millis(shown.load(Ordering::Relaxed)));
        let fixture = Self::new(Limits::default()).await;
        let (sink, registry) = (Arc::new(fixture.channel.clone()), Arc::new(fixture.registry.clone()));
        let service = DeviceService::start(sink, &fixture.channel, registry, Limits::default(), clock).await;
        (Self { service: service.unwrap(), ..fixture }, wall)
    }

    /// Makes another replica, which shares the channel and the registry.
    async fn replica(&self, limits: Limits) -> Self {
        let (channel, registry) = (self.channel.clone(), self.registry.clone());
        let service = device_service(&channel, &registry, limits).await.unwrap();
        Self { channel, registry, service, device: self.device.clone() }
    }

    async fn log_in(&self) -> Result<Session, ServiceError> {
        self.log_in_as(Protocol::Http, None).await
    }

    async fn log_in_as(&self, protocol: Protocol, client: Option<&str>) -> Result<Session, ServiceError> {
        let login = Login { device: self.device.clone(), secret: Secret::new("secret") };
        self.service.log_in(protocol, &login, client.map(Into::into)).await
    }

    fn command(&self, name: &str) -> Command {
        testing::command(&self.device, name.parse().unwrap(), b"on")
    }

    async fn connect(&self, session: &Session) -> Connection {
        session.connect(session.queue()).await.unwrap()
    }

    /// Returns the outcomes in the channel.
    fn outcomes(&self) -> Vec<Transition> {
        let events = self.channel.events(Channel::Outcomes);
        events.into_iter().map(|event| Transition::from_event(event).unwrap().unwrap()).collect()
    }

    /// Waits for so many outcomes, and returns the name, the state and what else is known of each.
    async fn told(&self, count: usize) -> Vec<String> {
        eventually("the outcomes are told", || self.outcomes().len() >= count).await;
        let told = self.outcomes().into_iter().map(|outcome| {
            let reason = outcome.reason.map(|reason| reason.to_string());
            let detail = reason.or(outcome.confirmation.map(|how| how.to_string()));
            format!("{} {} {}", outcome.name, outcome.state, detail.unwrap_or_default()).trim_end().to_owned()
        });
        told.collect()
    }

    /// Returns the records in the channel, heartbeats excepted.
    fn records(&self) -> Vec<OrderRecord> {
        let events = self.channel.events(Channel::Commands);
        let records = events.iter().filter_map(|event| OrderRecord::from_event(event).unwrap());
        records.filter(|record| !matches!(record, OrderRecord::Alive(_))).collect()
    }

    /// Returns the records in the channel, in short: `connected`, `released set-temp 1 no-ack`.
    fn record_names(&self) -> Vec<String> {
        let name = |record: OrderRecord| {
            let OrderRecord::Released(released) = record else {
                return record.kind().split('.').nth(3).unwrap().to_owned();
            };
            let (Given { name, attempt, .. }, reason) = (released.given, released.reason);
            let reason = reason.map(|reason| reason.to_string()).unwrap_or_default();
            format!("released {name} {attempt} {reason}").trim_end().to_owned()
        };
        self.records().into_iter().map(name).collect()
    }

    async fn recorded(&self, names: &[&str]) {
        let all = || self.record_names();
        let waited = eventually("the records are in the channel", || all().len() >= names.len());
        if tokio::time::timeout(testing::PATIENCE / 3, waited).await.is_err() {
            panic!("{:?} instead of {names:?}", all());
        }
        assert_eq!(all(), names);
    }

    /// Returns the records of connections that began.
    fn connected(&self) -> Vec<Connected> {
        let begun = |record| if let OrderRecord::Connected(begun) = record { Some(begun) } else { None };
        self.records().into_iter().filter_map(begun).collect()
    }

    fn last_connected(&self) -> Connected {
        self.connected().pop().unwrap()
    }

    /// Puts a record of the device into the channel, as a tracker or another replica would.
    fn put(&self, record: OrderRecord) {
        let now = Clock::system().wall();
        let event = record.into_event(new_event_id(now), self.device.clone(), now);
        self.channel.put(Channel::Commands, self.device.as_str().as_bytes(), Ok(event));
    }

    fn put_for_all(&self, record: OrderRecord) {
        let (now, all) = (Clock::system().wall(), DeviceKey::all());
        let event = record.into_event(new_event_id(now), all.clone(), now);
        self.channel.put(Channel::Commands, all.as_str().as_bytes(), Ok(event));
    }

    /// Gives commands that are kept to a connection, for the second time.
    fn hand_over(&self, id: ConnectionRef, names: &[&str]) {
        let given = |name: &&str| Given::of(&Command { kept: true, ..self.command(name) }, 2);
        let commands = names.iter().map(given).collect();
        self.put(OrderRecord::Handover(Handover { epoch: 1, id, commands }));
    }
}

fn telemetry() -> Telemetry {
    Telemetry {
        subject: "temperature".parse().unwrap(),
        content_type: None,
        traceparent: None,
        payload: Bytes::from_static(b"42"),
    }
}

fn ttd(seconds: &str) -> Ttd {
    Ttd::parse(seconds).unwrap().unwrap()
}

async fn received(connection: &Connection) -> (Delivery, String) {
    let mut delivery = connection.receive().await.unwrap();
    let name = delivery.begin().unwrap().name.as_str().to_owned();
    (delivery, name)
}

#[tokio::test]
async fn promise_2_an_application_that_answers_at_once_is_not_too_early() {
    let fixture = Fixture::new(Limits::default()).await;
    let answer = fixture.command("set-temp");
    fixture.channel.on_publish(move |channel, _, _| channel.send(answer.clone()));
    let session = fixture.log_in().await.unwrap();
    let delivery = session.exchange(telemetry(), ttd("30")).await.unwrap();
    assert_eq!(delivery.unwrap().begin().unwrap().name.as_str(), "set-temp");
}

#[tokio::test]
async fn a_command_waits_for_the_acknowledgement_of_the_telemetry() {
    let fixture = Fixture::new(Limits::default()).await;
    for answer in [Ok(()), Err(PublishError::Unavailable("down".into()))] {
        fixture.channel.hold();
        let session = fixture.log_in().await.unwrap();
        let exchange = tokio::spawn(async move { session.exchange(telemetry(), ttd("30")).await });
        let channel = fixture.channel.clone();
        eventually("the telemetry is published", || channel.held() == 1).await;
        fixture.channel.send(fixture.command("set-temp"));
        assert!(!exchange.is_finished());
        fixture.channel.release(answer.clone());
        let result = exchange.await.unwrap();
        match answer {
            Ok(()) => assert!(result.unwrap().unwrap().begin().is_some()),
            Err(_) => assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable),
        }
    }
}

struct KeyOnly(&'static [u8]);

impl Record for KeyOnly {
    fn channel(&self) -> Channel {
        Channel::Commands
    }

    fn key(&self) -> &[u8] {
        self.0
    }

    fn partition(&self) -> Partition {
        panic!("nothing but the key is asked for")
    }

    fn place(&self) -> Place {
        panic!("nothing but the key is asked for")
    }

    fn event(&self) -> Result<Event, Malformed> {
        panic!("a dropped command is not decoded")
    }

    fn cursor(&self) -> Cursor {
        panic!("nothing but the key is asked for")
    }
}

#[tokio::test]
async fn promise_3_a_drop_reads_the_key_and_nothing_more() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let _connection = fixture.connect(&session).await;
    let mut handler = CommandHandler::new(fixture.service.shared.clone());
    for key in [b"default/d2".as_slice(), b"other/d1", b"\xff", b""] {
        assert_eq!(handler.record(&KeyOnly(key)), Flow::Continue);
    }
}

#[tokio::test]
async fn a_malformed_command_is_skipped_and_the_next_one_delivered() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let connection = fixture.connect(&session).await;
    fixture.channel.put(Channel::Commands, b"default/d1", Err(Malformed::NoEvent));
    let mut nameless = fixture.command("x").into_event(Clock::system().wall(), None);
    nameless.subject = "not/a/name".into();
    fixture.channel.put(Channel::Commands, b"default/d1", Ok(nameless));
    fixture.channel.send(fixture.command("good"));
    assert_eq!(received(&connection).await.1, "good");
}

#[tokio::test]
async fn promise_5_a_command_is_never_late() {
    let (fixture, wall) = Fixture::with_wall_clock().await;
    let session = fixture.log_in().await.unwrap();
    let connection = fixture.connect(&session).await;
    let lapse = |command: &Command| wall.store(command.expires.as_millis(), Ordering::Relaxed);
    let wait = || connection.receive_until(fixture.service.clock().instant());

    // It lapses before it is offered, while it waits to be taken, and after it was taken.
    let (offered, queued, taken) =
        (fixture.command("offered"), fixture.command("queued"), fixture.command("taken"));
    wall.store(taken.expires.as_millis() - 1, Ordering::Relaxed);
    fixture.channel.send(taken.clone());
    let mut delivery = wait().await.unwrap();
    lapse(&taken);
    assert_eq!(delivery.begin(), None);
    wall.store(queued.expires.as_millis() - 1, Ordering::Relaxed);
    fixture.channel.send(queued.clone());
    lapse(&queued);
    assert!(wait().await.is_none());
    lapse(&offered);
    fixture.channel.send(offered);
    assert!(wait().await.is_none());
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "this test asks tokio's paused clock how long it waited")]
async fn a_jump_of_the_wall_clock_moves_no_wait() {
    let (fixture, wall) = Fixture::with_wall_clock().await;
    let session = fixture.log_in().await.unwrap();
    let begun = tokio::time::Instant::now();
    let exchange = session.exchange(telemetry(), ttd("30"));
    let jumps = async {
        for jump in [i64::MAX / 4, 0] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            wall.store(jump, Ordering::Relaxed);
        }
    };
    assert!(tokio::join!(exchange, jumps).0.unwrap().is_none());
    let waited = begun.elapsed();
    assert!((29..32).contains(&waited.as_secs()), "{waited:?}");
}
