//! The stream of events: where it starts, what it leaves out, and how it resumes.

use serde_json::json;
use tests::api::http_client;
use tests::devices::{DeviceDriver, HttpDevice, MqttDevice};
use tests::events::{EventStream, Query, Received};
use tests::secrets::payload;
use tests::server::{Server, shared};
use tests::tenant::{Device, Tenant};

async fn publish(tenant: &Tenant, device: &Device, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let (subject, payload) = (format!("n{number}"), payload());
        let published = HttpDevice.publish(tenant.gate(), device, &subject, payload.as_bytes());
        assert_eq!(published.await, Ok(()));
    }
}

fn subjects(events: &[Received]) -> Vec<&str> {
    events.iter().map(|event| event.attribute("subject")).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("n{number}")).collect()
}

#[tokio::test]
async fn it_resumes_with_nothing_missed_and_nothing_twice() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    publish(&tenant, &device, 0..10).await;
    let events = tenant.events(&Query::telemetry().from_earliest()).await.take(10).await;
    assert_eq!(subjects(&events), numbers(0..10));
    // After every position, and while more is published.
    let (more, ()) = tokio::join!(
        async {
            let mut rest = Vec::new();
            for event in &events {
                let mut stream = tenant.events(&Query::telemetry().after(&event.position)).await;
                rest.push(stream.next().await);
            }
            rest
        },
        publish(&tenant, &device, 10..20),
    );
    assert_eq!(subjects(&more), numbers(1..11));
    let mut stream = tenant.events(&Query::telemetry().after(&events[4].position)).await;
    assert_eq!(subjects(&stream.take(15).await), numbers(5..20));
}

#[tokio::test]
async fn it_resumes_across_restarts() {
    let mut server = Server::start(&[]).await;
    let mut tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    let mut position = None;
    for round in 0..3 {
        publish(&tenant, &device, round * 10..round * 10 + 10).await;
        // The first five are read before the restart, the others after it.
        let events = stream.take(5).await;
        assert_eq!(subjects(&events), numbers(round * 10..round * 10 + 5));
        position.replace(events[4].position.clone());
        server.restart().await;
        tenant = tenant.moved_to(server.cloud());
        stream = tenant.events(&Query::telemetry().after(position.clone().unwrap())).await;
        assert_eq!(subjects(&stream.take(5).await), numbers(round * 10 + 5..round * 10 + 10));
    }
}

#[tokio::test]
async fn a_position_that_retention_has_passed_is_410() {
    let server = Server::start(&["--log-retention-size=200000", "--log=info"]).await;
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    publish(&tenant, &device, 0..2).await;
    let first = tenant.events(&Query::telemetry().from_earliest()).await.next().await.position;
    let large = vec![b'x'; 50_000];
    let gone = async {
        loop {
            HttpDevice.publish(tenant.gate(), &device, "large", &large).await.unwrap();
            let resumed =
                EventStream::open(&tenant.api, &tenant.app, &Query::telemetry().after(&first)).await;
            if let Err(answer) = resumed {
                return answer;
            }
        }
    };
    tests::wait::within("retention passes the position", gone).await.expect_problem(410);
    let mut earliest = tenant.events(&Query::telemetry().from_earliest()).await;
    assert_eq!(earliest.next().await.attribute("subject"), "large");
}

#[tokio::test]
async fn a_position_that_is_none_is_400() {
    let tenant = shared().cloud().tenant().await;
    for position in ["nonsense", "-1", "telemetry:x", "99999999999999999999"] {
        let query = Query::telemetry().after(position);
        let answer = EventStream::open(&tenant.api, &tenant.app, &query).await.unwrap_err();
        answer.expect_problem(400);
    }
}

#[tokio::test]
async fn it_starts_where_it_is_told_to() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    publish(&tenant, &device, 0..3).await;
    let mut latest = tenant.events(&Query::telemetry()).await;
    let mut said = tenant.events(&Query { from: Some("latest"), ..Query::telemetry() }).await;
    let mut earliest = tenant.events(&Query::telemetry().from_earliest()).await;
    // The head of each is here: whatever is accepted now is in each.
    publish(&tenant, &device, 3..6).await;
    assert_eq!(subjects(&latest.take(3).await), numbers(3..6));
    assert_eq!(subjects(&said.take(3).await), numbers(3..6));
    assert_eq!(subjects(&earliest.take(6).await), numbers(0..6));
    let bad = Query { from: Some("yesterday"), ..Query::telemetry() };
    EventStream::open(&tenant.api, &tenant.app, &bad).await.unwrap_err().expect_problem(400);
}

