//! What must not come out: tokens, by the log or by `Debug`.

use super::*;
use crate::testing::Logged;
use actix_web::{App, test};

const BEARER: &str = "correct-horse";

#[tokio::test]
async fn no_token_is_logged_or_shown() {
    let logged = Logged::begin();

    let answers = [Answer::Status(503), Answer::Reset, Answer::Status(401)];
    let mut channel = FakeChannel::scripted(answers).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), BEARER).unwrap();
    let target = Target { url: channel.url(Channel::Commands), token_file: Some(file.path().to_owned()) };
    let targets = HashMap::from([(Channel::Commands, target.clone())]);
    let sink = Sink::new(SinkSettings { targets, ..settings(&channel) }, Clock::system());
    let heard = publish(&sink, &event("default/d1", "on")).await.unwrap_err().to_string();
    let bearer = format!("Bearer {BEARER}");
    assert_eq!(channel.posted().await.header("authorization"), Some(bearer.as_str()));

    let (hub, echoes) = (Arc::new(Hub::new()), Arc::new(Echoes::of(Vec::new())));
    let app = test::init_service(App::new().configure(receiver_of(&hub, &echoes, 1).routes())).await;
    let mut answered = String::new();
    for path in [format!("commands/{TOKEN}"), format!("none/{TOKEN}"), format!("{TOKEN}/commands")] {
        let request = test::TestRequest::post().uri(&format!("/v1/channels/{path}")).set_payload("too large");
        let response = test::call_service(&app, request.to_request()).await;
        assert!(response.status().is_client_error(), "{path}");
        answered.push_str(&String::from_utf8_lossy(&test::read_body(response).await));
    }

    let log = logged.text();
    assert!(log.contains("an event was not taken"), "this is logged here\n{log}");
    let shown = format!("{target:?} {:?}", Secret::new(TOKEN));
    for text in [log, heard, answered, shown] {
        assert!(!text.contains(TOKEN) && !text.contains(BEARER), "{text}");
    }
}
