//! Several replicas over one channel: who delivers, and who is believed to live.

use super::*;
use crate::connections::{Capacity, Terms};
use crate::outcome::{Confirmation, Outcome};
use crate::records::Lapsed;
use crate::sessions::End;

async fn two() -> [Fixture; 2] {
    let first = Fixture::new(Limits::default()).await;
    let second = first.replica(Limits::default()).await;
    [first, second]
}

/// Receives a command that must have come, and says that it was delivered.
async fn deliver(connection: &Connection) -> String {
    let (delivery, name) = received(connection).await;
    delivery.finish(Outcome::Delivered(Confirmation::Written));
    name
}

async fn nothing(fixture: &Fixture, connection: &Connection) -> bool {
    connection.receive_until(fixture.service.clock().instant()).await.is_none()
}

#[tokio::test]
async fn of_all_replicas_the_newest_connection_gets_the_command_and_no_other() {
    let [first, second] = two().await;
    let mqtt = first.log_in_as(Protocol::Mqtt, Some("one")).await.unwrap();
    let other = second.log_in_as(Protocol::Mqtt, Some("another")).await.unwrap();
    let http = first.log_in().await.unwrap();
    let oldest = first.connect(&mqtt).await;
    let middle = second.connect(&other).await;
    let newest = http.connect(Terms { capacity: Capacity::One, deadline: None }).await.unwrap();
    for (name, connection) in [("1", &newest), ("2", &middle), ("3", &middle)] {
        first.channel.send(first.command(name));
        assert_eq!(deliver(connection).await, name);
    }
    drop(middle);
    first.recorded(&["connected", "connected", "connected", "disconnected"]).await;
    first.channel.send(first.command("4"));
    assert_eq!(deliver(&oldest).await, "4");
    assert!(newest.receive().await.is_none(), "it was for one");
    assert_eq!(first.told(4).await, ["1", "2", "3", "4"].map(|name| format!("{name} delivered written")));
}

#[tokio::test]
async fn what_one_gives_back_no_other_takes_by_itself() {
    let [first, second] = two().await;
    let (old, new) = (first.log_in().await.unwrap(), second.log_in().await.unwrap());
    let [older, here] = [first.connect(&old).await, second.connect(&new).await];
    let newer = second.connect(&new).await;
    first.channel.send(first.command("set"));
    drop(newer.receive().await.unwrap());
    first.recorded(&["connected", "connected", "connected", "released set 1"]).await;
    assert!(nothing(&first, &older).await && nothing(&second, &here).await);
    // The tracker says whose it is next: here, of the oldest.
    first.hand_over(first.connected().swap_remove(0).id, &["set"]);
    assert_eq!(deliver(&older).await, "set");
}

#[tokio::test]
async fn a_client_that_comes_to_another_replica_ends_its_session_here() {
    let [first, second] = two().await;
    let old = first.log_in_as(Protocol::Mqtt, Some("c")).await.unwrap();
    let before = first.connect(&old).await;
    first.channel.send(first.command("untaken"));
    let new = second.log_in_as(Protocol::Mqtt, Some("c")).await.unwrap();
    let after = second.connect(&new).await;
    assert_eq!(old.ended().await, End::TakenOver);
    assert!(before.receive().await.is_none());
    drop(before);
    first.channel.send(first.command("set"));
    assert_eq!(deliver(&after).await, "set");
    // The log knew of the old one's end without being told.
    first.recorded(&["connected", "connected", "released untaken 1"]).await;
}

#[tokio::test]
async fn subscribing_anew_takes_no_session_over() {
    let [first, _] = two().await;
    let session = first.log_in_as(Protocol::Mqtt, Some("c")).await.unwrap();
    let before = first.connect(&session).await;
    // As the record of its end may come behind that of the next.
    first.channel.mute(Some("io.drogue.connection.disconnected"));
    drop(before);
    let after = first.connect(&session).await;
    first.channel.mute(None);
    first.recorded(&["connected", "connected", "disconnected"]).await;
    first.channel.send(first.command("set"));
    assert_eq!(deliver(&after).await, "set");
}

#[tokio::test]
async fn a_replica_that_was_taken_for_dead_announces_its_connections_anew() {
    let [first, second] = two().await;
    let session = first.log_in().await.unwrap();
    let connection = first.connect(&session).await;
    let before = first.last_connected();
    ["in-flight", "in-hand", "queued"].iter().for_each(|name| first.channel.send(first.command(name)));
    let (in_flight, _) = received(&connection).await;
    let mut in_hand = connection.receive().await.unwrap();
    let lapsed = Lapsed { incarnation: before.id.incarnation.clone(), epoch: Some(3) };
    second.put_for_all(OrderRecord::Lapsed(lapsed));
    // It was not written, and is written no more. The tracker knows what to make of it.
    assert_eq!(in_hand.begin(), None);
    first.recorded(&["connected", "lapsed", "connected", "released in-hand 1"]).await;
    let after = first.last_connected();
    assert_eq!((after.session, after.id.incarnation), (before.session, before.id.incarnation));
    assert!(after.id.connection > before.id.connection);
    // What the device got meanwhile is told all the same.
    in_flight.finish(Outcome::Delivered(Confirmation::Puback));
    first.channel.send(first.command("next"));
    assert_eq!(deliver(&connection).await, "next");
    assert_eq!(first.told(2).await, ["in-flight delivered puback", "next delivered written"]);
}

