//! What becomes of a request in the channel.

use common::event::{Event, OCTET_STREAM, TELEMETRY_TYPE, extension};

use super::*;

async fn event(endpoint: &TestEndpoint, request: &str) -> Event {
    let response = endpoint.ask(request).await;
    assert_eq!(response.status, 202, "{response:?}");
    endpoint.channel.events(Channel::Telemetry).pop().unwrap()
}

#[tokio::test]
async fn a_request_becomes_an_event() {
    let endpoint = TestEndpoint::start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let fields = ["content-type: application/json; x=\"y\"", &format!("traceparent: {trace}")];
    let event = event(&endpoint, &post("/v1/a/b:c/%64", &fields)).await;
    assert_eq!(event.kind, TELEMETRY_TYPE);
    assert_eq!(event.device, d1());
    assert_eq!(event.subject, "a/b:c/d");
    assert_eq!(event.content_type, "application/json; x=\"y\"");
    assert_eq!(event.extensions, [(extension::TRACEPARENT.into(), trace.to_owned())]);
    assert_eq!(event.data, "42");
    endpoint.stop().await;
}

#[tokio::test]
async fn what_is_absent_stays_absent() {
    let endpoint = TestEndpoint::start().await;
    let login = basic("d1", "secret");
    let event =
        event(&endpoint, &format!("POST /v1/t HTTP/1.0\r\n{login}\r\ncontent-length: 0\r\n\r\n")).await;
    assert_eq!((event.content_type.as_ref(), event.data.len()), (OCTET_STREAM, 0));
    assert_eq!(event.extensions, []);
    endpoint.stop().await;
}

#[tokio::test]
async fn the_event_says_how_long_the_device_waits() {
    let limits = Limits { max_ttd: SHORT, ..Limits::default() };
    let endpoint = TestEndpoint::with(limits, Config::default()).await;
    for (target, ttd) in
        [("/v1/t?ttd=0.05", Some("0.05")), ("/v1/t?ttd=3", Some("0.2")), ("/v1/t?ttd=0", None)]
    {
        let event = event(&endpoint, &post(target, &[])).await;
        assert_eq!(event.extension(extension::TTD), ttd, "{target}");
    }
    endpoint.stop().await;
}

#[tokio::test]
async fn a_body_in_chunks_is_one_event() {
    let endpoint = TestEndpoint::start().await;
    let login = basic("d1", "secret");
    let head = format!(
        "POST /v1/t HTTP/1.1\r\nhost: x\r\n{login}\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let mut client = endpoint.send(head).await;
    assert_eq!(client.response().await.unwrap().status, 100);
    client.send("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").await.unwrap();
    assert_eq!(client.response().await.unwrap().status, 202);
    assert_eq!(endpoint.channel.events(Channel::Telemetry)[0].data, "abcde");
    endpoint.stop().await;
}
