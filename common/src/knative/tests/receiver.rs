//! What is pushed to a replica, and what it answers.

use actix_web::{App, test};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::knative::receiver::BATCH;

const STRUCTURED: [(&str, &str); 1] = [("content-type", "application/cloudevents+json")];
const BATCHED: [(&str, &str); 1] = [("content-type", "application/cloudevents-batch+json")];

fn json(event: &Event) -> String {
    serde_json::to_string(event).unwrap()
}

#[tokio::test]
async fn what_comes_with_the_token_is_handed_on_in_its_order_by_whichever_mode() {
    let inbox = Inbox::open(1 << 20);
    let mut commands = Stream::of(&inbox.hub, &[Channel::Commands]);
    let mut all = Stream::of(&inbox.hub, &Channel::ALL);
    let commands_path = format!("commands/{TOKEN}");
    assert_eq!(inbox.push_command(&event("default/d1", "binary")).await, 202);
    let structured = json(&event("default/d1", "structured"));
    assert_eq!(inbox.push(&commands_path, &STRUCTURED, structured).await, 202);
    let batch = ["one", "two"].map(|subject| json(&event("default/d1", subject))).join(",");
    assert_eq!(inbox.push(&commands_path, &BATCHED, format!("[{batch}]")).await, 202);
    assert_eq!(inbox.push(&commands_path, &BATCHED, "[]").await, 202);
    let outcome = json(&event("default/d1", "outcome"));
    assert_eq!(inbox.push(&format!("outcomes/{TOKEN}"), &STRUCTURED, outcome).await, 202);
    for subject in ["binary", "structured", "one", "two"] {
        assert_eq!((commands.next().await, all.next().await), (command(subject), command(subject)));
    }
    assert_eq!(all.next().await, Some(Told::Record(Channel::Outcomes, "outcome".to_owned())));
    assert!(commands.told.is_empty());
}

#[tokio::test]
async fn who_does_not_know_the_token_is_refused_and_nothing_is_handed_on() {
    let inbox = Inbox::open(1 << 20);
    let mut stream = Stream::of(&inbox.hub, &Channel::ALL);
    let refused = json(&event("default/d1", "refused"));
    for path in [
        "commands/wrong".to_owned(),
        format!("commands/{TOKEN}2"),
        format!("commands/{}", &TOKEN[1..]),
        format!("command/{TOKEN}"),
        format!("{TOKEN}/commands"),
    ] {
        assert_eq!(inbox.push(&path, &STRUCTURED, refused.clone()).await, 403, "{path}");
    }
    for path in ["commands".to_owned(), "commands/".to_owned(), format!("commands/{TOKEN}/more")] {
        assert_eq!(inbox.push(&path, &STRUCTURED, refused.clone()).await, 404, "{path}");
    }
    assert_eq!(inbox.push_command(&event("default/d1", "taken")).await, 202);
    assert_eq!(stream.next().await, command("taken"));
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_what_just_fits_is_not() {
    let on = event("default/d1", "on");
    let text = json(&on);
    let inbox = Inbox::open(text.len());
    let mut stream = Stream::of(&inbox.hub, &[Channel::Commands]);
    let path = format!("commands/{TOKEN}");
    let padded = |len: usize| format!("{text:<len$}");
    assert_eq!(inbox.push(&path, &STRUCTURED, padded(BATCH * text.len() + 1)).await, 413);
    assert_eq!(inbox.push(&path, &STRUCTURED, padded(BATCH * text.len())).await, 202);
    assert_eq!(stream.next().await, command("on"));
}

#[tokio::test]
async fn what_comes_twice_is_handed_on_once_and_what_is_for_nobody_is_taken() {
    let inbox = Inbox::open(1 << 20);
    assert_eq!(inbox.push_command(&event("default/d1", "nobody")).await, 202);
    let mut stream = Stream::of(&inbox.hub, &Channel::ALL);
    let on = event("default/d1", "on");
    for _ in 0..3 {
        assert_eq!(inbox.push_command(&on).await, 202);
    }
    // The same id of another source, or in another channel, is another event.
    let other = Event { source: Some("urn:other".to_owned()), subject: "other".to_owned(), ..on.clone() };
    assert_eq!(inbox.push_command(&other).await, 202);
    assert_eq!(inbox.push(&format!("outcomes/{TOKEN}"), &STRUCTURED, json(&on)).await, 202);
    assert_eq!(stream.next().await, command("on"));
    assert_eq!(stream.next().await, command("other"));
    assert_eq!(stream.next().await, Some(Told::Record(Channel::Outcomes, "on".to_owned())));
}

#[tokio::test]
async fn poison_is_refused_for_good_and_the_next_is_taken() {
    let inbox = Inbox::open(1 << 20);
    let mut stream = Stream::of(&inbox.hub, &Channel::ALL);
    let path = format!("commands/{TOKEN}");
    let text = [("content-type", "text/plain")];
    for (headers, body) in
        [(&text[..], "hi"), (&STRUCTURED, "{"), (&BATCHED, "{}"), (&[("ce-id", "%ff")], "")]
    {
        assert_eq!(inbox.push(&path, headers, body).await, 400, "{headers:?} {body}");
    }
    assert_eq!(inbox.push_command(&event("default/d1", "next")).await, 202);
    assert_eq!(stream.next().await, command("next"));
}

/// A CloudEvent that is none of ours is taken, and its handler judges it: it must not be sent again.
#[tokio::test]
async fn an_event_without_a_device_is_the_handlers_to_judge() {
    let inbox = Inbox::open(1 << 20);
    let mut stream = Stream::of(&inbox.hub, &Channel::ALL);
    let foreign = r#"{"specversion":"1.0","id":"1","type":"t","source":"s"}"#;
    assert_eq!(inbox.push(&format!("commands/{TOKEN}"), &STRUCTURED, foreign).await, 202);
    assert_eq!(stream.next().await, command("the record is no CloudEvent 1.0"));
}

/// On this thread, where what is counted can be told from what other tests count.
#[tokio::test]
async fn poison_and_repetitions_are_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let counts = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (hub, echoes) = (Arc::new(Hub::new()), Arc::new(Echoes::of(Vec::new())));
    let app = test::init_service(App::new().configure(receiver_of(&hub, &echoes, 1 << 20).routes())).await;
    let on = json(&event("default/d1", "on"));
    for (body, status) in [("poison", 400), (&on, 202), (&on, 202), (&on, 202)] {
        let request = test::TestRequest::post().uri(&format!("/v1/channels/commands/{TOKEN}"));
        let request = request.insert_header(STRUCTURED[0]).set_payload(body.to_owned());
        assert_eq!(test::call_service(&app, request.to_request()).await.status(), status);
    }
    let counts = counts.render();
    for line in [
        r#"drogue_knative_malformed_total{channel="commands"} 1"#,
        r#"drogue_knative_repetitions_total{channel="commands"} 2"#,
    ] {
        assert!(counts.contains(line), "{line}\n{counts}");
    }
}