#[tokio::test]
async fn it_is_filtered_by_channel_and_device() {
    let tenant = shared().cloud().tenant().await;
    let (device, other) = (tenant.device().await, tenant.device().await);
    let mut of_device = tenant.events(&Query::telemetry().of(&device.name)).await;
    let mut commands = tenant.events(&Query { channels: vec!["commands"], ..Query::default() }).await;
    let mut both =
        tenant.events(&Query { channels: vec!["telemetry", "commands"], ..Query::default() }).await;
    let mut all = tenant.events(&Query::default()).await;
    publish(&tenant, &other, 0..3).await;
    publish(&tenant, &device, 3..4).await;
    tenant.command(&device, "set-temp", &payload()).await;
    publish(&tenant, &device, 4..5).await;
    assert_eq!(subjects(&of_device.take(2).await), numbers(3..5));
    let command = commands.next().await;
    assert_eq!(command.attribute("type"), "io.drogue.command.v1");
    assert_eq!(command.attribute("subject"), "set-temp");
    // Order holds per device and channel only. What became of the command is in the third channel.
    for (stream, commands) in [(&mut both, 1), (&mut all, 2)] {
        let events = stream.take(5 + commands).await;
        let mut subjects = subjects(&events);
        subjects.sort_unstable();
        assert_eq!(subjects[..5], ["n0", "n1", "n2", "n3", "n4"]);
        assert_eq!(subjects[5..], vec!["set-temp"; commands]);
    }
    let unknown = Query { channels: vec!["nothing"], ..Query::default() };
    EventStream::open(&tenant.api, &tenant.app, &unknown).await.unwrap_err().expect_problem(400);
}

#[tokio::test]
async fn it_is_of_one_application() {
    let (tenant, other) = (shared().cloud().tenant().await, shared().cloud().tenant().await);
    let (device, stranger) = (tenant.device().await, other.device().await);
    let mut stream = tenant.telemetry().await;
    publish(&other, &stranger, 0..3).await;
    publish(&tenant, &device, 3..4).await;
    assert_eq!(stream.next().await.attribute("subject"), "n3");
    let foreign = EventStream::open(&tenant.api, &other.app, &Query::telemetry()).await.unwrap_err();
    foreign.expect_problem(404);
    let without_scope = tenant.api.with_token_for(&tenant.app, &["command"]).await;
    EventStream::open(&without_scope, &tenant.app, &Query::telemetry())
        .await
        .unwrap_err()
        .expect_problem(403);
}

#[tokio::test]
async fn json_is_its_own_text() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    // A number that no double holds, a member twice, and spaces: printed again, each would be another text.
    let text = r#"{ "a" : 1.000000000000000000000000001, "a":2 }"#;
    let post = |content_type: &'static str, body: &'static str| {
        let request = http_client().post(format!("http://{}/v1/a", tenant.gate().http));
        let request = request.basic_auth(device.user(), Some(&device.secret));
        request.header("content-type", content_type).body(body).send()
    };
    for content_type in ["application/json", "application/vnd.x+json"] {
        assert_eq!(post(content_type, text).await.unwrap().status(), 202);
        let received = stream.next().await;
        assert!(received.text.contains(text), "{}", received.text);
        assert_eq!(received.attribute("datacontenttype"), content_type);
    }
    // What only says that it is JSON is carried all the same, and breaks no line of the stream.
    assert_eq!(post("application/json", "{\n\n\"a\":").await.unwrap().status(), 202);
    let broken = stream.next().await;
    assert_eq!(broken.event["data_base64"], json!("ewoKImEiOg=="));
    assert_eq!(post("application/json", "{\n\n\"a\": [1,\n2]}").await.unwrap().status(), 202);
    let lines = stream.next().await;
    assert_eq!(lines.event["data"], json!({"a": [1, 2]}));
}

#[tokio::test]
async fn a_comment_keeps_it_alive() {
    let tenant = shared().cloud().tenant().await;
    let mut stream = tenant.telemetry().await;
    let comment = tokio::time::timeout(std::time::Duration::from_secs(20), stream.comment()).await;
    assert!(comment.is_ok(), "a comment comes at least every 15 s");
}

#[tokio::test]
async fn telemetry_says_for_how_long_its_device_waits() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    let wait = std::time::Duration::from_millis(250);
    HttpDevice.exchange(tenant.gate(), &device, "a", b"x", wait).await.unwrap();
    HttpDevice.publish(tenant.gate(), &device, "b", b"x").await.unwrap();
    MqttDevice::<true>.publish(tenant.gate(), &device, "c", b"x").await.unwrap();
    let events = stream.take(3).await;
    assert_eq!(events[0].event["ttd"], json!("0.25"));
    assert!(events[1..].iter().all(|event| event.event.get("ttd").is_none()));
}
