//! Replies of devices.

use super::*;
use crate::event::Event;
use crate::id::EventId;
use crate::ingest::Rejected;
use crate::outcome::{Confirmation, Outcome, Reason, Reply, State, Transition};
use crate::replies::ReplyRefused;

fn reply(payload: &'static str) -> Reply {
    Reply::received(Some(207), Some("text/plain".into()), Bytes::from_static(payload.as_bytes()))
}

impl Fixture {
    /// Sends a command, and returns it when it has begun on its way to the device.
    async fn begun(&self, session: &Session, kept: bool) -> (EventId, Delivery) {
        let connection = self.connect(session).await;
        match kept {
            true => self.hand_over(self.last_connected().id, &["ask"]),
            false => self.channel.send(self.command("ask")),
        }
        let mut delivery = connection.receive().await.unwrap();
        (delivery.begin().unwrap().id, delivery)
    }

    async fn another(&self) -> Session {
        let device = DeviceKey::from_bytes(b"default/d2").unwrap();
        self.registry.set(&device, "secret");
        let login = Login { device, secret: Secret::new("secret") };
        self.service.log_in(Protocol::Http, &login, None).await.unwrap()
    }

    fn replies(&self) -> Vec<Event> {
        let mut outcomes = self.channel.events(Channel::Outcomes);
        outcomes.retain(|event| event.kind == "io.drogue.command.replied.v1");
        outcomes
    }
}

const NOT_SENT: ServiceError = ServiceError::Reply(ReplyRefused::NotSent);

fn settled(state: State) -> Result<(), ServiceError> {
    Err(ReplyRefused::Settled(state).into())
}

#[tokio::test]
async fn a_reply_is_an_outcome_of_its_command_once() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let (id, delivery) = fixture.begun(&session, false).await;
    // Before anything is known of its delivery, which it implies.
    assert_eq!(session.reply(id.clone(), reply("42")).await, Ok(()));
    delivery.finish(Outcome::Delivered(Confirmation::Puback));
    assert_eq!(session.reply(id.clone(), reply("43")).await, settled(State::Replied));
    let [event] = &fixture.replies()[..] else { panic!("one outcome: {:?}", fixture.replies()) };
    assert_eq!(event.id.as_str(), format!("{id}.replied.1"));
    let transition = Transition::from_event(event.clone()).unwrap().unwrap();
    assert_eq!((&transition.command, &transition.cause, &transition.device), (&id, &id, &fixture.device));
    assert_eq!((transition.name.as_str(), transition.state), ("ask", State::Replied));
    assert_eq!(transition.reply, Some(reply("42")));
    assert_eq!(fixture.sent.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn whether_another_devices_command_exists_is_not_told() {
    let fixture = Fixture::new(Limits::default()).await;
    let (session, another) = (fixture.log_in().await.unwrap(), fixture.another().await);
    let (id, _delivery) = fixture.begun(&session, false).await;
    let elsewhere = fixture.command("ask");
    fixture.sent.set(&elsewhere, State::Delivered);
    let mut asked = Vec::new();
    for id in [id, elsewhere.id, "unknown".parse().unwrap()] {
        let before = fixture.sent.asked();
        assert_eq!(another.reply(id, reply("42")).await, Err(NOT_SENT));
        asked.push(fixture.sent.asked() - before);
    }
    assert_eq!((NOT_SENT.kind(), asked), (ErrorKind::NotFound, vec![6; 3]));
    assert_eq!(fixture.replies(), []);
}

#[tokio::test]
async fn what_another_replica_delivered_is_looked_up() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let command = fixture.command("ask");
    let replied = session.reply(command.id.clone(), reply("42"));
    // Whoever keeps track lags behind.
    let tracked = async {
        eventually("it is asked for", || fixture.sent.asked() > 0).await;
        fixture.sent.set(&command, State::Accepted);
    };
    assert_eq!(tokio::join!(replied, tracked).0, Ok(()));
    assert_eq!(fixture.replies()[0].id.as_str(), format!("{}.replied.1", command.id));
    // From here on it is known here, although nobody has read of the reply yet.
    assert_eq!(session.reply(command.id, reply("42")).await, settled(State::Replied));
}

