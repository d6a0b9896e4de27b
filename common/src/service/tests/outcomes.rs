//! What becomes of commands, and who hears of it.

use super::*;
use crate::outcome::{Confirmation, Outcome, Reason, State};
use crate::records::Lapsed;

#[tokio::test]
async fn promise_8_a_full_queue_takes_no_more_and_holds_up_nobody() {
    let limits = Limits { command_queue: 2, ..Limits::default() };
    let fixture = Fixture::new(limits).await;
    let session = fixture.log_in().await.unwrap();
    let slow = fixture.connect(&session).await;
    for name in ["one", "two", "three"] {
        fixture.channel.send(fixture.command(name));
    }
    assert_eq!(received(&slow).await.1, "one");
    fixture.channel.send(fixture.command("four"));
    assert_eq!(received(&slow).await.1, "two");
    assert_eq!(received(&slow).await.1, "four");
}

/// Connects the device, and hands it a command, kept or not.
async fn begun(fixture: &Fixture, name: &str, kept: bool) -> (Session, Connection, Delivery) {
    let session = fixture.log_in().await.unwrap();
    let connection = fixture.connect(&session).await;
    match kept {
        true => fixture.hand_over(fixture.last_connected().id, &[name]),
        false => fixture.channel.send(fixture.command(name)),
    }
    let (delivery, _) = received(&connection).await;
    (session, connection, delivery)
}

#[tokio::test]
async fn a_delivery_is_told_with_its_confirmation_and_its_cause() {
    let fixture = Fixture::new(Limits::default()).await;
    let (_session, connection, delivery) = begun(&fixture, "one", false).await;
    delivery.finish(Outcome::Delivered(Confirmation::Puback));
    fixture.hand_over(fixture.last_connected().id, &["two"]);
    received(&connection).await.0.finish(Outcome::Delivered(Confirmation::Written));
    assert_eq!(fixture.told(2).await, ["one delivered puback", "two delivered written"]);
    let [one, two] = fixture.outcomes().try_into().unwrap();
    assert_eq!((one.attempt, &one.cause, &one.device), (1, &one.command, &fixture.device));
    assert_eq!(
        fixture.channel.events(Channel::Outcomes)[0].id.as_str(),
        format!("{}.delivered.1", one.command)
    );
    let events = fixture.channel.events(Channel::Commands);
    let handover = events.iter().find(|event| event.kind.contains("handover")).unwrap();
    assert_eq!((two.attempt, &two.cause), (2, &handover.id));
}

#[tokio::test]
async fn what_was_not_delivered_is_at_its_end_unless_it_is_kept() {
    for reason in [Reason::NoAck, Reason::Overflow, Reason::ConnectionLost] {
        let fixture = Fixture::new(Limits::default()).await;
        let (_session, _connection, delivery) = begun(&fixture, "plain", false).await;
        delivery.finish(Outcome::Undelivered(reason));
        assert_eq!(fixture.told(1).await, [format!("plain undelivered {reason}")]);
        fixture.recorded(&["connected"]).await;

        let fixture = Fixture::new(Limits::default()).await;
        let (_session, _connection, delivery) = begun(&fixture, "kept", true).await;
        delivery.finish(Outcome::Undelivered(reason));
        fixture.recorded(&["connected", "handover", &format!("released kept 2 {reason}")]).await;
        assert!(fixture.outcomes().is_empty());
    }
}

#[tokio::test]
async fn a_delivery_that_is_dropped_was_lost_or_given_back() {
    let fixture = Fixture::new(Limits::default()).await;
    let (_session, connection, delivery) = begun(&fixture, "one", false).await;
    drop(delivery);
    assert_eq!(fixture.told(1).await, ["one undelivered connection-lost"]);
    ["two", "three"].iter().for_each(|name| fixture.channel.send(fixture.command(name)));
    drop(connection.receive().await.unwrap());
    fixture.recorded(&["connected", "released two 1"]).await;
    // What it still holds comes behind its end, so that it is not for this connection again.
    drop(connection);
    fixture.recorded(&["connected", "released two 1", "disconnected", "released three 1"]).await;
    assert_eq!(fixture.outcomes().len(), 1);
}

