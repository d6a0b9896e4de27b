//! The shell over a channel and a registry in memory.

mod replies;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::commands::CommandHandler;
use super::*;
use crate::auth::{AuthError, Login, Secret};
use crate::channel::{Channel, Cursor, Flow, Partition, Place, PublishError, Record, RecordHandler};
use crate::command::Command;
use crate::connections::{Capacity, Terms};
use crate::error::ErrorKind;
use crate::event::{Event, Malformed};
use crate::id::DeviceKey;
use crate::ingest::{Telemetry, Ttd};
use crate::sessions::End;
use crate::testing::{
    self, MemoryChannel, MemorySentCommands, StaticAuthenticator, device_service, eventually,
};
use crate::time::Timestamp;

struct Fixture {
    channel: MemoryChannel,
    registry: StaticAuthenticator,
    sent: MemorySentCommands,
    service: DeviceService,
    device: DeviceKey,
}

impl Fixture {
    async fn new(limits: Limits) -> Self {
        let (channel, registry) = (MemoryChannel::new(), StaticAuthenticator::new());
        let device = DeviceKey::from_bytes(b"default/d1").unwrap();
        registry.set(&device, "secret");
        let sent = MemorySentCommands::new();
        let service = device_service(&channel, &registry, &sent, limits).await.unwrap();
        Self { channel, registry, sent, service, device }
    }

    /// Makes a fixture whose wall clock shows what is returned.
    async fn with_wall_clock() -> (Self, Arc<AtomicI64>) {
        let wall = Arc::new(AtomicI64::new(Clock::system().wall().as_millis()));
        let shown = wall.clone();
        let clock = Clock::with_wall(move || Timestamp::from_millis(shown.load(Ordering::Relaxed)));
        let fixture = Self::new(Limits::default()).await;
        let (sink, registry) = (Arc::new(fixture.channel.clone()), Arc::new(fixture.registry.clone()));
        let (source, sent, limits) = (&fixture.channel, Arc::new(fixture.sent.clone()), Limits::default());
        let service = DeviceService::start(sink, source, registry, sent, limits, clock).await;
        (Self { service: service.unwrap(), ..fixture }, wall)
    }

    async fn log_in(&self) -> Result<Session, ServiceError> {
        let login = Login { device: self.device.clone(), secret: Secret::new("secret") };
        self.service.log_in(Protocol::Http, &login, None).await
    }

    fn command(&self, name: &str) -> Command {
        testing::command(&self.device, name.parse().unwrap(), b"on")
    }

    async fn connect(&self, session: &Session) -> Connection {
        session.connect(session.queue()).await.unwrap()
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

#[tokio::test]
async fn a_command_that_a_failed_wait_held_goes_to_the_next_newest() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let older = fixture.connect(&session).await;
    let answer = fixture.command("set-temp");
    fixture.channel.on_publish(move |channel, _, _| channel.send(answer.clone()));
    fixture.channel.hold();
    let exchange = session.exchange(telemetry(), ttd("30"));
    let release = async {
        eventually("the telemetry is published", || fixture.channel.held() == 1).await;
        fixture.channel.release(Err(PublishError::Unavailable("down".into())));
    };
    assert!(tokio::join!(exchange, release).0.is_err());
    assert_eq!(received(&older).await.1, "set-temp");
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

#[tokio::test]
async fn a_delivery_that_wrote_nothing_goes_to_the_next_newest() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let older = fixture.connect(&session).await;
    let newer = fixture.connect(&session).await;
    for name in ["one", "two"] {
        fixture.channel.send(fixture.command(name));
    }
    let unwritten = newer.receive().await.unwrap();
    drop(newer);
    drop(unwritten);
    assert_eq!(received(&older).await.1, "one");
    assert_eq!(received(&older).await.1, "two");
}

#[tokio::test]
async fn a_delivery_that_was_begun_is_not_delivered_again() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let connection = fixture.connect(&session).await;
    fixture.channel.send(fixture.command("one"));
    fixture.channel.send(fixture.command("two"));
    drop(received(&connection).await);
    assert_eq!(received(&connection).await.1, "two");
}

