//! What a channel answers, and what its publisher hears.

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpSocket;

use super::*;

#[tokio::test]
async fn what_a_channel_takes_is_published() {
    let mut channel = FakeChannel::scripted([]).await;
    let overrides = BTreeMap::from([("cluster".to_owned(), "a 1".to_owned())]);
    let sink = Sink::new(SinkSettings { overrides, ..settings(&channel) }, Clock::system());
    let event = event("default/d1", "on");
    assert_eq!(publish(&sink, &event).await, Ok(()));
    let posted = channel.posted().await;
    assert_eq!((posted.path.as_str(), &posted.body), ("/commands", &event.data));
    let id = event.id.to_string();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", id.as_str()),
        ("ce-subject", "on"),
        ("ce-partitionkey", "default/d1"),
        ("ce-cluster", "a%201"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(posted.header(name), Some(value), "{name}");
    }
    assert_eq!(posted.header("authorization"), None);
}

#[tokio::test]
async fn what_passes_is_posted_again_until_it_is_taken() {
    for refusal in [503, 500, 429, 408, 404].map(Answer::Status).into_iter().chain([Answer::Reset]) {
        let mut channel = FakeChannel::scripted([refusal.clone(), refusal.clone()]).await;
        let sink = Sink::new(settings(&channel), Clock::system());
        let event = event("default/d1", "on");
        assert_eq!(publish(&sink, &event).await, Ok(()), "{refusal:?}");
        let id = event.id.to_string();
        for _ in 0..3 {
            let posted = channel.posted().await;
            assert_eq!((posted.header("ce-id"), &posted.body), (Some(id.as_str()), &event.data));
        }
        assert_eq!(channel.unread(), 0, "{refusal:?}");
    }
}

#[tokio::test]
async fn a_channel_that_was_not_there_yet_is_found() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let counts = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    // Bound and not listening: connections are refused, and the port is nobody else's.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = Url::parse(&format!("http://{}", socket.local_addr().unwrap())).unwrap();
    let elsewhere = FakeChannel::scripted([]).await;
    let targets = HashMap::from([(Channel::Commands, Target { url, token_file: None })]);
    let sink = Sink::new(SinkSettings { targets, ..settings(&elsewhere) }, Clock::system());
    let published = sink.publish(Channel::Commands, event("default/d1", "on"));
    let retries = r#"drogue_knative_retries_total{channel="commands"} 2"#;
    eventually("two attempts are refused", || counts.render().contains(retries)).await;
    let mut channel = FakeChannel::listening(socket.listen(8).unwrap(), |_| Answer::Status(202));
    assert_eq!(soon("the channel is found", published).await, Ok(()));
    assert_eq!(channel.posted().await.subject(), "on");
}

#[tokio::test]
async fn after_the_patience_the_last_answer_is_told() {
    for (answer, said) in [
        (Answer::Status(503), "commands answered 503"),
        (Answer::Status(429), "commands answered 429"),
        (Answer::Reset, "commands: "),
    ] {
        let channel = FakeChannel::answering(move |_| answer.clone()).await;
        let sink = Sink::new(SinkSettings { patience: SHORT, ..settings(&channel) }, Clock::system());
        let heard = publish(&sink, &event("default/d1", "on")).await;
        assert!(matches!(&heard, Err(PublishError::Unavailable(why)) if why.contains(said)), "{heard:?}");
        assert!(channel.unread() > 1, "{heard:?}");
    }
}

#[tokio::test]
async fn a_channel_that_never_answers_is_a_timeout_and_one_that_did_is_not() {
    let channel = FakeChannel::answering(|_| Answer::Silence).await;
    let sink = Sink::new(SinkSettings { patience: SHORT, ..settings(&channel) }, Clock::system());
    let heard = publish(&sink, &event("default/d1", "on")).await;
    assert_eq!(heard, Err(PublishError::TimedOut(LONG)));
    let mut first = Some(Answer::Status(503));
    let channel = FakeChannel::answering(move |_| first.take().unwrap_or(Answer::Silence)).await;
    let sink = Sink::new(SinkSettings { patience: SHORT, ..settings(&channel) }, Clock::system());
    let heard = publish(&sink, &event("default/d1", "on")).await;
    assert!(matches!(&heard, Err(PublishError::Unavailable(why)) if why.contains("503")), "{heard:?}");
}

