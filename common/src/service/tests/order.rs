//! What a replica says of itself: its connections when it is asked, and its end.

use super::*;
use crate::channel::SourceError;
use crate::outcome::{Confirmation, Outcome};
use crate::records::{Alive, Announce};
use crate::sessions::End;

#[tokio::test]
async fn a_replica_that_is_asked_repeats_its_connections_and_says_when_it_has() {
    let fixture = Fixture::new(Limits::default()).await;
    let other = fixture.replica(Limits::default()).await;
    let session = fixture.log_in_as(Protocol::Mqtt, Some("c")).await.unwrap();
    let _connection = fixture.connect(&session).await;
    let first = fixture.last_connected();
    let place = fixture.channel.events(Channel::Commands).iter().position(|e| e.kind.contains("connected"));
    fixture.channel.mute(Some("io.drogue.connection.connected"));
    fixture.put_for_all(OrderRecord::Announce(Announce { epoch: 7, repeat: true }));
    // The other has none to repeat; this one is not done before all are in the channel.
    fixture.recorded(&["connected", "announce", "announced"]).await;
    fixture.channel.mute(None);
    fixture.recorded(&["connected", "announce", "announced", "connected", "announced"]).await;
    let repeats = Some(Place(place.unwrap() as u64 + 1));
    assert_eq!(fixture.last_connected(), Connected { repeats, ..first.clone() });
    let announced = fixture.records().into_iter().filter_map(|record| {
        let OrderRecord::Announced(announced) = record else { return None };
        Some((announced.incarnation, announced.epoch))
    });
    let expected = [(other.service.shared.pulse.incarnation(), 7), (first.id.incarnation, 7)];
    assert_eq!(announced.collect::<Vec<_>>(), expected);
    // One with all its state asks nobody, nor does one that was replaced.
    fixture.put_for_all(OrderRecord::Announce(Announce { epoch: 8, repeat: false }));
    fixture.put_for_all(OrderRecord::Announce(Announce { epoch: 6, repeat: true }));
    fixture.service.shared.reports.flush().await;
    assert_eq!(fixture.records().len(), 7);
}

#[tokio::test]
async fn behind_a_gap_a_replica_is_another_one() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let connection = fixture.connect(&session).await;
    let before = fixture.last_connected().id.incarnation;
    fixture.channel.send(fixture.command("untaken"));
    fixture.channel.interrupt(&SourceError::Gone);
    fixture.channel.resume();
    assert_eq!(session.ended().await, End::Interrupted);
    assert!(connection.receive().await.is_none());
    drop(connection);
    // One word ends all its connections; the tracker knows what becomes of what they owned.
    fixture.recorded(&["connected", "lapsed"]).await;
    let Some(OrderRecord::Lapsed(lapsed)) = fixture.records().pop() else { panic!("it lapsed") };
    assert_eq!((lapsed.incarnation, lapsed.epoch), (before.clone(), None));
    let session = fixture.log_in().await.unwrap();
    let connection = fixture.connect(&session).await;
    let now = fixture.last_connected().id.incarnation;
    assert_ne!(now, before);
    let alive = OrderRecord::Alive(Alive { incarnation: now });
    let heard = |event: &Event| OrderRecord::from_event(event) == Ok(Some(alive.clone()));
    eventually("the new one is heard of", || fixture.channel.events(Channel::Commands).iter().any(heard))
        .await;
    eventually("it knows that", || fixture.service.shared.look(&fixture.device).alive).await;
    fixture.channel.send(fixture.command("set"));
    assert_eq!(received(&connection).await.1, "set");
}

#[tokio::test]
async fn the_last_word_of_a_replica_is_that_it_is_gone() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    let [written, waiting] = [fixture.connect(&session).await, fixture.connect(&session).await];
    fixture.channel.send(fixture.command("set"));
    let (delivery, _) = received(&waiting).await;
    fixture.channel.send(fixture.command("untaken"));
    fixture.channel.mute(Some("io.drogue.command.delivered"));
    fixture.service.shut_down();
    delivery.finish(Outcome::Delivered(Confirmation::Written));
    drop((written, waiting));
    let service = fixture.service.clone();
    let finishing = tokio::spawn(async move { service.finish(testing::PATIENCE).await });
    fixture.recorded(&["connected", "connected", "released untaken 1"]).await;
    // It has not said all yet.
    fixture.channel.mute(None);
    finishing.await.unwrap();
    assert_eq!(fixture.told(1).await, ["set delivered written"]);
    // No end of a connection but this one.
    fixture.recorded(&["connected", "connected", "released untaken 1", "lapsed"]).await;
    let last = fixture.channel.events(Channel::Commands).pop().unwrap();
    assert_eq!(last.kind, "io.drogue.replica.lapsed.v1", "it says no more that it lives");
}

#[tokio::test(start_paused = true)]
async fn the_last_words_wait_for_the_channel_no_longer_than_they_may() {
    let fixture = Fixture::new(Limits::default()).await;
    let session = fixture.log_in().await.unwrap();
    fixture.channel.mute(Some("io.drogue.connection.disconnected"));
    drop(fixture.connect(&session).await);
    fixture.service.shut_down();
    fixture.service.finish(Duration::from_secs(1)).await;
    fixture.recorded(&["connected"]).await;
}
