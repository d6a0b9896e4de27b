//! Topics that are missing, and topics that somebody else made.

use std::process::Command;

use common::channel::Channel;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tests::binary;
use tests::devices::{DeviceDriver, HttpDevice};
use tests::events::{EventStream, Query};
use tests::fleet::{Fleet, Kind, Shape};
use tests::kafka::{Topics, given};
use tests::wait::within;

fn admin(topics: &Topics) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", topics.servers()).create().unwrap()
}

async fn make(topics: &Topics, channel: Channel, settings: &[(&str, &str)]) {
    let name = topics.of(channel);
    let topic = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
    let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
    let made = admin(topics).create_topics([&topic], &AdminOptions::new()).await.unwrap();
    assert!(made[0].is_ok(), "{made:?}");
}

/// Starts an endpoint that is expected to end; returns its code and what it says.
async fn refusal(topics: &Topics, options: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary::endpoint("http-endpoint"));
    let directory = binary::run_directory().join(topics.prefix());
    command.arg(format!("--kafka-bootstrap-servers={}", topics.servers()));
    command.arg(format!("--kafka-topic-prefix={}", topics.prefix()));
    command.arg(format!("--database-url=sqlite://{}", directory.join("registry.sqlite").display()));
    command.args(["--listen=127.0.0.1:0", "--admin-listen=off"]).args(options);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = within("the endpoint ends", output).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn a_topic_with_compaction_is_named_and_refused() {
    let Some(servers) = given("compaction") else { return };
    let topics = Topics::new(servers);
    make(&topics, Channel::Commands, &[("cleanup.policy", "compact")]).await;
    let (code, told) = refusal(&topics, &[]).await;
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains(&topics.of(Channel::Commands)) && told.contains("cleanup.policy"), "{told}");
}

#[tokio::test]
async fn a_topic_with_fewer_replicas_in_sync_than_asked_is_named_and_refused() {
    let Some(servers) = given("replicas in sync") else { return };
    let topics = Topics::new(servers);
    make(&topics, Channel::Telemetry, &[("min.insync.replicas", "1")]).await;
    let (code, told) = refusal(&topics, &["--kafka-min-insync-replicas=2"]).await;
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains(&topics.of(Channel::Telemetry)) && told.contains("min.insync.replicas"), "{told}");
}

#[tokio::test]
async fn more_replicas_than_brokers_is_an_error_that_names_the_option() {
    let Some(servers) = given("replication factor") else { return };
    let topics = Topics::new(servers);
    let (code, told) = refusal(&topics, &["--kafka-replication-factor=9"]).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("--kafka-replication-factor"), "{told}");
}

#[tokio::test]
async fn brokers_that_do_not_answer_are_named() {
    if given("no broker").is_none() {
        return;
    }
    let topics = Topics::new("127.0.0.1:9");
    let (code, told) = refusal(&topics, &[]).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("127.0.0.1:9") && told.contains("--kafka-bootstrap-servers"), "{told}");
}

#[tokio::test]
async fn missing_topics_are_made_as_asked_and_then_left_alone() {
    let Some(servers) = given("topics") else { return };
    let topics = Topics::new(servers);
    let settings = topics.settings();
    let open = |partitions| {
        let mut settings = settings.clone();
        settings.topics.partitions = partitions;
        common::kafka::KafkaChannels::open(settings, common::service::Clock::system())
    };
    for (asked, expected) in [(5, 5), (7, 5)] {
        drop(open(asked).await.unwrap());
        for channel in Channel::ALL {
            assert_eq!(partitions(&topics, channel).await, expected, "{channel}");
        }
    }
}

async fn partitions(topics: &Topics, channel: Channel) -> usize {
    let (servers, topic) = (topics.servers().to_owned(), topics.of(channel));
    let ask = move || {
        let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
        let metadata = client.fetch_metadata(Some(&topic), tests::wait::PATIENCE).unwrap();
        metadata.topics()[0].partitions().len()
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

const ONE_HTTP: Shape = Shape { http: 1, mqtt: 0, command: 1 };

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_retention_has_passed_is_a_410_and_never_a_gap() {
    let Some(servers) = given("retention") else { return };
    let fleet = Fleet::start(Topics::new(servers), ONE_HTTP, &["--kafka-partitions=1"]).await;
    let tenant = fleet.cloud().tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    for subject in ["a", "b", "c"] {
        assert_eq!(HttpDevice.publish(tenant.gate(), &device, subject, b"x").await, Ok(()));
    }
    let events = stream.take(3).await;
    fleet.topics().delete_records(Channel::Telemetry, 2).await;
    let resume = |position: &str| {
        let query = Query::telemetry().after(position);
        let (api, app) = (tenant.api.clone(), tenant.app.clone());
        async move { EventStream::open(&api, &app, &query).await }
    };
    resume(&events[0].position).await.unwrap_err().expect_problem(410);
    let mut resumed = resume(&events[1].position).await.unwrap();
    assert_eq!(resumed.next().await.attribute("subject"), "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_partitions_make_replicas_unready_and_they_say_why() {
    let Some(servers) = given("partitions") else { return };
    let mut fleet = Fleet::start(Topics::new(servers), ONE_HTTP, &["--kafka-partitions=2"]).await;
    let topic = fleet.topics().of(Channel::Commands);
    let more = NewPartitions::new(&topic, 3);
    let grown = admin(fleet.topics()).create_partitions([&more], &AdminOptions::new()).await.unwrap();
    assert!(grown.iter().all(Result::is_ok), "{grown:?}");
    let part = &fleet.of(Kind::Http)[0];
    tests::wait::eventually("it is unready", || async { (!part.is_ready().await).then_some(()) }).await;
    let told = format!("the topic {topic} has 3 partitions and had 2");
    assert!(part.log().contains(&told), "{told}");
    fleet.of(Kind::Http)[0].restart().await;
}