#[tokio::test]
async fn what_does_not_pass_is_told_at_once() {
    for status in [301, 400, 401, 403, 405, 413, 501] {
        let mut channel = FakeChannel::scripted([Answer::Status(status)]).await;
        let sink = Sink::new(settings(&channel), Clock::system());
        let heard = publish(&sink, &event("default/d1", "on")).await;
        let said = format!("commands answered {status}");
        match heard.unwrap_err() {
            PublishError::TooLarge => assert_eq!(status, 413),
            PublishError::Unavailable(why) => assert!(status != 413 && why.starts_with(&said), "{why}"),
            other @ (PublishError::Overloaded | PublishError::TimedOut(_)) => panic!("{status}: {other}"),
        }
        assert_eq!(channel.posted().await.subject(), "on");
        assert_eq!(channel.unread(), 0, "{status}");
        // The lane goes on.
        assert_eq!(publish(&sink, &event("default/d1", "off")).await, Ok(()));
    }
}

#[tokio::test]
async fn what_is_too_large_leaves_no_request() {
    let channel = FakeChannel::scripted([]).await;
    let event = event("default/d1", "on");
    let size = binding::Outgoing::of(&event).unwrap().size();
    let sink = |max_event| Sink::new(SinkSettings { max_event, ..settings(&channel) }, Clock::system());
    assert_eq!(publish(&sink(size - 1), &event).await, Err(PublishError::TooLarge));
    assert_eq!(channel.unread(), 0);
    assert_eq!(publish(&sink(size), &event).await, Ok(()));
    // What every event gets counts, too.
    let overrides = BTreeMap::from([("cluster".to_owned(), "a".to_owned())]);
    let sink = SinkSettings { max_event: size, overrides, ..settings(&channel) };
    assert_eq!(publish(&Sink::new(sink, Clock::system()), &event).await, Err(PublishError::TooLarge));
    assert_eq!(channel.unread(), 1);
}

#[tokio::test]
async fn a_channel_whose_address_is_not_known_names_the_options() {
    let channel = FakeChannel::scripted([]).await;
    let sink = Sink::new(SinkSettings { targets: HashMap::new(), ..settings(&channel) }, Clock::system());
    let heard = publish(&sink, &event("default/d1", "on")).await.unwrap_err().to_string();
    for named in ["commands", "--channel", "--channel-url"] {
        assert!(heard.contains(named), "{named}: {heard}");
    }
}

#[tokio::test]
async fn the_token_in_the_file_is_the_bearer_and_is_read_anew() {
    let mut channel = FakeChannel::scripted([]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |token: &str| std::fs::write(file.path(), token).unwrap();
    let with = |token_lifetime: Duration| {
        let token_file = Some(file.path().to_owned());
        let target = Target { url: channel.url(Channel::Commands), token_file };
        let targets = HashMap::from([(Channel::Commands, target)]);
        Sink::new(SinkSettings { targets, token_lifetime, ..settings(&channel) }, Clock::system())
    };
    let (keeping, asking) = (with(LONG), with(Duration::ZERO));
    let mut bearer = async |sink: &Sink| {
        assert_eq!(publish(sink, &event("default/d1", "on")).await, Ok(()));
        channel.posted().await.header("authorization").unwrap().to_owned()
    };
    write("one\n");
    assert_eq!((bearer(&keeping).await, bearer(&asking).await), ("Bearer one".into(), "Bearer one".into()));
    write("two\n");
    assert_eq!((bearer(&keeping).await, bearer(&asking).await), ("Bearer one".into(), "Bearer two".into()));
}

#[tokio::test]
async fn a_token_that_cannot_be_read_is_waited_for_and_its_file_named() {
    let channel = FakeChannel::scripted([]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let with = |patience| {
        let target = Target { url: channel.url(Channel::Commands), token_file: Some(file.clone()) };
        let targets = HashMap::from([(Channel::Commands, target)]);
        Sink::new(SinkSettings { targets, patience, ..settings(&channel) }, Clock::system())
    };
    let heard = publish(&with(SHORT), &event("default/d1", "on")).await;
    let name = file.display().to_string();
    assert!(matches!(&heard, Err(PublishError::Unavailable(why)) if why.contains(&name)), "{heard:?}");
    assert_eq!(channel.unread(), 0);
    let published = with(LONG).publish(Channel::Commands, event("default/d1", "on"));
    std::fs::write(&file, "one").unwrap();
    assert_eq!(soon("the token is found", published).await, Ok(()));
}
