//! The adapter before channels that fail as no healthy one does. What a real Knative does is judged by the system tests.

mod channel;
mod echo;
mod hub;
mod order;
mod receiver;
mod secrets;
mod sink;

use std::net::TcpListener;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::DropGuard;

use super::echoes::Echoes;
use super::hub::Hub;
use super::push::{own_address, token};
use super::receiver::Receiver;
use super::sink::{Sink, SinkSettings};
use super::*;
use crate::auth::Secret;
use crate::channel::{Flow, Record};
use crate::event::{Foreign, example};
use crate::process::{Shutdown, new_event_id};
use crate::testing::{PATIENCE, eventually};
use channel::{Answer, FakeChannel, Posted};

/// Longer than any test waits: what ends before did not wait for it.
const LONG: Duration = Duration::from_secs(600);
/// A patience that a test means to lose.
const SHORT: Duration = Duration::from_secs(1);
/// What the receiver of a test is told by.
const TOKEN: &str = "hunter2";

/// An event of its own id.
fn event(device: &str, subject: &str) -> Event {
    let id = new_event_id(Clock::system().wall());
    let device = DeviceKey::from_bytes(device.as_bytes()).unwrap();
    Event { id, device, subject: subject.to_owned(), ..example() }
}

/// Waits for what must come.
async fn soon<T>(what: &str, coming: impl Future<Output = T>) -> T {
    timeout(PATIENCE, coming).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Says how events leave for a fake channel, with more patience than a test has.
fn settings(channel: &FakeChannel) -> SinkSettings {
    let target = |each: Channel| (each, Target { url: channel.url(each), token_file: None });
    SinkSettings {
        client: client(&[], None).unwrap(),
        targets: Channel::ALL.map(target).into(),
        echoes: Arc::new(Echoes::of(Vec::new())),
        overrides: BTreeMap::new(),
        publish_timeout: LONG,
        patience: LONG,
        max_event: 1 << 20,
        token_lifetime: LONG,
    }
}

/// Publishes a command, which must end before the patience of the test.
async fn publish(sink: &Sink, event: &Event) -> Result<(), PublishError> {
    soon("the publisher's answer", sink.publish(Channel::Commands, event.clone())).await
}

/// What a subscription told its handler.
#[derive(Debug, PartialEq)]
enum Told {
    Record(Channel, String),
    Interrupted(SourceError),
}

/// Tells a test, and blocks while the test does not listen.
struct Teller(mpsc::Sender<Told>);

impl Teller {
    fn tell(&self, told: Told) -> Flow {
        // Nobody listens any more once a test has seen enough.
        self.0.blocking_send(told).map_or(Flow::Stop, |()| Flow::Continue)
    }
}

impl RecordHandler for Teller {
    fn record(&mut self, record: &dyn Record) -> Flow {
        let subject = record.event().map_or_else(|error| error.to_string(), |event| event.subject);
        self.tell(Told::Record(record.channel(), subject))
    }

    fn interrupted(&mut self, error: &SourceError) -> Flow {
        self.tell(Told::Interrupted(error.clone()))
    }
}

/// A subscription, and what it tells; its handler blocks as soon as one thing that it told was not asked for.
struct Stream {
    told: mpsc::Receiver<Told>,
    subscription: Subscription,
}

impl Stream {
    fn of(hub: &Hub, channels: &[Channel]) -> Self {
        let (teller, told) = mpsc::channel(1);
        let subscription = hub.subscribe(channels.to_vec(), Box::new(Teller(teller))).unwrap();
        Self { told, subscription }
    }

    /// `None` once the handler is gone.
    async fn next(&mut self) -> Option<Told> {
        soon("what a subscription tells", self.told.recv()).await
    }
}

fn command(subject: &str) -> Option<Told> {
    Some(Told::Record(Channel::Commands, subject.to_owned()))
}

/// The receiver of a replica on a real socket.
struct Inbox {
    url: String,
    hub: Arc<Hub>,
    echoes: Arc<Echoes>,
    client: Client,
    _running: DropGuard,
}

impl Inbox {
    fn open(max_event: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/channels", listener.local_addr().unwrap());
        let (hub, echoes) = (Arc::new(Hub::new()), Arc::new(Echoes::of(vec![Channel::Commands])));
        let shutdown = Shutdown::new();
        let receiver = receiver_of(&hub, &echoes, max_event);
        tokio::spawn(receiver.run(listener, shutdown.clone()));
        Self { url, hub, echoes, client: client(&[], None).unwrap(), _running: shutdown.drop_guard() }
    }

    /// Pushes headers and a body, and returns the status of the answer.
    async fn push(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> u16 {
        let request = self.client.post(format!("{}/{path}", self.url)).body(body.into());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        soon("the receiver's answer", request.send()).await.unwrap().status().as_u16()
    }

    /// Pushes a command with the right token.
    async fn push_command(&self, event: &Event) -> u16 {
        let outgoing = binding::Outgoing::of(event).unwrap();
        let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap().to_owned();
        let headers: Vec<_> =
            outgoing.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.push(&format!("commands/{TOKEN}"), &headers, outgoing.body).await
    }
}

fn receiver_of(hub: &Arc<Hub>, echoes: &Arc<Echoes>, max_event: usize) -> Receiver {
    Receiver {
        hub: hub.clone(),
        echoes: echoes.clone(),
        token: Secret::new(TOKEN),
        max_event,
        clock: Clock::system(),
    }
}

#[test]
fn what_cannot_be_opened_names_its_options_and_no_secret() {
    let form = "commands".parse::<ChannelResource>().unwrap_err();
    assert!(form.to_string().contains("option --channel)"), "{form}");
    assert_eq!(form.kind(), crate::error::ErrorKind::Invalid);
    let silent = KnativeError::Silent {
        channel: Channel::Commands,
        url: "http://10.0.0.1:8090/".to_owned(),
        waited: SHORT,
        reason: "commands answered 503".to_owned(),
    };
    assert_eq!(silent.kind(), crate::error::ErrorKind::Unavailable);
    let silent = silent.to_string();
    for named in ["--subscriber-listen", "--subscriber-url", "http://10.0.0.1:8090/", "503"] {
        assert!(silent.contains(named), "{named}: {silent}");
    }
}

#[tokio::test]
async fn a_channel_without_a_topic_is_named_before_any_is_read() {
    let topics = HashMap::from([(Channel::Telemetry, "t".to_owned())]);
    let kafka = KafkaSettings::new("127.0.0.1:1");
    let error = read_topics(kafka, topics, Clock::system()).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("commands=") && error.contains("--channel"), "{error}");
}

#[test]
fn a_replica_is_addressed_in_either_family_and_by_a_token_of_its_own() {
    assert_eq!(own_address("10.0.0.1", 8090).unwrap().as_str(), "http://10.0.0.1:8090/");
    assert_eq!(own_address("fd00::1", 8090).unwrap().as_str(), "http://[fd00::1]:8090/");
    assert!(own_address("a b", 1).unwrap_err().to_string().contains("a b"));
    let (one, other) = (token().unwrap(), token().unwrap());
    assert_ne!(one, other);
    assert_eq!(one.expose().len(), 43);
}