#[tokio::test]
async fn the_state_of_a_command_is_respected() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    for (state, expected) in [
        (State::Pending, Ok(())),
        (State::Delivered, Ok(())),
        (State::Replied, settled(State::Replied)),
        (State::Undelivered, settled(State::Undelivered)),
        (State::Cancelled, settled(State::Cancelled)),
    ] {
        let command = fixture.command("ask");
        fixture.sent.set(&command, state);
        assert_eq!(session.reply(command.id, reply("42")).await, expected, "{state}");
    }
    fixture.sent.set_failing(true);
    let error = session.reply("unknown".parse().unwrap(), reply("42")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn after_a_failed_attempt_only_what_is_kept_may_be_answered() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    for (kept, expected) in [(true, Ok(())), (false, settled(State::Undelivered))] {
        let (id, delivery) = fixture.begun(&session, kept).await;
        delivery.finish(Outcome::Undelivered(Reason::NoAck));
        assert_eq!(session.reply(id, reply("42")).await, expected);
        let (id, delivery) = fixture.begun(&session, kept).await;
        drop(delivery);
        assert_eq!(session.reply(id, reply("42")).await, expected);
    }
}

#[tokio::test]
async fn of_two_replies_at_once_one_wins() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    for (answer, first, second) in [
        (Ok(()), true, settled(State::Replied)),
        (Err(PublishError::Unavailable("down".into())), false, Ok(())),
    ] {
        let (id, _delivery) = fixture.begun(&session, false).await;
        fixture.channel.hold();
        let replies = async {
            tokio::join!(session.reply(id.clone(), reply("1")), session.reply(id.clone(), reply("2")))
        };
        let release = async {
            eventually("a reply is published", || fixture.channel.held() == 1).await;
            fixture.channel.release(answer);
        };
        let (replied, ()) = tokio::join!(replies, release);
        assert_eq!((replied.0.is_ok(), replied.1), (first, second));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_given_up_leaves_its_turn() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let (id, _delivery) = fixture.begun(&session, false).await;
    fixture.channel.hold();
    let limit = Duration::from_secs(10);
    let late = session.reply(id.clone(), reply("1")).await;
    assert_eq!(late, Err(PublishError::TimedOut(limit).into()));
    let gone = tokio::time::timeout(limit / 2, session.reply(id.clone(), reply("2"))).await;
    assert!(gone.is_err(), "{gone:?}");
    fixture.channel.release(Ok(()));
    assert_eq!(session.reply(id, reply("3")).await, Ok(()));
}

#[tokio::test]
async fn a_reply_has_the_limits_of_telemetry() {
    let fixture = Fixture::new(Limits { max_payload: 2, ..Limits::default() }).await;
    let session = fixture.log_in().await.unwrap();
    let (id, _delivery) = fixture.begun(&session, false).await;
    let long = session.reply(id.clone(), reply("123")).await;
    assert_eq!(long, Err(Rejected::TooLarge { limit: 2 }.into()));
    let broken = Reply { content_type: "a\r\nb".into(), ..reply("1") };
    assert_eq!(session.reply(id.clone(), broken).await, Err(Rejected::ContentType.into()));
    assert_eq!(session.reply(id, reply("12")).await, Ok(()));
}

#[tokio::test]
async fn each_reply_is_counted_once_by_what_became_of_it() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let counts = recorder.handle();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let (id, _delivery) = fixture.begun(&session, false).await;
    fixture.channel.fail_next(PublishError::Overloaded);
    session.reply(id.clone(), reply("1")).await.unwrap_err();
    drop(session.reply(id.clone(), reply("1")));
    session.reply(id.clone(), reply("1")).await.unwrap();
    session.reply(id.clone(), reply("1")).await.unwrap_err();
    // One that its endpoint counts.
    session.offer_reply(id, reply("1")).await.unwrap_err();
    session.count(MessageKind::Reply, MessageOutcome::Failed(ErrorKind::Conflict));
    let counts = counts.render();
    for (result, expected) in [("accepted", 1), ("overloaded", 1), ("abandoned", 1), ("conflict", 2)] {
        let line = format!("drogue_replies_total{{protocol=\"http\",result=\"{result}\"}} {expected}\n");
        assert!(counts.contains(&line), "{line}{counts}");
    }
}