#[tokio::test]
async fn a_command_that_a_failed_wait_held_is_given_back() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let older = fixture.connect(&session).await;
    let answer = fixture.command("set-temp");
    fixture.channel.on_publish(move |channel, _, _| channel.send(answer.clone()));
    fixture.channel.hold();
    let exchange = session.exchange(telemetry(), ttd("30"));
    let release = async {
        eventually("the telemetry is published", || fixture.channel.held() == 1).await;
        fixture.channel.release(Err(PublishError::Unavailable("down".into())));
    };
    assert!(tokio::join!(exchange, release).0.is_err());
    // The log has ended the wait with that command: there is no end to say.
    fixture.recorded(&["connected", "connected", "released set-temp 1"]).await;
    // Whose it is next is the tracker's to say.
    assert!(older.receive_until(fixture.service.clock().instant()).await.is_none());
}

#[tokio::test]
async fn an_expired_command_is_told_by_its_owner() {
    let (fixture, wall) = Fixture::with_wall_clock().await;
    let session = fixture.log_in().await.unwrap();
    let connection = fixture.connect(&session).await;
    let (taken, queued) = (fixture.command("taken"), fixture.command("queued"));
    wall.store(taken.expires.as_millis() - 1, Ordering::Relaxed);
    fixture.channel.send(taken);
    fixture.channel.send(queued.clone());
    let mut delivery = connection.receive().await.unwrap();
    wall.store(queued.expires.as_millis(), Ordering::Relaxed);
    assert_eq!(delivery.begin(), None);
    assert!(connection.receive_until(fixture.service.clock().instant()).await.is_none());
    assert_eq!(fixture.told(2).await, ["taken expired", "queued expired"]);
}

#[tokio::test]
async fn an_acknowledgement_that_comes_too_late_is_told_too() {
    let fixture = Fixture::new(Limits::default()).await;
    let (_session, _connection, delivery) = begun(&fixture, "set", false).await;
    let overdue = delivery.give_up().unwrap();
    assert_eq!(fixture.told(1).await, ["set undelivered no-ack"]);
    overdue.acknowledged();
    assert_eq!(fixture.told(2).await, ["set undelivered no-ack", "set delivered puback"]);
}

#[tokio::test]
async fn what_the_channel_does_not_take_is_said_again() {
    let fixture = Fixture::new(Limits::default()).await;
    let (_session, connection, delivery) = begun(&fixture, "one", false).await;
    fixture.channel.mute(Some("io.drogue.command.delivered"));
    delivery.finish(Outcome::Delivered(Confirmation::Written));
    // Others do not wait for it.
    fixture.channel.send(fixture.command("two"));
    drop(received(&connection).await);
    assert_eq!(fixture.told(1).await, ["two undelivered connection-lost"]);
    fixture.channel.mute(None);
    assert_eq!(fixture.told(2).await[1], "one delivered written");
    assert_eq!(fixture.outcomes()[1].state, State::Delivered);
}

#[tokio::test]
async fn a_batch_is_all_that_was_handed_over() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let answer = async {
        eventually("it waits", || !fixture.channel.events(Channel::Telemetry).is_empty()).await;
        fixture.hand_over(fixture.last_connected().id, &["one", "two", "three", "four"]);
    };
    let (batch, ()) = tokio::join!(session.exchange_batch(telemetry(), ttd("30"), 3), answer);
    let mut batch = batch.unwrap();
    let names: Vec<_> = batch.iter_mut().map(|one| one.begin().unwrap().name.to_string()).collect();
    assert_eq!(names, ["one", "two", "three"]);
    fixture.recorded(&["connected", "handover", "released four 2"]).await;
}

#[tokio::test]
async fn a_replica_that_cannot_say_all_it_has_to_starts_over() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let _connection = fixture.connect(&session).await;
    let before = fixture.last_connected().id.incarnation;
    fixture.channel.mute(Some("io.drogue.connection.disconnected"));
    let shared = &fixture.service.shared;
    shared.reports.lose();
    drop(session.connect(session.queue()).await.unwrap());
    let lapsed = OrderRecord::Lapsed(Lapsed { incarnation: before.clone(), epoch: None });
    eventually("it says that it lapsed", || fixture.records().contains(&lapsed)).await;
    assert_ne!(shared.pulse.incarnation(), before);
    session.ended().await;
}
