//! The promises of the design, each by its number. Where a promise is a rule of the core, its orders of events are
//! tested there (`common::connections`, `common::service`); here is what a user sees of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::BoxFuture;
use common::channel::{
    Channel, Cursor, EventSource, Flow, Partition, Place, PublishError, Record, RecordHandler, SourceError,
    Start, Subscription,
};
use common::event::{Event, Malformed};
use common::service::{Clock, DeviceService, Limits};
use common::testing::{self, MemoryChannel, MemorySentCommands, StaticAuthenticator};
use tests::api::http_client;
use tests::devices::{DeviceDriver, HttpDevice, MqttDevice, Refused};
use tests::events::Query;
use tests::faults::{Endpoints, key};
use tests::for_each_scenario;
use tests::mqtt::wire::{self, Connect};
use tests::mqtt::{Client, Version};
use tests::scenarios::{self, commands_that_answer_telemetry};
use tests::secrets::{self, MARK, payload};
use tests::server::{Server, all_logs, shared};
use tests::wait::eventually;
use tests::waiting::{LONG, Waiting};

use crate::faults_commands::{a_device_that_does_not_read, race_the_end_of_ttd};

#[tokio::test(flavor = "multi_thread")]
async fn promise_1_accepted_means_persisted() {
    promise_1(HttpDevice).await;
    promise_1(MqttDevice::<false>).await;
    promise_1(MqttDevice::<true>).await;
}

/// The answer says what the channel says, and not before it says so.
async fn promise_1<D: DeviceDriver>(driver: D) {
    let endpoints = Endpoints::start().await;
    let device = endpoints.device();
    let down = PublishError::Unavailable("it is down".to_owned());
    for answer in [Ok(()), Err(down)] {
        endpoints.channel.hold();
        let (gate, publisher) = (endpoints.gate(), device.clone());
        let publish = tokio::spawn(async move { driver.publish(gate, &publisher, "a", b"x").await });
        eventually("the event is in the channel", || async { (endpoints.channel.held() == 1).then_some(()) })
            .await;
        // Time in which a hasty answer would come: others are refused meanwhile.
        for _ in 0..10 {
            let stranger = device.with_secret("wrong");
            assert_eq!(driver.publish(endpoints.gate(), &stranger, "a", b"x").await, Err(Refused::Login));
        }
        assert!(!publish.is_finished(), "{}: accepted before the channel acknowledged", D::NAME);
        endpoints.channel.release(answer.clone());
        assert_eq!(publish.await.unwrap().is_ok(), answer.is_ok(), "{}", D::NAME);
    }
}

/// How often an application answers at once.
const TIMES: usize = 1_000;

#[tokio::test]
async fn promise_2_wait_first_publish_second_over_http() {
    commands_that_answer_telemetry(HttpDevice, shared().cloud(), TIMES).await;
}

