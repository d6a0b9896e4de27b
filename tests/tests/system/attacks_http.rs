//! Attacks over HTTP, on the device interface and on the API.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::json;
use tests::api::http_client;
use tests::devices::{DeviceDriver, HttpDevice};
use tests::events::{EventStream, Query};
use tests::raw::{self, Raw};
use tests::secrets::payload;
use tests::server::{Server, shared};
use tests::tenant::Device;
use tests::wait::within;
use tests::waiting::{LONG, Waiting};

fn authorization(device: &Device) -> String {
    let credentials = BASE64_STANDARD.encode(format!("{}:{}", device.user(), device.secret));
    format!("authorization: Basic {credentials}\r\n")
}

#[tokio::test]
async fn attack_request_smuggling() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    let authorization = authorization(&device);
    let smuggled =
        format!("POST /v1/smuggled HTTP/1.1\r\nhost: x\r\n{authorization}content-length: 0\r\n\r\n");
    let framings = [
        ("1.1", "content-length: 4\r\ntransfer-encoding: chunked\r\n"),
        ("1.1", "transfer-encoding: chunked\r\ncontent-length: 4\r\n"),
        ("1.0", "transfer-encoding: chunked\r\n"),
        ("1.1", "content-length: 4\r\ncontent-length: 5\r\n"),
        ("1.1", "content-length: 4, 5\r\n"),
        ("1.1", "content-length: +4\r\n"),
        ("1.1", "content-length: 0x4\r\n"),
        ("1.1", "content-length: -1\r\n"),
        ("1.1", "content-length : 4\r\n"),
        ("1.1", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n"),
        ("1.1", "transfer-encoding: xchunked\r\n"),
        ("1.1", "transfer-encoding: chunked, identity\r\n"),
        ("1.1", "transfer-encoding : chunked\r\n"),
        ("1.1", "x: y\r\n continued: content-length\r\n"),
        ("1.1", "upgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 4\r\n"),
    ];
    for (version, framing) in framings {
        let mut connection = Raw::connect(tenant.gate().http).await;
        let request = format!(
            "POST /v1/outer HTTP/{version}\r\nhost: x\r\n{authorization}{framing}\r\n0\r\n\r\n{smuggled}"
        );
        connection.send(request).await;
        let answers = connection.read_to_end().await;
        let status = raw::status(&answers);
        assert!((400..=501).contains(&status) || answers.is_empty(), "{version} {framing:?}: {answers}");
        assert_eq!(
            answers.matches("HTTP/1.").count(),
            usize::from(!answers.is_empty()),
            "{framing:?}: {answers}"
        );
    }
    HttpDevice.publish(tenant.gate(), &device, "good", b"x").await.unwrap();
    assert_eq!(stream.next().await.attribute("subject"), "good", "nothing was smuggled in");
}

#[tokio::test]
async fn attack_topic_shape_in_paths() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    let authorization = authorization(&device);
    let long = "/".repeat(65_000);
    // By hand: a client would resolve the dots.
    for path in [
        "a/./b",
        "a/../b",
        "..",
        ".",
        "a/%2e%2e/b",
        "a%2f%2fb",
        "a%00b",
        "%ff%fe",
        "a%",
        "a%zz",
        "a%252fb",
        "",
        &long,
    ] {
        let mut connection = Raw::connect(tenant.gate().http).await;
        connection.send(format!("POST /v1/{path} HTTP/1.1\r\nhost: x\r\n{authorization}connection: close\r\ncontent-length: 0\r\n\r\n")).await;
        let answer = connection.read_to_end().await;
        let status = raw::status(&answer);
        assert!(matches!(status, 400 | 404 | 414 | 431), "{}: {answer}", &path[..path.len().min(20)]);
    }
    HttpDevice.publish(tenant.gate(), &device, "good", b"x").await.unwrap();
    assert_eq!(stream.next().await.attribute("subject"), "good");
}

