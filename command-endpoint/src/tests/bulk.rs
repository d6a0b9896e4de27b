use std::convert::Infallible;

use common::auth::{Authenticator, Login, Secret};
use common::registry::Scope;
use common::service::Limits;
use common::testing::{MemoryChannel, PATIENCE};
use futures_util::stream::unfold;
use reqwest::{Body, Method};
use serde_json::Value;
use tokio::sync::mpsc;

use super::fixture::{Answer, Fixture, OPERATOR, answer};
use crate::Config;

const DEVICES: &str = "/v1/apps/app/devices";

async fn import(fixture: &Fixture, token: &str, body: String) -> Answer {
    let request = fixture.request(Method::POST, DEVICES, token);
    answer(request.header("content-type", "application/x-ndjson; charset=utf-8").body(body)).await
}

fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(
        (answer.status, &answer.headers["content-type"]),
        (200, &"application/x-ndjson".parse().unwrap())
    );
    assert_eq!(answer.headers["cache-control"], "no-store");
    let text = std::str::from_utf8(&answer.body).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_has_its_answer() {
    let fixture = Fixture::start(&MemoryChannel::new()).await;
    let token = fixture.token("app", &[Scope::Registry]).await;
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(70_000));
    let body = format!(
        "{}\n\n{}\nnonsense\n{}\n{long}\n{}\n{}\n{}",
        r#"{"name":"d1","credentials":[{"token":null}]}"#,
        r#"{"name":"d2","lables":{}}"#,
        r#"{"labels":{}}"#,
        r#"{"name":"d","enabled":false}"#,
        r#"{"name":"d4","credentials":[{"password":""}]}"#,
        r#"{"name":"d3","credentials":[{"password":"p"}]}"#,
    );
    let lines = lines(&import(&fixture, &token, body).await);
    let seen: Vec<_> =
        lines.iter().map(|line| (line["line"].as_u64().unwrap(), line["status"].as_u64().unwrap())).collect();
    let expected = [(1, 201), (3, 400), (4, 400), (5, 400), (6, 413), (7, 200), (8, 400), (9, 201)];
    assert_eq!(seen, expected, "{lines:?}");
    let names: Vec<_> = lines.iter().filter_map(|line| line["name"].as_str()).collect();
    assert_eq!(names, ["d1", "d", "d4", "d3"]);
    assert!(lines[1]["detail"].as_str().unwrap().contains("`lables`"), "{lines:?}");
    let secret = lines[0]["credentials"][0]["token"].as_str().unwrap();
    let login = Login::parse("d1@app", Secret::new(secret)).unwrap();
    assert!(fixture.backends.registry.authenticate(&login).await.is_ok());
    assert!(lines[7].get("credentials").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_devices_come_in_one_request() {
    let fixture = Fixture::start(&MemoryChannel::new()).await;
    let token = fixture.token("app", &[Scope::Registry]).await;
    let body: String = (0..10_000)
        .map(|i| format!("{{\"name\":\"d{i}\",\"credentials\":[{{\"token\":null}}]}}\n"))
        .collect();
    let lines = lines(&import(&fixture, &token, body).await);
    assert_eq!(lines.len(), 10_000);
    for (i, line) in lines.iter().enumerate() {
        assert_eq!((&line["status"], line["name"].as_str()), (&201.into(), Some(format!("d{i}").as_str())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_has_a_limit_that_is_named() {
    let config = Config { api_max_import: 2, ..Config::default() };
    let fixture = Fixture::start_with(&MemoryChannel::new(), config, Limits::default()).await;
    let token = fixture.token("app", &[Scope::Registry]).await;
    let body: String = (1..=5).map(|i| format!("{{\"name\":\"d{i}\"}}\n")).collect();
    let lines = lines(&import(&fixture, &token, body).await);
    let statuses: Vec<_> = lines.iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 201, 413]);
    assert!(lines[2]["detail"].as_str().unwrap().contains("--api-max-import"));
    fixture.get(&format!("{DEVICES}/d3"), &token).await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_ndjson_is_415() {
    let fixture = Fixture::start(&MemoryChannel::new()).await;
    let token = fixture.token("app", &[Scope::Registry]).await;
    fixture.post(DEVICES, &token, "{}").await.problem(415);
    let json = fixture.request(Method::POST, DEVICES, &token).header("content-type", "application/json");
    answer(json).await.problem(415);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_ends_with_its_token() {
    let fixture = Fixture::start(&MemoryChannel::new()).await;
    let made = fixture.post("/v1/apps/app/tokens", OPERATOR, r#"{"scopes":["registry"]}"#).await.json();
    let lines_of = |range: std::ops::Range<usize>| -> Vec<u8> {
        range.flat_map(|i| format!("{{\"name\":\"d{i}\"}}\n").into_bytes()).collect()
    };
    let (pieces, body) = mpsc::channel(2);
    let body = unfold(body, |mut body| async move { Some((Ok::<_, Infallible>(body.recv().await?), body)) });
    let request = fixture
        .request(Method::POST, DEVICES, made["token"].as_str().unwrap())
        .header("content-type", "application/x-ndjson")
        .body(Body::wrap_stream(body));
    let waiting = tokio::spawn(answer(request));
    pieces.send(lines_of(0..200)).await.unwrap();
    let written = async { while fixture.get(&format!("{DEVICES}/d199"), OPERATOR).await.status != 200 {} };
    tokio::time::timeout(PATIENCE, written).await.unwrap();
    let token = format!("/v1/apps/app/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(fixture.delete(&token, OPERATOR).await.status, 204);
    pieces.send(lines_of(200..201)).await.unwrap();
    drop(pieces);
    let lines = lines(&waiting.await.unwrap());
    assert_eq!((lines.len(), &lines[199]["status"], &lines[200]["status"]), (201, &201.into(), &401.into()));
    fixture.get(&format!("{DEVICES}/d200"), OPERATOR).await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_in_a_coding_are_refused() {
    let fixture = Fixture::start(&MemoryChannel::new()).await;
    let token = fixture.token("app", &[Scope::Registry]).await;
    let request = fixture.request(Method::POST, DEVICES, &token).header("content-encoding", "gzip");
    answer(request.header("content-type", "application/x-ndjson").body("x")).await.problem(415);
}
