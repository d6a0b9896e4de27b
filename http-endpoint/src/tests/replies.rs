//! Replies to commands.

use common::event::{OCTET_STREAM, extension};
use common::outcome::State;

use super::*;

/// Makes a request of `d1` with the reply `42`.
fn reply(id: &str, query: &str) -> String {
    post(&format!("/v1/commands/{id}/reply{query}"), &[])
}

impl TestEndpoint {
    /// Gives `d1` a command, and returns its id.
    async fn deliver(&self) -> String {
        let before = self.channel.events(Channel::Telemetry).len();
        let mut client = self.send(post("/v1/temperature?ttd=30", &[])).await;
        self.published(before + 1).await;
        self.channel.send(command(&d1(), "ask".parse().unwrap(), b"?"));
        client.response().await.unwrap().header("command-id").unwrap().to_owned()
    }

    fn replies(&self) -> Vec<common::event::Event> {
        let mut outcomes = self.channel.events(Channel::Outcomes);
        outcomes.retain(|event| event.kind == "io.drogue.command.replied.v1");
        outcomes
    }
}

#[tokio::test]
async fn a_reply_is_accepted_once() {
    let endpoint = TestEndpoint::start().await;
    let id = endpoint.deliver().await;
    let typed = post(&format!("/v1/commands/{id}/reply?status=403"), &["content-type: text/plain; x=\"y\""]);
    let response = endpoint.ask(typed).await;
    assert_eq!((response.status, response.text().as_str()), (202, ""), "{response:?}");
    let [event] = &endpoint.replies()[..] else { panic!("one outcome: {:?}", endpoint.replies()) };
    assert_eq!((&event.device, event.subject.as_str(), &event.data[..]), (&d1(), "ask", b"42".as_slice()));
    assert_eq!(event.content_type, "text/plain; x=\"y\"");
    assert_eq!(event.extension(extension::STATUS), Some("403"));
    assert_eq!(event.extension(extension::CORRELATION_ID), Some(id.as_str()));

    let second = endpoint.ask(reply(&id, "?status=200")).await;
    assert_problem(&second, 409);
    assert!(second.text().contains("a reply already"), "{second:?}");
    assert_eq!(endpoint.replies().len(), 1);
    endpoint.stop().await;
}

#[tokio::test]
async fn what_a_reply_leaves_out_is_filled_in() {
    let endpoint = TestEndpoint::start().await;
    // What another replica delivered; the id is encoded, as it may be.
    let command = command(&d1(), "ask".parse().unwrap(), b"?");
    endpoint.sent.set(&command, State::Delivered);
    let encoded = command.id.as_str().replace('-', "%2D");
    assert_eq!(endpoint.ask(reply(&encoded, "")).await.status, 202);
    let event = &endpoint.replies()[0];
    assert_eq!(
        (event.content_type.as_ref(), event.extension(extension::STATUS)),
        (OCTET_STREAM, Some("200"))
    );
    endpoint.stop().await;
}

#[tokio::test]
async fn accepted_means_persisted() {
    let endpoint = TestEndpoint::start().await;
    let id = endpoint.deliver().await;
    for (error, status) in
        [(unavailable(), 503), (PublishError::Overloaded, 429), (PublishError::TooLarge, 413)]
    {
        endpoint.channel.fail_next(error);
        assert_problem(&endpoint.ask(reply(&id, "")).await, status);
    }
    endpoint.channel.hold();
    let mut client = endpoint.send(reply(&id, "")).await;
    eventually("the reply is published", || endpoint.channel.held() == 1).await;
    let early = tokio::time::timeout(SHORT, client.response()).await;
    assert!(early.is_err(), "answered before the acknowledgement: {early:?}");
    endpoint.channel.release(Ok(()));
    assert_eq!(client.response().await.unwrap().status, 202);
    endpoint.stop().await;
}

#[tokio::test]
async fn only_the_device_that_was_sent_the_command_may_reply() {
    let endpoint = TestEndpoint::start().await;
    let id = endpoint.deliver().await;
    let d2 = DeviceKey::from_bytes(b"default/d2").unwrap();
    endpoint.devices.set(&d2, "secret");
    let foreign = reply(&id, "").replace(&basic("d1", "secret"), &basic("d2", "secret"));
    let foreign = endpoint.ask(foreign).await;
    let unknown = endpoint.ask(reply("0193aaaa-0000-7000-8000-000000000000", "")).await;
    assert_problem(&foreign, 404);
    assert_eq!((foreign.status, &foreign.body), (unknown.status, &unknown.body));

    let cancelled = command(&d1(), "ask".parse().unwrap(), b"?");
    endpoint.sent.set(&cancelled, State::Cancelled);
    let late = endpoint.ask(reply(cancelled.id.as_str(), "")).await;
    assert_problem(&late, 409);
    assert!(late.text().contains("cancelled"), "{late:?}");
    endpoint.sent.set_failing(true);
    assert_problem(&endpoint.ask(reply("unknown", "")).await, 503);
    assert_eq!(endpoint.replies(), []);
    assert_eq!(endpoint.ask(reply(&id, "")).await.status, 202);
    endpoint.stop().await;
}

#[tokio::test]
async fn a_bad_reply_says_what_is_bad() {
    let endpoint = TestEndpoint::start().await;
    let id = endpoint.deliver().await;
    for (id, query, detail) in [
        (id.as_str(), "?status=99", "100 to 599"),
        (&id, "?status=600", "100 to 599"),
        (&id, "?status=", "100 to 599"),
        (&id, "?status=200&status=200", "more than once"),
        (&id, "?ttd=30", "known are 'status'"),
        ("a%2Fb", "", "A-Z a-z 0-9"),
        ("", "", "1 to"),
        ("a/b", "", "own"),
    ] {
        let response = endpoint.ask(reply(id, query)).await;
        assert_problem(&response, 400);
        assert!(response.text().contains(detail), "{id}{query}: {response:?}");
    }
    assert_problem(&endpoint.ask(reply(&id, "").replace("POST", "GET")).await, 405);
    let stranger = endpoint.ask(reply(&id, "").replace(&basic("d1", "secret"), &basic("d1", "wrong"))).await;
    assert_problem(&stranger, 401);
    let wrong = reply(&id, "").replace("content-length", "content-encoding: gzip\r\ncontent-length");
    assert_problem(&endpoint.ask(wrong).await, 415);
    assert_eq!((endpoint.replies(), endpoint.channel.events(Channel::Telemetry).len()), (vec![], 1));
    endpoint.stop().await;
}

#[tokio::test]
async fn a_reply_has_the_limits_of_telemetry() {
    let limits = Limits { max_payload: 1, publish_timeout: SHORT, ..Limits::default() };
    let config = Config { http_body_timeout: SHORT, ..Config::default() };
    let endpoint = TestEndpoint::with(limits, config).await;
    let command = command(&d1(), "ask".parse().unwrap(), b"?");
    endpoint.sent.set(&command, State::Delivered);
    let request = reply(command.id.as_str(), "");
    assert_problem(&endpoint.ask(&request).await, 413);
    let one = request.replace("content-length: 2", "content-length: 1");
    assert_problem(&endpoint.ask(&one[..one.len() - 2]).await, 408);
    endpoint.channel.hold();
    assert_problem(&endpoint.ask(&one[..one.len() - 1]).await, 503);
    endpoint.stop().await;
}
