//! Channels on Kafka without their data plane, whose images no test can run: the resources are real, their status is written
//! here, and a small server stands in for what takes events. It writes them as Knative's does: CloudEvents in binary mode, under
//! their partition key, acknowledged by Kafka before it answers 202.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::http::header::HeaderMap;
use actix_web::web::{Bytes, Data, PayloadConfig, ServiceConfig, post, resource};
use actix_web::{HttpRequest, HttpResponse};
use common::channel::Channel;
use common::kafka::KafkaChannels as Opened;
use common::net::Listeners;
use common::service::{Clock, Shutdown};
use common::testing::skip;
use common::web::{WebConfig, serve};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use tokio_util::sync::DropGuard;

use crate::fleet::{Ground, Kind};
use crate::kafka::{self, Topics};
use crate::kube::{self as cluster, Namespace};

const API: &str = "messaging.knative.dev/v1beta1";
const KIND: &str = "KafkaChannel";
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any event of a test.
const LONGEST: usize = 2 << 20;

/// Channels on Kafka, as their resources describe them.
#[derive(Debug)]
pub struct KafkaChannels {
    namespace: Namespace,
    topics: Topics,
    ingress: SocketAddr,
    _ingress: DropGuard,
}

/// Makes channels on the Kafka and in the cluster that the environment names. Says visibly that `test` is skipped if either is
/// missing, or the cluster does not know the kind.
///
/// # Panics
/// Panics if they cannot be made.
pub async fn given(test: &str) -> Option<KafkaChannels> {
    let servers = kafka::given(test)?;
    let namespace = cluster::given(test).await?;
    if !namespace.knows(API, KIND).await {
        skip(test, "kube", "the cluster does not know KafkaChannels");
        return None;
    }
    let topics = Topics::new(servers);
    // Whoever opens them makes them.
    drop(Opened::open(topics.settings(), Clock::system()).await.expect("the topics can be made"));
    let end = Shutdown::new();
    let ingress = start_ingress(&topics, end.clone());
    for channel in Channel::ALL {
        let name = channel.as_str();
        namespace.apply(json!({ "apiVersion": API, "kind": KIND, "metadata": { "name": name } })).await;
        let status = json!({
            "annotations": { "default.topic": topics.of(channel) },
            "address": { "url": format!("http://{ingress}/{name}") },
            "conditions": [{ "type": "Ready", "status": "True" }],
        });
        let metadata = json!({ "name": name });
        let object = json!({ "apiVersion": API, "kind": KIND, "metadata": metadata, "status": status });
        namespace.apply_status(object).await;
    }
    Some(KafkaChannels { namespace, topics, ingress, _ingress: end.drop_guard() })
}

impl Ground for KafkaChannels {
    fn options(&self, kind: Kind, _number: usize) -> Vec<String> {
        let own = if kind == Kind::Command { Channel::Commands } else { Channel::Telemetry };
        let resources = Channel::ALL.map(|channel| format!("{channel}={KIND}/{channel}")).join(",");
        vec![
            format!("--sink=http://{}/{own}", self.ingress),
            format!("--channel={resources}"),
            format!("--kube-namespace={}", self.namespace.name()),
            format!("--kafka-bootstrap-servers={}", self.topics.servers()),
        ]
    }
}

/// What takes events.
struct Ingress {
    producer: FutureProducer,
    prefix: String,
}

/// Starts the server, which runs until the end is cancelled.
fn start_ingress(topics: &Topics, end: Shutdown) -> SocketAddr {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", topics.servers()).set("partitioner", "murmur2_random");
    config.set("acks", "all").set("enable.idempotence", "true");
    let producer = config.create().expect("a producer");
    let ingress = Data::new(Ingress { producer, prefix: topics.prefix().to_owned() });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("it is bound");
    let routes = move |app: &mut ServiceConfig| {
        let limit = PayloadConfig::new(LONGEST);
        app.app_data(ingress.clone()).app_data(limit).service(resource("/{channel}").route(post().to(take)));
    };
    let listeners = Listeners { plain: Some(listener), tls: None };
    let serving = serve("ingress", WebConfig::default(), listeners, routes, end, PATIENCE);
    // On a runtime of its own: that of a test may be gone before others use the channels.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime starts").block_on(serving).expect("the server runs");
    });
    address
}

async fn take(request: HttpRequest, body: Bytes, ingress: Data<Ingress>) -> HttpResponse {
    let topic = format!("{}{}", ingress.prefix, request.match_info().get("channel").unwrap_or_default());
    let key = header(request.headers(), "ce-partitionkey").unwrap_or_default();
    let mut record = FutureRecord::to(&topic).key(&key).headers(attributes(request.headers()));
    if !body.is_empty() {
        record = record.payload(&body[..]);
    }
    match ingress.producer.send(record, PATIENCE).await {
        Ok(_) => HttpResponse::Accepted().finish(),
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}

/// Returns the attributes of an event as headers of a record (CloudEvents 1.0, Kafka binding, section 3.2).
fn attributes(headers: &HeaderMap) -> OwnedHeaders {
    let mut all = OwnedHeaders::new();
    for (name, _) in headers {
        let key = match name.as_str() {
            "content-type" => "content-type".to_owned(),
            name => match name.strip_prefix("ce-") {
                Some(name) => format!("ce_{name}"),
                None => continue,
            },
        };
        let value = header(headers, name.as_str());
        all = all.insert(Header { key: &key, value: value.as_deref() });
    }
    all
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(percent_encoding::percent_decode_str(value).decode_utf8().ok()?.into_owned())
}
