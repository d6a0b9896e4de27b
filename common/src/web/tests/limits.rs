//! Slow, large and greedy clients.

use super::*;

/// Sends `bytes`, nothing more, and returns what comes until the server closes the connection.
async fn stall(config: WebConfig, bytes: &str) -> String {
    let server = TestServer::start(config);
    let mut client = server.connect().await;
    client.send(bytes).await.unwrap();
    let received = client.closed().await;
    server.stop().await;
    received
}

fn slow_head() -> WebConfig {
    WebConfig { head_timeout: SHORT, ..WebConfig::default() }
}

#[tokio::test]
async fn a_slow_head_is_cut_off() {
    assert!(stall(slow_head(), "").await.starts_with("HTTP/1.1 408"));
    assert!(stall(slow_head(), "POST /echo HTTP/1.1\r\nhos").await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn a_slow_head_of_a_later_request_is_cut_off() {
    let received =
        stall(slow_head(), "POST /echo HTTP/1.1\r\nhost: x\r\n\r\nPOST /echo HTTP/1.1\r\nhos").await;
    assert!(received.starts_with("HTTP/1.1 200") && received.matches("HTTP/1.1").count() == 1, "{received}");

    let server = TestServer::start(slow_head());
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    client.response().await.unwrap();
    client.send("POST /ec").await.unwrap();
    client.closed().await;
    server.stop().await;
}

#[tokio::test]
async fn the_time_of_a_head_begins_anew_with_each_request() {
    let server = TestServer::start(slow_head());
    let mut client = server.connect().await;
    let clock = Clock::system();
    let start = clock.instant();
    // The requests are answered at once, so that no read falls between a head and its answer.
    while clock.instant() < start + SHORT * 3 {
        client.send("POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        client.response().await.unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let config = WebConfig { idle_timeout: SHORT, ..WebConfig::default() };
    assert!(stall(config, "POST /echo HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_slow_body_is_cut_off() {
    for framing in ["content-length: 10", "transfer-encoding: chunked"] {
        let request = format!("POST /echo HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n1\r\n");
        let received = stall(slow_head(), &request).await;
        assert!(received.starts_with("HTTP/1.1 408"), "{framing}: {received}");
        assert!(received.contains("application/problem+json"), "{framing}: {received}");
    }
}

#[tokio::test]
async fn a_body_that_nobody_wants_is_not_waited_for() {
    let request = "POST /nothing HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n";
    assert!(stall(slow_head(), request).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_end_is_cut_off() {
    let (tls, _) = tls().unwrap();
    let config = WebConfig { tls_timeout: SHORT, ..WebConfig::default() };
    let server =
        TestServer::start_on(config, SHORT, |listener| Listeners { plain: None, tls: Some((listener, tls)) });
    let mut client = server.connect().await;
    client.send([0x16, 3, 1]).await.unwrap();
    assert_eq!(client.closed().await, "");
    server.stop().await;
}

#[tokio::test]
async fn a_body_is_limited_announced_or_not() {
    let server = TestServer::start(WebConfig::default());
    let announced = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n".to_owned();
    let chunk = format!("1f5\r\n{}\r\n", "x".repeat(501));
    let chunked =
        format!("POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}");
    for request in [announced, chunked] {
        let mut client = server.connect().await;
        client.send(request).await.unwrap();
        let response = client.response().await.unwrap();
        assert_eq!((response.status, response.header("connection")), (413, Some("close")));
        assert!(response.text().contains("1000 bytes"), "{response:?}");
    }
    let mut client = server.connect().await;
    let (head, body) = ("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n", "x".repeat(LIMIT));
    client.send(format!("{head}{body}")).await.unwrap();
    assert_eq!(client.response().await.unwrap().text(), body);
    server.stop().await;
}

#[tokio::test]
async fn a_head_is_limited() {
    let server = TestServer::start(WebConfig::default());
    for head in ["x: y\r\n".repeat(97), format!("x: {}\r\n", "y".repeat(150_000))] {
        let mut client = server.connect().await;
        // The server may close the connection before it has read all of it.
        drop(client.send(format!("POST /echo HTTP/1.1\r\nhost: x\r\n{head}\r\n")).await);
        let received = client.closed().await;
        assert!(received.is_empty() || received.starts_with("HTTP/1.1 4"), "{received}");
        assert_eq!(received.matches("HTTP/1.1").count(), received.matches("HTTP/1.1 4").count());
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_sent_behind_a_request_that_waits_is_limited() {
    let server = TestServer::start(WebConfig::default());
    let mut client = server.connect().await;
    client.send(WAIT).await.unwrap();
    server.waiting(1).await;
    drop(client.send(WAIT.repeat(10_000)).await);
    server.waiting(0).await;
    client.closed().await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let config = WebConfig { write_timeout: SHORT, ..WebConfig::default() };
    let server = TestServer::start(config);
    let mut client = server.connect().await;
    let request =
        format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{}", "x".repeat(LIMIT));
    let flood = async { while client.send(&request).await.is_ok() {} };
    tokio::time::timeout(crate::testing::PATIENCE, flood).await.expect("the server reads on and on");
    server.stop().await;
}

#[tokio::test]
async fn further_connections_wait_for_a_place() {
    let config =
        WebConfig { max_connections: 1, workers: Some(std::num::NonZeroUsize::MIN), ..WebConfig::default() };
    let server = TestServer::start(config);
    let mut first = server.connect().await;
    first.send(WAIT).await.unwrap();
    server.waiting(1).await;
    let mut second = server.connect().await;
    second.send("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
    let early = tokio::time::timeout(SHORT, second.response()).await;
    assert!(early.is_err(), "{early:?}");
    server.waiting.go.add_permits(1);
    assert_eq!(first.response().await.unwrap().text(), "done");
    drop(first);
    assert_eq!(second.response().await.unwrap().text(), "hi");
    server.stop().await;
}
