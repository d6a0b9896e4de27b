//! Commands in the response.

use common::event::TELEMETRY_TYPE;
use common::records::OrderRecord;

use super::*;

fn set_temp() -> common::command::Command {
    let mut command = command(&d1(), "set-temp".parse().unwrap(), br#"{"set-temp": 40}"#);
    command.content_type = "application/json".to_owned();
    command
}

fn assert_command(response: &HttpResponse, command: &common::command::Command) {
    assert_eq!(response.status, 202, "{response:?}");
    assert_eq!(response.header("command"), Some(command.name.as_str()));
    assert_eq!(response.header("command-id"), Some(command.id.as_str()));
    assert_eq!(response.header("content-type"), Some(command.content_type.as_str()));
    assert_eq!(response.body, command.payload);
}

fn assert_no_command(response: &HttpResponse) {
    assert_eq!((response.status, response.text().as_str()), (202, ""), "{response:?}");
    assert_eq!((response.header("command"), response.header("content-type")), (None, None));
}

#[tokio::test]
async fn a_waiting_device_gets_the_command() {
    let endpoint = TestEndpoint::start().await;
    let mut client = endpoint.send(post("/v1/temperature?ttd=30", &[])).await;
    endpoint.published(1).await;
    let command = set_temp();
    endpoint.channel.send(command.clone());
    assert_command(&client.response().await.unwrap(), &command);
    // The connection lives on, and so does what a command without a payload says.
    client.send(post("/v1/temperature?ttd=90", &[])).await.unwrap();
    endpoint.published(2).await;
    let empty = self::command(&d1(), "ping".parse().unwrap(), b"");
    endpoint.channel.send(empty.clone());
    let response = client.response().await.unwrap();
    assert_command(&response, &empty);
    assert_eq!(response.header("ttd"), Some("60"));
    endpoint.stop().await;
}

#[tokio::test]
async fn without_a_command_the_wait_ends_in_time() {
    let endpoint = TestEndpoint::start().await;
    assert_no_command(&endpoint.ask(post("/v1/temperature?ttd=0.1", &[])).await);
    endpoint.channel.send(set_temp());
    assert_no_command(&endpoint.ask(post("/v1/temperature?ttd=0.1", &[])).await);
    endpoint.stop().await;
}

#[tokio::test]
async fn promise_2_an_application_that_answers_at_once_is_not_too_early() {
    let endpoint = TestEndpoint::start().await;
    let command = set_temp();
    let reaction = command.clone();
    endpoint.channel.on_publish(move |channel, _, event| {
        if event.kind == TELEMETRY_TYPE {
            channel.send(reaction.clone());
        }
    });
    let mut client = HttpClient::connect(endpoint.address).await.unwrap();
    for _ in 0..1_000 {
        client.send(post("/v1/temperature?ttd=30", &[])).await.unwrap();
        assert_command(&client.response().await.unwrap(), &command);
    }
    endpoint.stop().await;
}

#[tokio::test]
async fn a_command_waits_for_the_acknowledgement() {
    let endpoint = TestEndpoint::start().await;
    endpoint.channel.hold();
    let mut client = endpoint.send(post("/v1/temperature?ttd=30", &[])).await;
    endpoint.published(1).await;
    let command = set_temp();
    endpoint.channel.send(command.clone());
    let early = tokio::time::timeout(SHORT, client.response()).await;
    assert!(early.is_err(), "answered before the acknowledgement: {early:?}");
    endpoint.channel.release(Ok(()));
    assert_command(&client.response().await.unwrap(), &command);
    endpoint.stop().await;
}

#[tokio::test]
async fn a_command_does_not_come_with_an_error() {
    let endpoint = TestEndpoint::start().await;
    endpoint.channel.hold();
    let mut failed = endpoint.send(post("/v1/temperature?ttd=30", &[])).await;
    endpoint.published(1).await;
    let command = set_temp();
    endpoint.channel.send(command.clone());
    endpoint.channel.release(Err(unavailable()));
    let response = failed.response().await.unwrap();
    assert_problem(&response, 503);
    assert_eq!(response.header("command"), None);
    // It is given back, as nothing of it was written.
    let released = || {
        let events = endpoint.channel.events(Channel::Commands);
        events.iter().filter_map(|event| OrderRecord::from_event(event).unwrap()).find_map(|record| {
            let OrderRecord::Released(released) = record else { return None };
            Some((released.given.command, released.reason))
        })
    };
    eventually("it is given back", || released() == Some((command.id.clone(), None))).await;
    endpoint.stop().await;
}

#[tokio::test]
async fn of_two_waits_the_newest_gets_the_command() {
    let endpoint = TestEndpoint::start().await;
    let mut older = endpoint.send(post("/v1/temperature?ttd=30", &[])).await;
    endpoint.published(1).await;
    let mut newer = endpoint.send(post("/v1/temperature?ttd=30", &[])).await;
    endpoint.published(2).await;
    let (first, second) = (set_temp(), set_temp());
    endpoint.channel.send(first.clone());
    assert_command(&newer.response().await.unwrap(), &first);
    endpoint.channel.send(second.clone());
    assert_command(&older.response().await.unwrap(), &second);
    endpoint.stop().await;
}

#[tokio::test]
async fn an_expired_command_is_not_delivered() {
    let endpoint = TestEndpoint::start().await;
    let mut client = endpoint.send(post("/v1/temperature?ttd=0.5", &[])).await;
    endpoint.published(1).await;
    let mut command = set_temp();
    command.expires = endpoint.service.clock().wall();
    endpoint.channel.send(command);
    assert_no_command(&client.response().await.unwrap());
    endpoint.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_into_headers_never_gets_there() {
    let endpoint = TestEndpoint::start().await;
    let mut client = endpoint.send(post("/v1/temperature?ttd=0.5", &[])).await;
    endpoint.published(1).await;
    let now = endpoint.service.clock().wall();
    for spoil in [
        (|event| event.subject = "x\r\nset-cookie: y".to_owned()) as fn(&mut common::event::Event),
        |event| event.content_type = "text/plain\r\nset-cookie: y".into(),
    ] {
        let mut event = set_temp().into_event(now, None);
        spoil(&mut event);
        endpoint.channel.put(Channel::Commands, b"default/d1", Ok(event));
    }
    let response = client.response().await.unwrap();
    assert_no_command(&response);
    assert_eq!(response.header("set-cookie"), None);
    endpoint.stop().await;
}

#[tokio::test]
async fn shutdown_ends_waits_with_their_normal_answer() {
    let endpoint = TestEndpoint::start().await;
    let mut client = endpoint.send(post("/v1/temperature?ttd=30", &[])).await;
    endpoint.published(1).await;
    endpoint.shutdown.cancel();
    assert_no_command(&client.response().await.unwrap());
    // Whether the answer says so or not: it is the last one of its connection.
    assert_eq!(client.closed().await, "");
    let address = endpoint.address;
    endpoint.stop().await;
    assert!(HttpClient::connect(address).await.is_err());
}

#[tokio::test]
async fn a_device_that_is_revoked_waits_no_longer() {
    let endpoint = TestEndpoint::start().await;
    let mut client = endpoint.send(post("/v1/temperature?ttd=30", &[])).await;
    endpoint.published(1).await;
    endpoint.devices.remove(&d1());
    assert_no_command(&client.response().await.unwrap());
    client.send(post("/v1/temperature", &[])).await.unwrap();
    assert_problem(&client.response().await.unwrap(), 401);
    endpoint.stop().await;
}
