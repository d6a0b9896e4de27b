//! What must not come out: tokens, by the log or by `Debug`.

use std::io;

use actix_web::{App, test};
use tracing_subscriber::fmt::MakeWriter;

use super::*;

const BEARER: &str = "correct-horse";

/// What is logged on this thread, at every level.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_token_is_logged_or_shown() {
    // With one subscriber only, threads of other tests would decide for this one what is worth logging.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let _logging = tracing::subscriber::set_default(subscriber.with_writer(log.clone()).finish());

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

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("an event was not taken"), "this is logged here\n{log}");
    let shown = format!("{target:?} {:?}", Secret::new(TOKEN));
    for text in [log, heard, answered, shown] {
        assert!(!text.contains(TOKEN) && !text.contains(BEARER), "{text}");
    }
}
