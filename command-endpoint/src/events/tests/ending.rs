use std::time::Duration;

use common::channel::{Channel, SourceError};
use common::embedded::LogSettings;
use common::event::TELEMETRY_TYPE;
use common::registry::Scope;
use common::testing::{MemoryChannel, PATIENCE};

use super::{EventReader, PATH, Streams, event, wait_for_room};
use crate::Config;
use crate::tests::{Fixture, OPERATOR};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_token_is_revoked() {
    let streams = Streams::start().await;
    let made = streams.fixture.post("/v1/apps/app/tokens", OPERATOR, r#"{"scopes":["events"]}"#).await.json();
    let response = streams.fixture.open(PATH, made["token"].as_str().unwrap(), None).await;
    let mut kept = streams.open("", None).await;
    let path = format!("/v1/apps/app/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(streams.fixture.delete(&path, OPERATOR).await.status, 204);
    assert!(EventReader::new(response).end().await.contains("revoked"));
    streams.publish("app/d", "a").await;
    assert_eq!(kept.next().await.json()["subject"], "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_application() {
    let streams = Streams::start().await;
    let operators = EventReader::new(streams.fixture.open(PATH, OPERATOR, None).await);
    let own = streams.open("", None).await;
    assert_eq!(streams.fixture.delete("/v1/apps/app", OPERATOR).await.status, 204);
    assert!(own.end().await.contains("revoked"));
    assert!(operators.end().await.contains("'app'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_shutdown() {
    let mut streams = Streams::start().await;
    let reader = streams.open("", None).await;
    streams.fixture.stop().await;
    assert!(reader.end().await.contains("shuts down"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_does_not_go_on_behind_a_gap() {
    let channel = MemoryChannel::new();
    let fixture = Fixture::start(&channel).await;
    let token = fixture.token("app", &[Scope::Events]).await;
    let reader = EventReader::new(fixture.open(PATH, &token, None).await);
    channel.interrupt(&SourceError::Gone);
    channel.put(Channel::Telemetry, b"app/d", Ok(event("app/d", TELEMETRY_TYPE, "behind", "")));
    assert!(reader.end().await.contains("no longer kept"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_cannot_be_read_is_told() {
    let channel = MemoryChannel::new();
    let fixture = Fixture::start(&channel).await;
    for (error, status) in [
        (SourceError::Unavailable("it is down".into()), 503),
        (SourceError::Unsupported, 501),
        (SourceError::Gone, 410),
        (SourceError::InvalidCursor, 400),
    ] {
        channel.fail_subscribe(Some(error));
        fixture.get(PATH, OPERATOR).await.problem(status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_records_are_skipped() {
    let channel = MemoryChannel::new();
    let fixture = Fixture::start(&channel).await;
    let mut reader = EventReader::new(fixture.open(PATH, OPERATOR, None).await);
    channel.put(Channel::Telemetry, b"app/d", Err(common::event::Malformed::NoEvent));
    channel.put(Channel::Telemetry, b"app/d", Ok(event("app/d", TELEMETRY_TYPE, "good", "")));
    assert_eq!(reader.next().await.json()["subject"], "good");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_have_a_limit_that_is_named_and_a_client_that_goes_makes_room() {
    let config = Config { api_max_streams: 1, ..Config::default() };
    let streams = Streams::start_with(config, LogSettings::default()).await;
    let mut reader = streams.open("", None).await;
    reader.next_position().await;
    let detail = streams.refused("", None, 429).await;
    assert!(detail.contains("--api-max-streams"), "{detail}");
    // Its subscription is blocked: more waits for this client than there is room for.
    let long: &'static str = Box::leak("x".repeat(200_000).into_boxed_str());
    for _ in 0..100 {
        streams.publish_event(Channel::Telemetry, event("app/d", TELEMETRY_TYPE, "a", long)).await;
    }
    drop(reader);
    wait_for_room(&streams).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_signs_of_life() {
    let streams = Streams::start().await;
    let mut reader = streams.open("", None).await;
    let mut signs = 0;
    let seen = async {
        while signs < 2 {
            signs += usize::from(reader.block().await.unwrap().comment.is_some());
        }
    };
    tokio::time::timeout(PATIENCE + Duration::from_secs(15), seen).await.unwrap();
}