#[tokio::test]
async fn promise_2_wait_first_publish_second_over_mqtt() {
    commands_that_answer_telemetry(MqttDevice::<false>, shared().cloud(), TIMES / 2).await;
    commands_that_answer_telemetry(MqttDevice::<true>, shared().cloud(), TIMES / 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_3_every_replica_sees_every_command() {
    let (channel, registry) = (MemoryChannel::new(), StaticAuthenticator::new());
    let first = Endpoints::over(channel.clone(), registry.clone(), Limits::default(), Clock::system()).await;
    let second = Endpoints::over(channel.clone(), registry, Limits::default(), Clock::system()).await;
    for (here, elsewhere) in [(&first, &second), (&second, &first)] {
        let device = here.device();
        let mut client = Client::connect(here.gate().mqtt, Version::V5, &device).await.unwrap();
        client.subscribe(&[("cmd", 1)]).await.unwrap();
        // A device of the other replica, so that both have connections to look up.
        let other = elsewhere.device();
        let mut other = Client::connect(elsewhere.gate().mqtt, Version::V5, &other).await.unwrap();
        other.subscribe(&[("cmd", 1)]).await.unwrap();
        channel.send(testing::command(&key(&device), "mine".parse().unwrap(), b"1"));
        assert!(client.message().await.is_some());
        other.ping().await;
        assert_eq!(other.waiting_messages(), 0);
    }
}

/// Keeps what subscribes to it, so that a test can hand it records.
#[derive(Default)]
struct Captured(Mutex<Option<Box<dyn RecordHandler>>>);

impl EventSource for Captured {
    fn subscribe(
        &self,
        _: &[Channel],
        _: Start,
        handler: Box<dyn RecordHandler>,
    ) -> BoxFuture<'_, Result<Subscription, SourceError>> {
        *self.0.lock().unwrap() = Some(handler);
        Box::pin(async { Ok(Subscription::new(Arc::new(true.into()), ())) })
    }
}

/// A record of which nothing but the key may be touched.
struct KeyOnly;

impl Record for KeyOnly {
    fn channel(&self) -> Channel {
        panic!("nothing but the key is touched")
    }

    fn key(&self) -> &[u8] {
        b"default/elsewhere"
    }

    fn partition(&self) -> Partition {
        panic!("nothing but the key is touched")
    }

    fn place(&self) -> Place {
        panic!("nothing but the key is touched")
    }

    fn event(&self) -> Result<Event, Malformed> {
        panic!("nothing but the key is decoded")
    }

    fn cursor(&self) -> Cursor {
        panic!("nothing but the key is touched")
    }
}

#[tokio::test]
async fn promise_3_a_drop_costs_one_look_at_the_key() {
    let source = Captured::default();
    let (sink, registry) = (Arc::new(MemoryChannel::new()), Arc::new(StaticAuthenticator::new()));
    let sent = Arc::new(MemorySentCommands::new());
    let service =
        DeviceService::start(sink, &source, registry, sent, Limits::default(), Clock::system()).await;
    let mut handler = source.0.lock().unwrap().take().unwrap();
    assert_eq!(handler.record(&KeyOnly), Flow::Continue);
    assert!(service.unwrap().is_live());
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_4_ready_only_while_the_command_subscription_is_live() {
    let endpoints = Endpoints::start().await;
    assert!(endpoints.service.is_live());
    endpoints.channel.interrupt(&SourceError::Unavailable("an outage".to_owned()));
    assert!(!endpoints.service.is_live());
    endpoints.channel.resume();
    assert!(endpoints.service.is_live());
    // What is ready is reached: the server's own word for it.
    assert_eq!(shared().cloud().admin("readyz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_5_never_late() {
    let endpoints = Endpoints::start().await;
    let device = endpoints.device();
    let mut client = Client::connect(endpoints.gate().mqtt, Version::V5, &device).await.unwrap();
    client.subscribe(&[("cmd", 1)]).await.unwrap();
    let now = Clock::system().wall();
    for (name, expires) in [("at", now), ("before", now.saturating_add(Duration::from_secs(60)))] {
        let command = testing::command(&key(&device), name.parse().unwrap(), b"1");
        endpoints.channel.send(common::command::Command { expires, ..command });
    }
    let message = client.message().await.unwrap();
    assert_eq!(message.properties.user("command"), Some("before"));
}

#[tokio::test]
async fn promise_5_every_command_has_an_expiry() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let query = Query { channels: vec!["commands"], ..Query::default() };
    let mut commands = tenant.events(&query).await;
    tenant.command(&device, "plain", &payload()).await;
    tenant.command_with_ttl(&device, "with-ttl", "10m").await;
    for seconds in [30, 600] {
        let command = commands.next().await;
        let time = |attribute| command.attribute(attribute).parse::<common::time::Timestamp>().unwrap();
        assert_eq!(time("expirytime"), time("time").saturating_add(Duration::from_secs(seconds)));
    }
}

#[tokio::test]
async fn promise_6_one_command_one_connection() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let mut clients = Vec::new();
    for number in 0..5 {
        let connect = Connect { client_id: format!("c{number}"), ..Connect::of(Version::V5, &device) };
        let mut client = Client::connect_with(tenant.gate().mqtt, &connect).await.unwrap();
        client.subscribe(&[("cmd", 1)]).await.unwrap();
        clients.push(client);
    }
    // The newest gets each command; when it goes, the next newest does.
    while let Some(mut newest) = clients.pop() {
        for _ in 0..3 {
            tenant.command(&device, "one", &payload()).await;
            assert!(newest.message().await.is_some());
        }
        for client in &mut clients {
            client.ping().await;
            assert_eq!(client.waiting_messages(), 0, "a command reached two connections");
        }
        newest.unsubscribe("cmd").await;
    }
}

#[tokio::test]
async fn promise_7_a_race_has_one_winner_under_load() {
    let races = (0..8).map(|_| race_the_end_of_ttd(shared(), 25));
    futures_util::future::join_all(races).await;
}

#[tokio::test]
async fn promise_8_one_slow_device_slows_only_itself() {
    a_device_that_does_not_read(&Server::start(&["--command-queue=20"]).await).await;
}

#[tokio::test]
async fn promise_9_a_device_is_who_it_authenticated_as() {
    let tenant = shared().cloud().tenant().await;
    let (device, victim) = (tenant.device().await, tenant.device().await);
    let mut stream = tenant.telemetry().await;
    let url = format!("http://{}/v1/{}/{}", tenant.gate().http, tenant.app, victim.name);
    let request = http_client().post(url).basic_auth(device.user(), Some(&device.secret));
    let request = request.header("ce-device", &victim.name).header("x-device", &victim.name);
    assert_eq!(request.send().await.unwrap().status(), 202);
    for version in [Version::V311, Version::V5] {
        let connect = Connect { client_id: victim.name.clone(), ..Connect::of(version, &device) };
        let mut client = Client::connect_with(tenant.gate().mqtt, &connect).await.unwrap();
        let pair = [wire::text(b"device"), wire::text(victim.name.as_bytes())].concat();
        let properties = [&[0x26][..], &pair].concat();
        let topic = format!("{}/{}", tenant.app, victim.name);
        client.send(&wire::publish_with(version, topic.as_bytes(), 1, 9, &properties, b"x")).await;
        client.acknowledged(9).await.unwrap();
    }
    for event in stream.take(3).await {
        assert_eq!(event.attribute("device"), device.name);
        assert_eq!(event.attribute("partitionkey"), format!("{}/{}", tenant.app, device.name));
    }
    // Nor does it get the other's commands.
    let waiting = Waiting::begin(HttpDevice, &tenant, &device, LONG).await;
    tenant.command(&victim, "theirs", &payload()).await;
    tenant.command(&device, "mine", &payload()).await;
    assert_eq!(waiting.end().await.map(|command| command.name), Some("mine".into()));
}

macro_rules! all_scenarios {
    ($($scenario:ident),* $(,)?) => {
        /// Runs every scenario once with a driver.
        async fn run_all_scenarios<D: DeviceDriver>(driver: D, server: &Server) {
            $(scenarios::$scenario(driver, server.cloud()).await;)*
        }
    };
}
for_each_scenario!(all_scenarios);

#[tokio::test]
async fn promise_10_nothing_secret_is_logged() {
    let server = Server::start(&["--log=trace"]).await;
    tokio::join!(
        run_all_scenarios(HttpDevice, &server),
        run_all_scenarios(MqttDevice::<false>, &server),
        run_all_scenarios(MqttDevice::<true>, &server),
    );
    let log = server.log();
    assert!(log.contains("TRACE"), "the log is at its most talkative");
    // What this and all other tests of this process have caused so far.
    let told = all_logs();
    assert_eq!(secrets::told_in(&told), Vec::<&str>::new());
    for token in ["admin-token", "default-token"] {
        let token = std::fs::read_to_string(server.data_directory().join(token)).unwrap();
        assert!(!log.contains(token.trim()));
    }
    assert!(!log.contains("foobar"));
    assert!(!secrets::told_in(&format!("a line with {MARK}")).is_empty(), "the search finds what is there");
}
