//! The status of every answer.

use common::auth::AuthError;

use super::*;

#[tokio::test]
async fn telemetry_is_accepted() {
    let endpoint = TestEndpoint::start().await;
    let response = endpoint.ask(post("/v1/temperature", &[])).await;
    assert_eq!((response.status, response.text().as_str()), (202, ""));
    assert_eq!(response.header("command"), None);
    assert_eq!(response.header("ttd"), None);
    assert_eq!(endpoint.channel.events(Channel::Telemetry).len(), 1);
    endpoint.stop().await;
}

#[tokio::test]
async fn promise_1_accepted_means_persisted() {
    let endpoint = TestEndpoint::start().await;
    endpoint.channel.hold();
    let mut client = endpoint.send(post("/v1/temperature", &[])).await;
    endpoint.published(1).await;
    let early = tokio::time::timeout(SHORT, client.response()).await;
    assert!(early.is_err(), "answered before the acknowledgement: {early:?}");
    endpoint.channel.release(Ok(()));
    assert_eq!(client.response().await.unwrap().status, 202);

    endpoint.channel.fail_all(Some(unavailable()));
    for target in ["/v1/temperature", "/v1/temperature?ttd=30"] {
        let response = endpoint.ask(post(target, &[])).await;
        assert_problem(&response, 503);
        assert!(response.header("retry-after").is_some());
    }
    endpoint.channel.fail_all(None);
    assert_eq!(endpoint.ask(post("/v1/temperature", &[])).await.status, 202);
    endpoint.stop().await;
}

#[tokio::test]
async fn an_acknowledgement_that_does_not_come_is_503() {
    let limits = Limits { publish_timeout: SHORT, ..Limits::default() };
    let endpoint = TestEndpoint::with(limits, Config::default()).await;
    endpoint.channel.hold();
    for target in ["/v1/temperature", "/v1/temperature?ttd=30"] {
        assert_problem(&endpoint.ask(post(target, &[])).await, 503);
    }
    endpoint.stop().await;
}

#[tokio::test]
async fn what_the_channel_refuses_has_its_own_status() {
    let endpoint = TestEndpoint::start().await;
    for (error, status) in [(PublishError::Overloaded, 429), (PublishError::TooLarge, 413)] {
        endpoint.channel.fail_next(error);
        assert_problem(&endpoint.ask(post("/v1/temperature", &[])).await, status);
    }
    endpoint.stop().await;
}

#[tokio::test]
async fn wrong_credentials_are_401_whatever_is_wrong() {
    let endpoint = TestEndpoint::start().await;
    for login in [
        "x: y".to_owned(),
        basic("d1", "wrong"),
        basic("d2", "secret"),
        basic("d1@other", "secret"),
        basic("d1/../d1", "secret"),
        basic("#", "secret"),
        "authorization: Bearer c2VjcmV0".to_owned(),
        "authorization: Basic ***".to_owned(),
        format!("{}\r\n{}", basic("d1", "secret"), basic("d1", "secret")),
    ] {
        // Who is not known does not learn what else is wrong.
        for target in ["/v1/temperature", "/v1/cmd", "/v1/temperature?ttd=x"] {
            let request = format!("POST {target} HTTP/1.1\r\nhost: x\r\n{login}\r\n\r\n");
            let response = endpoint.ask(request).await;
            assert_problem(&response, 401);
            let challenge = response.header("www-authenticate").unwrap_or_default();
            assert!(challenge.starts_with("Basic realm="), "{response:?}");
        }
    }
    assert_eq!(endpoint.channel.events(Channel::Telemetry), []);
    let explicit = format!("POST /v1/t HTTP/1.1\r\nhost: x\r\n{}\r\n\r\n", basic("d1@default", "secret"));
    assert_eq!(endpoint.ask(explicit).await.status, 202);
    endpoint.stop().await;
}

#[tokio::test]
async fn a_stranger_is_answered_before_the_body_is_read() {
    let endpoint = TestEndpoint::start().await;
    let login = basic("d1", "wrong");
    let request = format!("POST /v1/t HTTP/1.1\r\nhost: x\r\n{login}\r\ncontent-length: 200000\r\n\r\n");
    let response = endpoint.ask(request).await;
    assert_problem(&response, 401);
    assert_eq!(response.header("connection"), Some("close"));
    endpoint.stop().await;
}

#[tokio::test]
async fn a_registry_that_cannot_tell_is_no_wrong_password() {
    let endpoint = TestEndpoint::start().await;
    for (failure, status) in [(AuthError::Busy, 429), (AuthError::Unavailable, 503)] {
        endpoint.devices.set_failure(Some(failure));
        let response = endpoint.ask(post("/v1/temperature", &[])).await;
        assert_problem(&response, status);
        assert_eq!(response.header("www-authenticate"), None);
    }
    endpoint.stop().await;
}

#[tokio::test]
async fn a_bad_request_is_400_and_says_what_is_bad() {
    let endpoint = TestEndpoint::start().await;
    for (target, detail) in [
        ("/v1/", "levels"),
        ("/v1/a//b", "levels"),
        ("/v1/a/", "levels"),
        ("/v1/a/../b", "levels"),
        ("/v1/a/%2e%2e/b", "levels"),
        ("/v1/a%2Fb", "levels"),
        ("/v1/a%00", "levels"),
        ("/v1/%ff", "levels"),
        ("/v1/a%2525", "levels"),
        ("/v1/cmd", "own"),
        ("/v1/%63md/x", "own"),
        ("/v1/commands/x", "own"),
        ("/v1/reply", "own"),
        ("/v1/t?ttd=-1", "ttd=30"),
        ("/v1/t?ttd=NaN", "ttd=30"),
        ("/v1/t?ttd=1&ttd=2", "more than once"),
        ("/v1/t?device=d2", "device"),
    ] {
        let response = endpoint.ask(post(target, &[])).await;
        assert_problem(&response, 400);
        assert!(response.text().contains(detail), "{target}: {response:?}");
    }
    let deep = format!("/v1/a{}", "/a".repeat(16));
    assert_problem(&endpoint.ask(post(&deep, &[])).await, 400);
    assert_problem(&endpoint.ask(post(&format!("/v1/{}", "/".repeat(65_000)), &[])).await, 400);
    for field in ["content-type: \u{7f}", "content-type:", "content-type: a\r\ncontent-type: b"] {
        assert!(endpoint.ask(post("/v1/t", &[field])).await.status == 400, "{field:?}");
    }
    assert_problem(&endpoint.ask(post("/v1/t", &["content-encoding: gzip"])).await, 415);
    assert_eq!(endpoint.channel.events(Channel::Telemetry), []);
    endpoint.stop().await;
}

#[tokio::test]
async fn other_paths_and_methods_are_problems() {
    let endpoint = TestEndpoint::start().await;
    for (line, status) in
        [("POST /", 404), ("POST /v1", 404), ("POST /v2/t", 404), ("POST /%761/t", 404), ("GET /v1/t", 405)]
    {
        let response = endpoint.ask(format!("{line} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert_problem(&response, status);
        assert_eq!(response.header("allow"), (status == 405).then_some("POST"));
    }
    endpoint.stop().await;
}
