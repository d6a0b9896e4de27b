//! Limits of what a device may use.

use super::*;

#[tokio::test]
async fn a_payload_is_limited() {
    let limits = Limits { max_payload: 1, ..Limits::default() };
    let endpoint = TestEndpoint::with(limits, Config::default()).await;
    let response = endpoint.ask(post("/v1/temperature", &[])).await;
    assert_problem(&response, 413);
    assert!(response.text().contains("--max-payload"), "{response:?}");
    endpoint.stop().await;
}

#[tokio::test]
async fn a_slow_body_is_408() {
    let config = Config { http_body_timeout: SHORT, ..Config::default() };
    let endpoint = TestEndpoint::with(Limits::default(), config).await;
    let request = post("/v1/temperature", &[]);
    let response = endpoint.ask(&request[..request.len() - 1]).await;
    assert_problem(&response, 408);
    assert_eq!(endpoint.channel.events(Channel::Telemetry), []);
    endpoint.stop().await;
}

#[tokio::test]
async fn the_connections_of_a_device_are_limited() {
    let limits = Limits { max_device_connections: 1, ..Limits::default() };
    let endpoint = TestEndpoint::with(limits, Config::default()).await;
    let waiting = endpoint.send(post("/v1/temperature?ttd=30", &[])).await;
    endpoint.published(1).await;
    let response = endpoint.ask(post("/v1/temperature?ttd=30", &[])).await;
    assert_problem(&response, 429);
    assert!(response.text().contains("--max-device-connections"), "{response:?}");
    assert!(response.header("retry-after").is_some());
    // The first hangs up, and its place is free.
    drop(waiting);
    let freed = async { while endpoint.ask(post("/v1/temperature?ttd=0.001", &[])).await.status == 429 {} };
    tokio::time::timeout(common::testing::PATIENCE, freed).await.expect("the place is not freed");
    endpoint.stop().await;
}
