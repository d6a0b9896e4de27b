//! Requests of which two servers may think differently where they end.

use super::*;

const SMUGGLED: &str = "POST /wait HTTP/1.1\r\nhost: x\r\n\r\n";

/// Sends a request with something behind it, and asserts that it is refused, and that the rest is not looked at.
async fn refused(server: &TestServer, case: &str, request: &str) {
    let mut client = server.connect().await;
    drop(client.send(format!("{request}{SMUGGLED}")).await);
    let received = client.closed().await;
    assert!(received.starts_with("HTTP/1.1 400"), "{case}: {received:?}");
    let answers = received.matches("HTTP/1.1 ").count();
    assert_eq!(answers, 1, "{case}: {received:?}");
    assert_eq!(server.waiting.count.load(Ordering::SeqCst), 0, "{case}");
}

#[tokio::test]
async fn request_smuggling_is_refused_by_the_head() {
    let server = TestServer::start(WebConfig::default());
    let head = |fields: &str, body: &str| format!("POST /echo HTTP/1.1\r\nhost: x\r\n{fields}\r\n{body}");
    let chunks = "0\r\n\r\n";
    for (case, request) in [
        ("CL.TE", head("content-length: 5\r\ntransfer-encoding: chunked\r\n", chunks)),
        ("TE.CL", head("transfer-encoding: chunked\r\ncontent-length: 5\r\n", chunks)),
        ("CL twice", head("content-length: 5\r\ncontent-length: 5\r\n", chunks)),
        ("CL list", head("content-length: 5, 5\r\n", chunks)),
        ("CL signed", head("content-length: +5\r\n", chunks)),
        ("CL hexadecimal", head("content-length: 0x5\r\n", chunks)),
        ("CL negative", head("content-length: -5\r\n", chunks)),
        ("CL empty", head("content-length:\r\n", chunks)),
        ("CL huge", head("content-length: 99999999999999999999\r\n", chunks)),
        ("TE twice", head("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", chunks)),
        ("TE list", head("transfer-encoding: chunked, identity\r\n", chunks)),
        ("TE not final", head("transfer-encoding: chunked, gzip\r\n", chunks)),
        ("TE identity", head("transfer-encoding: identity\r\n", chunks)),
        ("TE unknown", head("transfer-encoding: xchunked\r\n", chunks)),
        ("TE vertical tab", head("transfer-encoding: \x0bchunked\r\n", chunks)),
        ("space before the colon", head("transfer-encoding : chunked\r\n", chunks)),
        ("folded", head("transfer-encoding:\r\n chunked\r\n", chunks)),
        ("TE in HTTP/1.0", format!("POST /echo HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")),
        ("TE and CL in HTTP/1.0", {
            let fields = "transfer-encoding: chunked\r\ncontent-length: 5\r\n";
            format!("POST /echo HTTP/1.0\r\n{fields}\r\n{chunks}")
        }),
        ("no host", "POST /echo HTTP/1.1\r\ncontent-length: 0\r\n\r\n".to_owned()),
        ("host twice", head("host: y\r\n", "")),
        ("bare CR", head("x: a\rb\r\n", "")),
        ("NUL", head("x: a\0b\r\n", "")),
        ("websocket", head("upgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 5\r\n", chunks)),
    ] {
        refused(&server, case, &request).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn request_smuggling_is_refused_in_chunks() {
    let server = TestServer::start(WebConfig::default());
    for (case, chunks) in [
        ("no number", "x\r\n"),
        ("prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("signed", "+3\r\nabc\r\n0\r\n\r\n"),
        ("negative", "-3\r\nabc\r\n0\r\n\r\n"),
        ("huge", "11111111111111111\r\nabc\r\n0\r\n\r\n"),
        ("space within", "3 3\r\nabc\r\n0\r\n\r\n"),
        ("bare LF", "3\nabc\n0\n\n"),
        ("LF in the extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
        ("too long", "3\r\nabcdef\r\n0\r\n\r\n"),
        ("too short", "5\r\nabc\r\n0\r\n\r\n"),
        ("CR only", "3\r\nabc\rx0\r\n\r\n"),
    ] {
        let head = "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        refused(&server, case, &format!("{head}{chunks}")).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn connect_and_upgrades_lead_nowhere() {
    let server = TestServer::start(WebConfig::default());
    for (request, status) in [
        ("CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        ("POST /wait HTTP/1.1\r\nhost: x\r\nupgrade: WebSocket\r\nconnection: upgrade\r\n\r\n", 400),
    ] {
        let mut client = server.connect().await;
        client.send(format!("{request}{SMUGGLED}")).await.unwrap();
        assert_eq!(client.response().await.unwrap().status, status, "{request}");
        assert_eq!(client.closed().await, "", "{request}");
    }
    assert_eq!(server.waiting.count.load(Ordering::SeqCst), 0);
    // An offer of HTTP/2 may be ignored, and the request goes on.
    let mut client = server.connect().await;
    let offer =
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n";
    client
        .send(format!("POST /echo HTTP/1.1\r\nhost: x\r\n{offer}content-length: 2\r\n\r\nhi"))
        .await
        .unwrap();
    assert_eq!(client.response().await.unwrap().text(), "hi");
    server.stop().await;
}