#[tokio::test]
async fn promise_8_a_full_queue_takes_no_more_and_holds_up_nobody() {
    let limits = Limits { command_queue: 2, ..Limits::default() };
    let fixture = Fixture::new(limits).await;
    let session = fixture.log_in().await.unwrap();
    let slow = fixture.connect(&session).await;
    for name in ["one", "two", "three"] {
        fixture.channel.send(fixture.command(name));
    }
    assert_eq!(received(&slow).await.1, "one");
    fixture.channel.send(fixture.command("four"));
    assert_eq!(received(&slow).await.1, "two");
    assert_eq!(received(&slow).await.1, "four");
}

#[tokio::test]
async fn a_session_ends_when_its_device_changes() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let waiting = session.exchange(telemetry(), ttd("30"));
    let change = async { fixture.registry.set(&fixture.device, "another") };
    assert!(tokio::join!(waiting, change).0.unwrap().is_none());
    assert_eq!(session.ended().await, End::Revoked);
    let refused = fixture.log_in().await.unwrap_err();
    assert_eq!(refused, AuthError::Denied.into());
}

#[tokio::test]
async fn a_shutdown_ends_waits_with_their_normal_answer() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let waiting = session.exchange(telemetry(), ttd("30"));
    let shutdown = async { fixture.service.shut_down() };
    assert!(tokio::join!(waiting, shutdown).0.unwrap().is_none());
    assert_eq!(session.ended().await, End::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_silent_is_an_error_in_time() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    fixture.channel.hold();
    let error = session.publish(telemetry(), None).await.unwrap_err();
    assert_eq!(error, PublishError::TimedOut(Duration::from_secs(10)).into());
}

#[tokio::test]
async fn a_device_has_so_many_connections_at_most() {
    let fixture = Fixture::new(Limits { max_device_connections: 1, ..Limits::default() }).await;
    let session = fixture.log_in().await.unwrap();
    let first = fixture.connect(&session).await;
    let terms = Terms { capacity: Capacity::One, deadline: None };
    assert_eq!(session.connect(terms).await.unwrap_err(), ServiceError::TooManyConnections(1));
    drop(first);
    assert!(session.connect(terms).await.is_ok());
}

#[tokio::test]
async fn promise_4_readiness_follows_the_command_subscription() {
    let fixture = Fixture::new(Limits::default()).await;
    assert!(fixture.service.is_live());
    fixture.channel.interrupt(&crate::channel::SourceError::Unavailable("down".into()));
    assert!(!fixture.service.is_live());
    fixture.channel.resume();
    assert!(fixture.service.is_live());
}

#[tokio::test]
async fn each_message_is_counted_once_by_what_became_of_it() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let counts = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let limits = Limits { max_payload: 10, max_device_connections: 1, ..Limits::default() };
    let fixture = Fixture::new(limits).await;
    let session = fixture.log_in().await.unwrap();

    session.publish(telemetry(), None).await.unwrap();
    fixture.channel.fail_next(PublishError::Overloaded);
    session.publish(telemetry(), None).await.unwrap_err();
    let long = Telemetry { payload: Bytes::from_static(b"12345678901"), ..telemetry() };
    session.publish(long, None).await.unwrap_err();
    // The device leaves; then one is tried twice, and counted by its endpoint.
    drop(session.publish(telemetry(), None));
    fixture.channel.fail_next(PublishError::Overloaded);
    session.offer(telemetry(), None).await.unwrap_err();
    let result = session.offer(telemetry(), None).await;
    let outcome = result.map_err(|error| error.kind()).into();
    session.count(MessageKind::Telemetry, outcome);

    // One that may not wait is not published.
    let _only = fixture.connect(&session).await;
    session.exchange(telemetry(), ttd("1")).await.unwrap_err();

    let counts = counts.render();
    for (result, expected) in [("accepted", 2), ("overloaded", 2), ("too-large", 1), ("abandoned", 1)] {
        let line = format!("drogue_telemetry_total{{protocol=\"http\",result=\"{result}\"}} {expected}\n");
        assert!(counts.contains(&line), "{line}{counts}");
    }
}
