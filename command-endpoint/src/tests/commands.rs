use std::time::Duration;

use common::channel::PublishError;
use common::event::{COMMAND_TYPE, Event, OCTET_STREAM, extension};
use common::registry::Scope;
use common::service::Limits;
use common::testing::{MemoryChannel, eventually};
use common::time::Timestamp;
use reqwest::Method;

use super::fixture::{Answer, Fixture, answer, commands};
use crate::Config;

const PATH: &str = "/v1/apps/app/devices/d/commands/set-temp";

/// A server, a channel, and a token with the scope of the matter.
async fn start() -> (Fixture, MemoryChannel, String) {
    start_with(Limits::default()).await
}

async fn start_with(limits: Limits) -> (Fixture, MemoryChannel, String) {
    let channel = MemoryChannel::new();
    let fixture = Fixture::start_with(&channel, Config::default(), limits).await;
    let token = fixture.token("app", &[Scope::Command]).await;
    (fixture, channel, token)
}

fn lifetime(event: &Event) -> Duration {
    let expires: Timestamp = event.extension(extension::EXPIRY_TIME).unwrap().parse().unwrap();
    expires.saturating_since(event.time)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_in_the_channel_as_it_was_sent() {
    let (fixture, channel, token) = start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = fixture
        .request(Method::POST, &format!("{PATH}?ttl=10m"), &token)
        .header("content-type", "application/json; charset=utf-8")
        .header("traceparent", trace)
        .body("{ \"set-temp\": 40\r\n}");
    let answer = answer(request).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let event = commands(&channel).pop().unwrap();
    let id = event.id.as_str();
    assert_eq!(answer.json(), serde_json::json!({ "id": id }));
    assert_eq!(answer.headers["location"], format!("/v1/apps/app/devices/d/commands/{id}"));
    assert_eq!((event.kind.as_ref(), event.subject.as_str()), (COMMAND_TYPE, "set-temp"));
    assert_eq!(event.device.as_str(), "app/d");
    assert_eq!(event.content_type, "application/json; charset=utf-8");
    assert_eq!(event.data.as_ref(), b"{ \"set-temp\": 40\r\n}");
    assert_eq!(event.extension(extension::TRACEPARENT), Some(trace));
    assert_eq!(lifetime(&event), Duration::from_secs(600));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_has_a_default() {
    let (fixture, channel, token) = start().await;
    let request = fixture.request(Method::POST, PATH, &token).header("traceparent", "nonsense");
    assert_eq!(answer(request).await.status, 202);
    let event = commands(&channel).pop().unwrap();
    assert_eq!((event.content_type.as_ref(), event.data.len()), (OCTET_STREAM, 0));
    assert_eq!(lifetime(&event), Limits::default().command_lifetime);
    assert_eq!(event.extension(extension::TRACEPARENT), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_1_accepted_means_persisted() {
    let (fixture, channel, token) = start().await;
    channel.hold();
    let request = fixture.request(Method::POST, PATH, &token);
    let waiting = tokio::spawn(answer(request));
    eventually("the command is published", || channel.held() == 1).await;
    assert!(!waiting.is_finished());
    channel.release(Ok(()));
    assert_eq!(waiting.await.unwrap().status, 202);

    channel.hold();
    let waiting = tokio::spawn(answer(fixture.request(Method::POST, PATH, &token)));
    eventually("the command is published", || channel.held() == 1).await;
    channel.release(Err(PublishError::Unavailable("it is down".into())));
    assert!(waiting.await.unwrap().problem(503).contains("it is down"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_does_not_take_the_command_is_told() {
    let limits = Limits { publish_timeout: Duration::from_millis(20), ..Limits::default() };
    let (fixture, channel, token) = start_with(limits).await;
    for (error, status) in [
        (PublishError::Overloaded, 429),
        (PublishError::TooLarge, 413),
        (PublishError::Unavailable(String::new()), 503),
    ] {
        channel.fail_next(error);
        fixture.post(PATH, &token, "").await.problem(status);
    }
    channel.hold();
    let detail = fixture.post(PATH, &token, "").await.problem(503);
    assert!(detail.contains("--publish-timeout"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_has_a_limit_that_is_named() {
    let limits = Limits { max_payload: 10, ..Limits::default() };
    let (fixture, channel, token) = start_with(limits).await;
    assert_eq!(fixture.post(PATH, &token, "0123456789").await.status, 202);
    let detail = fixture.post(PATH, &token, "0123456789x").await.problem(413);
    assert!(detail.contains("10 bytes") && detail.contains("--max-payload"), "{detail}");
    assert_eq!(commands(&channel).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ttl_is_a_duration_from_a_second_to_thirty_days() {
    let (fixture, channel, token) = start().await;
    for (ttl, seconds) in [("1s", 1), ("1000ms", 1), ("30d", 30 * 86_400), ("720h", 30 * 86_400)] {
        let answer = fixture.post(&format!("{PATH}?ttl={ttl}"), &token, "").await;
        assert_eq!(answer.status, 202, "{ttl}");
        let event = commands(&channel).pop().unwrap();
        assert_eq!(lifetime(&event), Duration::from_secs(seconds), "{ttl}");
    }
    for bad in ["0s", "999ms", "31d", "2592000001ms", "10", "-1s", "1.5m", "", "1w", "99999999999999999999d"]
    {
        let detail = fixture.post(&format!("{PATH}?ttl={bad}"), &token, "").await.problem(400);
        assert!(detail.contains("ttl"), "{bad}: {detail}");
    }
    for bad in ["tll=1s", "ttl=1s&ttl=2s", "ttl=1s&x"] {
        let detail = fixture.post(&format!("{PATH}?{bad}"), &token, "").await.problem(400);
        assert!(detail.contains("parameter"), "{bad}: {detail}");
    }
    assert_eq!(commands(&channel).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_names_are_400_and_unknown_devices_404() {
    let (fixture, channel, token) = start().await;
    let post = async |path: String| -> Answer { fixture.post(&path, &token, "").await };
    for bad in ["a%20b", "a%2Fb", "a%00", "%C3%A4", "a%25", "a+b", &"x".repeat(129)] {
        let detail = post(format!("/v1/apps/app/devices/d/commands/{bad}")).await.problem(400);
        assert!(detail.contains("command name"), "{bad}: {detail}");
        let detail = post(format!("/v1/apps/app/devices/{bad}/commands/x")).await.problem(400);
        assert!(detail.contains("device id"), "{bad}: {detail}");
    }
    let detail = post("/v1/apps/app/devices/none/commands/x".into()).await.problem(404);
    assert!(detail.contains("'none'"), "{detail}");
    post("/v1/apps/app/devices/D/commands/x".into()).await.problem(404);
    assert!(commands(&channel).is_empty());
    assert_eq!(post("/v1/apps/%61pp/devices/%64/commands/x".into()).await.status, 202);
    assert_eq!(commands(&channel)[0].device.as_str(), "app/d");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_type_that_cannot_be_carried_is_refused() {
    let (fixture, _, token) = start().await;
    for bad in ["", &"x".repeat(257)] {
        let request = fixture.request(Method::POST, PATH, &token).header("content-type", bad);
        assert!(answer(request).await.problem(400).contains("content type"), "{bad:?}");
    }
    let request = fixture.request(Method::POST, PATH, &token);
    let twice = request.header("content-type", "a/b").header("content-type", "c/d");
    assert!(answer(twice).await.problem(400).contains("content-type"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_in_a_coding_is_refused() {
    let (fixture, channel, token) = start().await;
    let send = |coding| {
        let request = fixture.request(Method::POST, PATH, &token).header("content-encoding", coding);
        answer(request.body("x"))
    };
    let refused = send("gzip").await;
    assert_eq!(refused.headers["accept-encoding"], "identity");
    assert!(refused.problem(415).contains("content-encoding"));
    assert!(commands(&channel).is_empty());
    assert_eq!(send("identity").await.status, 202);
}