#[tokio::test]
async fn attack_heads_without_end() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let many: String = (0..5_000).map(|number| format!("x-{number}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(300_000));
    let path = "a".repeat(300_000);
    let heads = [
        format!("POST /v1/a HTTP/1.1\r\nhost: x\r\n{many}\r\n"),
        format!("POST /v1/a HTTP/1.1\r\nhost: x\r\n{long}\r\n"),
        format!("POST /v1/{path} HTTP/1.1\r\nhost: x\r\n\r\n"),
    ];
    for head in heads {
        for address in [tenant.gate().http, shared().cloud().addresses.api] {
            let mut connection = Raw::connect(address).await;
            connection.send(&head).await;
            let answer = connection.read_to_end().await;
            let status = raw::status(&answer);
            assert!(matches!(status, 0 | 400 | 413 | 414 | 431), "{status}");
        }
    }
    assert_eq!(HttpDevice.publish(tenant.gate(), &device, "a", b"x").await, Ok(()));
}

#[tokio::test]
async fn attack_slow_clients() {
    let options = [
        "--http-tls-timeout=1s",
        "--http-head-timeout=1s",
        "--http-body-timeout=1s",
        "--http-idle-timeout=1s",
    ];
    let server = Server::start(&options).await;
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    let (http, https) = (server.cloud().addresses.http, server.cloud().addresses.https);
    let authorization = authorization(&device);
    let body = format!("POST /v1/a HTTP/1.1\r\nhost: x\r\n{authorization}content-length: 1000\r\n\r\nabc");
    let idle = format!("POST /v1/a HTTP/1.1\r\nhost: x\r\n{authorization}content-length: 0\r\n\r\n");
    let stages: [(&str, std::net::SocketAddr, &str, &[u16]); 6] = [
        ("nothing", http, "", &[0, 408]),
        ("no TLS handshake", https, "", &[0]),
        ("half a TLS handshake", https, "\u{16}\u{3}\u{1}", &[0]),
        ("half a head", http, "POST /v1/a HTTP/1.1\r\nhost:", &[0, 408]),
        ("half a body", http, &body, &[0, 408]),
        ("idle", http, &idle, &[202]),
    ];
    for (stage, address, bytes, expected) in stages {
        let mut connection = Raw::connect(address).await;
        connection.send(bytes).await;
        let answer = connection.read_to_end().await;
        assert!(expected.contains(&raw::status(&answer)), "{stage}: {answer}");
    }
    // A head that never stops, byte by byte: the time limit is for the whole of it.
    let mut connection = Raw::connect(http).await;
    connection.send("POST /v1/a HTTP/1.1\r\n").await;
    within("the server closes", async {
        while connection.send("x: y\r\n").await {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(HttpDevice.publish(tenant.gate(), &device, "a", b"x").await, Ok(()));
}

#[tokio::test]
async fn attack_header_injection() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let commands = format!("{}/commands", tenant.path(&device));
    for name in ["a%0d%0ax-evil:%201", "a%0ab", "a%20b", "a%22", "%E4", "a%00", "a%2fb", ".."] {
        let answer = tenant.api.post(&format!("{commands}/{name}"), "text/plain", "x").await;
        assert!(matches!(answer.status, 400 | 404 | 405), "{name}: {}", answer.status);
    }
    // A content type with a line break in it cannot be sent by a client: a folded header is the nearest.
    let api = shared().cloud().addresses.api;
    let head = format!(
        "POST /v1/{commands}/a HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n",
        tenant.api.token()
    );
    for content_type in ["text/plain\r\n x-evil: 1", "text/plain\rx-evil: 1", "text/\u{1}plain", "ä"] {
        let mut connection = Raw::connect(api).await;
        let request =
            format!("{head}content-type: {content_type}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        connection.send(request).await;
        let answer = connection.read_to_end().await;
        assert!(matches!(raw::status(&answer), 0 | 400), "{content_type:?}: {answer}");
    }
    // What is accepted comes out as one header and no more.
    let waiting = Waiting::begin(HttpDevice, &tenant, &device, LONG).await;
    let content_type = "text/plain; x=\"a: b, c\"";
    tenant
        .api
        .post(&format!("{commands}/good"), content_type, "a\r\nx-evil: 1\r\n\r\n")
        .await
        .expect_status(202);
    let command = waiting.end().await.expect("the command");
    assert_eq!((command.name.as_str(), &command.payload[..]), ("good", &b"a\r\nx-evil: 1\r\n\r\n"[..]));
}

#[tokio::test]
async fn attack_a_devices_own_headers_are_no_attributes() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    let request = http_client().post(format!("http://{}/v1/a", tenant.gate().http));
    let request = request.basic_auth(device.user(), Some(&device.secret));
    let request =
        request.header("ce-id", "x").header("ce-type", "io.drogue.command.v1").header("command", "x");
    let answer = request.header("content-type", "text/plain; x=\u{7f}").send().await;
    if let Ok(answer) = answer {
        assert_eq!(answer.status(), 400, "a content type that cannot be carried");
    }
    let request = http_client().post(format!("http://{}/v1/b", tenant.gate().http));
    let request = request.basic_auth(device.user(), Some(&device.secret));
    let answer =
        request.header("ce-type", "io.drogue.command.v1").header("ce-device", "other").send().await.unwrap();
    assert_eq!(answer.status(), 202);
    assert!(answer.headers().get("command").is_none());
    let received = stream.next().await;
    assert_eq!(received.attribute("type"), "io.drogue.telemetry.v1");
    assert_eq!(received.attribute("device"), device.name);
}

#[tokio::test]
async fn attack_crossing_tenants_by_path() {
    let (tenant, other) = (shared().cloud().tenant().await, shared().cloud().tenant().await);
    let victim = other.device().await;
    let waiting = Waiting::begin(HttpDevice, &other, &victim, LONG).await;
    let (own, theirs) = (&tenant.app, &other.app);
    let paths = [
        format!("apps/{theirs}/devices/{}/commands/x", victim.name),
        format!("apps/{own}/devices/..%2f..%2f{theirs}%2fdevices%2f{}/commands/x", victim.name),
        format!("apps/{own}%2f..%2f{theirs}/devices/{}/commands/x", victim.name),
        format!("apps/{}/devices/{}/commands/x", theirs.to_uppercase(), victim.name),
        format!("apps/{own}/devices/%2e%2e/commands/x"),
        format!("apps/{own}/devices/{}%40{theirs}/commands/x", victim.name),
        format!("apps//devices/{}/commands/x", victim.name),
        format!("apps/{own}%00/devices/{}/commands/x", victim.name),
    ];
    for path in &paths {
        let mut connection = Raw::connect(tenant.api.address()).await;
        // By hand: a client would resolve the dots.
        let token = tenant.api.token();
        let request = format!(
            "POST /v1/{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        connection.send(request).await;
        let status = raw::status(&connection.read_to_end().await);
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
    for path in ["", "/devices", "/tokens", &format!("/devices/{}", victim.name)] {
        tenant.api.get(&format!("apps/{theirs}{path}")).await.expect_problem(404);
    }
    tenant.api.put(&format!("apps/{theirs}/devices/x"), &json!({})).await.expect_problem(404);
    tenant.api.delete(&format!("apps/{theirs}/devices/{}", victim.name)).await.expect_problem(404);
    let stream = EventStream::open(&tenant.api, theirs, &Query::telemetry()).await;
    stream.unwrap_err().expect_problem(404);
    // A percent-encoded id is the id that it stands for: the same right, the same device.
    let encoded: String = victim.name.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let path = format!("apps/{theirs}/devices/{encoded}/commands/right");
    other.api.post(&path, "text/plain", payload()).await.expect_status(202);
    assert_eq!(waiting.end().await.map(|command| command.name), Some("right".into()));
}

#[tokio::test]
async fn attack_malformed_authorization() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let good = authorization(&device);
    let values = [
        String::new(),
        "authorization: Basic\r\n".into(),
        "authorization: Basic !!!\r\n".into(),
        "authorization: Basic dXNlcg==\r\n".into(),
        "authorization: Basic /////w==\r\n".into(),
        format!("authorization: Bearer {}\r\n", device.secret),
        good.replace("Basic ", "Basic  x"),
        format!("authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{}:", device.user()))),
        format!("{good}{}", good.replace("Basic", "Bearer")),
    ];
    for value in values {
        let mut connection = Raw::connect(tenant.gate().http).await;
        let request = format!(
            "POST /v1/a HTTP/1.1\r\nhost: x\r\n{value}connection: close\r\ncontent-length: 0\r\n\r\n"
        );
        connection.send(request).await;
        let answer = connection.read_to_end().await;
        assert!(matches!(raw::status(&answer), 400 | 401), "{value:?}: {answer}");
    }
    for token in
        ["", "x", "drogue_", &device.secret, &tenant.api.token()[..40], &format!("{}x", tenant.api.token())]
    {
        let answer = tenant.api.with_token(token).get(&format!("apps/{}", tenant.app)).await;
        answer.expect_problem(401);
    }
}
