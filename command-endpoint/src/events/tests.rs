//! Streams over a log in a file, whose subscriptions have threads of their own.

mod client;
mod ending;
mod resuming;

use bytes::Bytes;
use common::channel::{Channel, EventSink};
use common::embedded::{EmbeddedLog, LogSettings};
use common::event::{COMMAND_TYPE, Event, TELEMETRY_TYPE};
use common::id::DeviceKey;
use common::registry::Scope;
use common::service::{Clock, Limits, new_event_id};
use common::testing::eventually_async;

use self::client::EventReader;
use crate::Config;
use crate::tests::{Fixture, OPERATOR};

const PATH: &str = "/v1/apps/app/events";

/// A server over a log, and a token that may read events.
struct Streams {
    fixture: Fixture,
    log: EmbeddedLog,
    token: String,
    _dir: tempfile::TempDir,
}

impl Streams {
    async fn start() -> Self {
        Self::start_with(Config::default(), LogSettings::default()).await
    }

    async fn start_with(config: Config, settings: LogSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(&dir.path().join("log.sqlite"), settings, Clock::system()).unwrap();
        let fixture = Fixture::start_with(&log, config, Limits::default()).await;
        let token = fixture.token("app", &[Scope::Events]).await;
        Self { fixture, log, token, _dir: dir }
    }

    async fn publish(&self, key: &str, subject: &str) {
        self.publish_event(Channel::Telemetry, event(key, TELEMETRY_TYPE, subject, "")).await;
    }

    async fn publish_event(&self, channel: Channel, event: Event) {
        self.log.publish(channel, event).await.unwrap();
    }

    /// Opens a stream; its start is fixed.
    async fn open(&self, query: &str, position: Option<&str>) -> EventReader {
        let response = self.fixture.open(&format!("{PATH}{query}"), &self.token, position).await;
        assert_eq!(response.status(), 200);
        EventReader::new(response)
    }

    /// Opens a stream in vain, and returns what the problem says.
    async fn refused(&self, query: &str, position: Option<&str>, status: u16) -> String {
        let response = self.fixture.open(&format!("{PATH}{query}"), &self.token, position).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        response.text().await.unwrap()
    }
}

fn event(key: &str, kind: &'static str, subject: &str, data: &'static str) -> Event {
    let now = Clock::system().wall();
    Event {
        id: new_event_id(now),
        kind: kind.into(),
        source: None,
        device: DeviceKey::from_bytes(key.as_bytes()).unwrap(),
        subject: subject.to_owned(),
        time: now,
        content_type: "application/json".into(),
        extensions: Vec::new(),
        data: Bytes::from_static(data.as_bytes()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_an_event_as_json() {
    let streams = Streams::start().await;
    let response = streams.fixture.open(PATH, &streams.token, None).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let mut reader = EventReader::new(response);
    let data = "{\n\r\n \"temp\":\r42.0\n}";
    let sent = event("app/d", TELEMETRY_TYPE, "temp/in", data);
    streams.publish_event(Channel::Telemetry, sent.clone()).await;
    let message = reader.next().await;
    let json = message.json();
    assert_eq!((json["id"].as_str(), json["subject"].as_str()), (Some(sent.id.as_str()), Some("temp/in")));
    assert_eq!(json["data"], serde_json::json!({ "temp": 42.0 }));
    // The text is its own, but for line breaks, of which a stream knows one.
    assert!(message.data.unwrap().contains("\"data\":{\n\n \"temp\":\n42.0\n}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_events_of_the_application_and_device_are_in_the_stream() {
    let streams = Streams::start().await;
    let mut all = streams.open("?from=earliest", None).await;
    let mut one = streams.open("?device=d", None).await;
    for key in ["other/d", "app2/d", "ap/d", "App/d", "app/d2", "app/d", "app/D"] {
        streams.publish(key, key).await;
    }
    streams.publish("app/d", "end").await;
    assert_eq!(all.subjects_until("end").await, ["app/d2", "app/d", "app/D"]);
    assert_eq!(one.subjects_until("end").await, ["app/d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_records_come_only_where_their_channel_is_asked_for() {
    let streams = Streams::start().await;
    let mut all = streams.open("", None).await;
    let mut commands = streams.open("?channel=commands", None).await;
    let mut both = streams.open("?channel=outcomes&channel=telemetry&channel=telemetry", None).await;
    for (channel, kind, subject) in [
        (Channel::Commands, "io.drogue.connection.connected.v1", "connected"),
        (Channel::Commands, COMMAND_TYPE, "command"),
        (Channel::Telemetry, TELEMETRY_TYPE, "telemetry"),
        (Channel::Outcomes, "io.drogue.command.delivered.v1", "delivered"),
        (Channel::Commands, COMMAND_TYPE, "end"),
        (Channel::Telemetry, TELEMETRY_TYPE, "end"),
    ] {
        streams.publish_event(channel, event("app/d", kind, subject, "")).await;
    }
    assert_eq!(all.subjects_until("end").await, ["command", "telemetry", "delivered"]);
    assert_eq!(commands.subjects_until("end").await, ["connected", "command"]);
    assert_eq!(both.subjects_until("end").await, ["telemetry", "delivered"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_after_the_head_is_in_the_stream() {
    let streams = Streams::start().await;
    for i in 0..100 {
        let mut reader = streams.open("", None).await;
        let subject = format!("n{i}");
        streams.publish("app/d", &subject).await;
        assert_eq!(reader.next().await.json()["subject"], subject);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_parameters_are_named() {
    let streams = Streams::start().await;
    for (query, named) in [
        ("?form=latest", "'form'"),
        ("?from=now", "from is"),
        ("?channel=news", "'news'"),
        ("?device=a%2Fb", "device id"),
        ("?device=a&device=b", "'device'"),
    ] {
        let detail = streams.refused(query, None, 400).await;
        assert!(detail.contains(named), "{query}: {detail}");
    }
    let nowhere = streams.fixture.get("/v1/apps/none/events", OPERATOR).await;
    nowhere.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_8_one_slow_client_slows_only_itself() {
    let streams = Streams::start().await;
    let mut slow = streams.open("", None).await;
    let mut quick = streams.open("", None).await;
    // More than the pipe, the server's buffer and the sockets' together.
    let text: &'static str = Box::leak(format!("\"{}\"", "x".repeat(200_000)).into_boxed_str());
    for i in 0..100 {
        let event = event("app/d", TELEMETRY_TYPE, &format!("n{i}"), text);
        streams.publish_event(Channel::Telemetry, event).await;
        assert_eq!(quick.next().await.json()["subject"], format!("n{i}"));
    }
    for i in 0..100 {
        assert_eq!(slow.next().await.json()["subject"], format!("n{i}"));
    }
}

/// Waits until a stream can be opened that could not before.
async fn wait_for_room(streams: &Streams) {
    let is_open = async || streams.fixture.open(PATH, &streams.token, None).await.status() == 200;
    eventually_async("there is room", is_open).await;
}