#[tokio::test]
async fn a_tracker_that_was_replaced_is_not_heard() {
    let [first, _] = two().await;
    let session = first.log_in().await.unwrap();
    let connection = first.connect(&session).await;
    let id = first.last_connected().id;
    let lapsed = |epoch| Lapsed { incarnation: id.incarnation.clone(), epoch: Some(epoch) };
    let announce = crate::records::Announce { epoch: 2, repeat: false };
    first.put_for_all(OrderRecord::Announce(announce));
    first.put_for_all(OrderRecord::Lapsed(lapsed(1)));
    first.hand_over(id.clone(), &["stale"]);
    assert!(nothing(&first, &connection).await);
    first.channel.send(first.command("set"));
    assert_eq!(deliver(&connection).await, "set");
    assert_eq!(first.last_connected().id, id, "nothing was announced anew");
}

/// A replica that beats fast, and has fallen silent after a while.
async fn short_lived(lapse_after: Duration) -> Fixture {
    let heartbeat_interval = Duration::from_millis(20);
    Fixture::new(Limits { heartbeat_interval, lapse_after, ..Limits::default() }).await
}

fn heartbeats(fixture: &Fixture) -> usize {
    heartbeats_in(&fixture.channel)
}

fn heartbeats_in(channel: &MemoryChannel) -> usize {
    let events = channel.events(Channel::Commands);
    let heartbeats = events.iter().filter(|event| event.kind == "io.drogue.replica.alive.v1");
    heartbeats.inspect(|event| assert_eq!(event.device, DeviceKey::all())).count()
}

fn is_alive(fixture: &Fixture) -> bool {
    fixture.service.shared.look(&fixture.device).alive
}

#[tokio::test]
async fn while_its_heartbeat_is_not_heard_a_replica_hands_nothing_out() {
    // It is old long before it has fallen silent.
    let fixture = short_lived(Duration::from_secs(5)).await;
    let session = fixture.log_in().await.unwrap();
    let connection = Arc::new(fixture.connect(&session).await);
    fixture.channel.send(fixture.command("in-hand"));
    let mut in_hand = connection.receive().await.unwrap();
    fixture.channel.mute(Some("io.drogue.replica.alive"));
    eventually("the heartbeat is old", || !is_alive(&fixture)).await;
    assert_eq!(in_hand.begin(), None);
    fixture.recorded(&["connected", "released in-hand 1"]).await;
    fixture.channel.send(fixture.command("set"));
    assert!(nothing(&fixture, &connection).await);
    let waits = connection.clone();
    let waiting = tokio::spawn(async move { deliver(&waits).await });
    tokio::task::yield_now().await;
    // Whoever waits is woken by the next one that is heard.
    fixture.channel.mute(None);
    assert_eq!(waiting.await.unwrap(), "set");
}

#[tokio::test(start_paused = true)]
async fn a_replica_is_heard_of_as_long_as_its_service_lives() {
    let fixture = short_lived(Duration::from_secs(5)).await;
    eventually("it beats", || heartbeats(&fixture) >= 5).await;
    let _session = fixture.log_in().await.unwrap();
    let channel = fixture.channel.clone();
    // The session holds no service.
    drop(fixture);
    let last = heartbeats_in(&channel);
    // On the clock of this test.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(heartbeats_in(&channel), last);
}

/// Waits until a replica has said itself that it lapsed, once or more often.
async fn calls_itself_dead(fixture: &Fixture) {
    let incarnation = fixture.service.incarnation();
    let lapsed = OrderRecord::Lapsed(Lapsed { incarnation, epoch: None });
    eventually("it calls itself dead", || fixture.records().contains(&lapsed)).await;
}

#[tokio::test]
async fn a_replica_that_was_silent_calls_itself_dead_and_announces_itself_anew() {
    let fixture = short_lived(Duration::from_millis(300)).await;
    let session = fixture.log_in().await.unwrap();
    let connection = fixture.connect(&session).await;
    let before = fixture.last_connected();
    fixture.channel.send(fixture.command("queued"));
    // As a pause would do, of which nobody has read: nobody else will say that it lapsed.
    fixture.channel.mute(Some("io.drogue.replica.alive"));
    calls_itself_dead(&fixture).await;
    eventually("it is announced anew", || fixture.last_connected().id != before.id).await;
    fixture.channel.mute(None);
    eventually("it is heard of", || is_alive(&fixture)).await;
    // What it held was the tracker's by then.
    assert!(nothing(&fixture, &connection).await);
    fixture.channel.send(fixture.command("next"));
    assert_eq!(deliver(&connection).await, "next");
    assert_eq!(fixture.last_connected().id.incarnation, before.id.incarnation);
    let names = fixture.record_names();
    // If this takes long, it was silent twice; but it says so once in that time.
    assert!(
        names.chunks(2).all(|pair| pair[0] == "connected" && pair.get(1).is_none_or(|next| next == "lapsed"))
    );
    assert!(names.len() % 2 == 1, "{names:?}");
}

#[tokio::test]
async fn a_replica_that_calls_itself_dead_writes_nothing_before_it_has_read_so() {
    let fixture = short_lived(Duration::from_millis(300)).await;
    let session = fixture.log_in().await.unwrap();
    let connection = fixture.connect(&session).await;
    fixture.channel.send(fixture.command("queued"));
    fixture.channel.mute(Some("io.drogue.replica."));
    let pulse = &fixture.service.shared.pulse;
    eventually("it has fallen silent", || pulse.is_silent(Partition(0))).await;
    // It is heard of again, but the word of its lapse is not taken yet.
    fixture.channel.mute(Some("io.drogue.replica.lapsed"));
    let heard = heartbeats(&fixture);
    eventually("it beats again", || heartbeats(&fixture) > heard + 3).await;
    assert!(!is_alive(&fixture) && nothing(&fixture, &connection).await);
    fixture.channel.mute(None);
    calls_itself_dead(&fixture).await;
    eventually("it is heard of", || is_alive(&fixture)).await;
    assert!(nothing(&fixture, &connection).await, "what it held was the tracker's");
}
