//! Error codes that no healthy broker gives, from librdkafka's mock cluster. The rest is the contract suite's, and that
//! of the system tests on a real Kafka.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Code};

use super::*;
use crate::channel::{Flow, Record};
use crate::event::example;
use crate::testing::{PATIENCE, eventually};

type Mock = MockCluster<'static, DefaultProducerContext>;

/// A mock cluster with all topics.
fn cluster() -> Mock {
    let mock = MockCluster::new(1).unwrap();
    for channel in Channel::ALL {
        mock.create_topic(&format!("drogue.{channel}"), 2, 1).unwrap();
    }
    mock
}

async fn open(mock: &Mock) -> KafkaChannels {
    let settings = KafkaSettings {
        publish_timeout: Duration::from_secs(3),
        ..KafkaSettings::new(mock.bootstrap_servers())
    };
    KafkaChannels::open(settings, Clock::system()).await.unwrap()
}

fn event(subject: &str) -> Event {
    Event { subject: subject.to_owned(), ..example() }
}

async fn publish(kafka: &KafkaChannels, subject: &str) -> Result<(), PublishError> {
    kafka.publish(Channel::Commands, event(subject)).await
}

#[derive(Debug, PartialEq)]
enum Told {
    Record(String),
    Interrupted(SourceError),
}

struct Teller(SyncSender<Told>);

impl RecordHandler for Teller {
    fn record(&mut self, record: &dyn Record) -> Flow {
        let subject = record.event().map_or_else(|error| error.to_string(), |event| event.subject);
        self.0.send(Told::Record(subject)).map_or(Flow::Stop, |()| Flow::Continue)
    }

    fn interrupted(&mut self, error: &SourceError) -> Flow {
        self.0.send(Told::Interrupted(error.clone())).map_or(Flow::Stop, |()| Flow::Continue)
    }
}

async fn follow(kafka: &KafkaChannels) -> (Subscription, Receiver<Told>) {
    let (sender, told) = sync_channel(1_000);
    let subscription = kafka.subscribe(&[Channel::Commands], Start::Latest, Box::new(Teller(sender))).await;
    (subscription.unwrap(), told)
}

fn next(told: &Receiver<Told>) -> Told {
    told.recv_timeout(PATIENCE).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_may_pass_is_no_answer() {
    let mock = cluster();
    let kafka = open(&mock).await;
    let (_subscription, told) = follow(&kafka).await;
    for (number, code) in [
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ]
    .into_iter()
    .enumerate()
    {
        mock.request_errors(RDKafkaApiKey::Produce, &[code, code]);
        let subject = format!("n{number}");
        assert_eq!(publish(&kafka, &subject).await, Ok(()), "{code:?}");
        assert_eq!(next(&told), Told::Record(subject), "{code:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ack_before_commit_an_event_is_not_accepted_while_too_few_replicas_have_it() {
    let mock = cluster();
    let kafka = open(&mock).await;
    let code = Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND;
    mock.request_errors(RDKafkaApiKey::Produce, &[code; 1_000]);
    let refused = publish(&kafka, "a").await.unwrap_err();
    assert!(matches!(refused, PublishError::TimedOut(_)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_will_not_pass_is_told_at_once() {
    let mock = cluster();
    let kafka = open(&mock).await;
    mock.request_errors(RDKafkaApiKey::Produce, &[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    assert_eq!(publish(&kafka, "a").await, Err(PublishError::TooLarge));
    assert_eq!(publish(&kafka, "b").await, Ok(()));
    mock.request_errors(RDKafkaApiKey::Produce, &[Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    assert!(matches!(publish(&kafka, "c").await, Err(PublishError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_has_failed_for_good_is_replaced() {
    let mock = cluster();
    let kafka = open(&mock).await;
    assert_eq!(publish(&kafka, "a").await, Ok(()));
    // An idempotent producer whose sequence the broker does not accept cannot go on.
    mock.request_errors(RDKafkaApiKey::Produce, &[Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    let failed = kafka.sink.client();
    assert!(publish(&kafka, "b").await.is_err());
    let (_subscription, told) = follow(&kafka).await;
    assert_eq!(publish(&kafka, "c").await, Ok(()));
    assert_eq!(next(&told), Told::Record("c".to_owned()));
    assert!(!Arc::ptr_eq(&failed, &kafka.sink.client()), "the failed producer is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_cluster_is_told_in_time_and_unready_until_it_is_back() {
    let mock = cluster();
    let kafka = open(&mock).await;
    let (subscription, told) = follow(&kafka).await;
    mock.broker_down(1).unwrap();
    assert!(matches!(publish(&kafka, "in-doubt").await, Err(PublishError::TimedOut(_))));
    eventually("the subscription is not live", || !subscription.is_live()).await;
    assert!(!kafka.is_reachable());
    mock.broker_up(1).unwrap();
    eventually("it is live again", || subscription.is_live() && kafka.is_reachable()).await;
    assert_eq!(publish(&kafka, "after").await, Ok(()));
    assert_eq!(next(&told), Told::Record("after".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_told_wrongly_that_its_position_is_gone_goes_on_without_a_gap() {
    let mock = cluster();
    let kafka = open(&mock).await;
    let (subscription, told) = follow(&kafka).await;
    assert_eq!(publish(&kafka, "before").await, Ok(()));
    assert_eq!(next(&told), Told::Record("before".to_owned()));
    mock.request_errors(RDKafkaApiKey::Fetch, &[Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE]);
    assert_eq!(publish(&kafka, "after").await, Ok(()));
    assert_eq!(next(&told), Told::Record("after".to_owned()));
    eventually("it is live", || subscription.is_live()).await;
}
