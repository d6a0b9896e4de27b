//! What one replica does, and goes on with after a restart.

use common::ledger::Cancel;
use common::outcome::State;

use super::*;

/// Longer ago than a command may take to come into the log.
const LONG_AGO: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_kept_is_handed_over_when_its_device_comes() {
    let cloud = Cloud::new().await;
    let replica = cloud.acting().await;
    let ids = [cloud.send("one").await.id, cloud.send("two").await.id];
    cloud.until_told("two pending").await;
    let session = cloud.log_in().await;
    let connection = cloud.connect(&session).await;
    assert_eq!([deliver(&connection).await, deliver(&connection).await], ["one", "two"]);
    for id in ids {
        let state = async || cloud.ledger().get(&cloud.device, &id).await.unwrap().map(|row| row.state);
        let delivered = async || state().await == Some(State::Delivered);
        testing::eventually_async("its row says so", delivered).await;
        eventually("it is followed no more", || replica.tracker.command(&cloud.device, &id).is_none()).await;
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_it_goes_on_where_it_was() {
    let cloud = Cloud::new().await;
    let replica = cloud.acting().await;
    for name in ["one", "two", "three"] {
        cloud.send(name).await;
    }
    let session = cloud.log_in().await;
    let first = cloud.wait(&session).await;
    let (owned, name) = begun(&first).await;
    assert_eq!(name, "one");
    replica.stop().await;
    let loaded = cloud.ledger().load(common::channel::Partition(0)).await.unwrap();
    assert!(loaded.saved.is_some() && loaded.rows.len() == 3, "its last word is what it knows: {loaded:?}");
    // What becomes of one, it reads later; the next are handed over when it is back.
    owned.finish(Outcome::Delivered(Confirmation::Puback));
    let second = cloud.wait(&session).await;
    let replica = cloud.acting().await;
    assert_eq!(deliver(&second).await, "two");
    let third = cloud.connect(&session).await;
    assert_eq!(deliver(&third).await, "three");
    cloud.until_told("three delivered").await;
    assert_eq!(["one", "two", "three"].map(|name| cloud.count(&format!("{name} delivered"))), [1, 1, 1]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_channel_hands_over_again_is_not_read_again() {
    let cloud = Cloud::new().await;
    let replica = cloud.acting().await;
    let session = cloud.log_in().await;
    let [older, newer] = [cloud.wait(&session).await, cloud.wait(&session).await];
    cloud.channel.send(cloud.command("first"));
    let (first, _) = begun(&newer).await;
    // Nothing of it is told yet: the outcomes are read from their beginning, and so is the one log that has both.
    replica.stop().await;
    let replica = cloud.acting().await;
    cloud.channel.send(cloud.command("second"));
    let (second, _) = begun(&older).await;
    cloud.channel.send(cloud.command("third"));
    cloud.until_told("third undelivered").await;
    [first, second]
        .into_iter()
        .for_each(|delivery| delivery.finish(Outcome::Delivered(Confirmation::Puback)));
    cloud.until_told("second delivered").await;
    assert_eq!([cloud.count("first undelivered"), cloud.count("second undelivered")], [0, 0]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_the_log_lacks_is_published_again() {
    let cloud = Cloud::new().await;
    let command = cloud.submit("set", LONG_AGO).await;
    let replica = cloud.acting().await;
    let session = cloud.log_in().await;
    let connection = cloud.connect(&session).await;
    assert_eq!(deliver(&connection).await, "set");
    cloud.until_told("set delivered").await;
    assert_eq!(cloud.copies(&command.id), 1);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_the_channel_refuses_does_not_stop_the_others() {
    let cloud = Cloud::new().await;
    let refused = cloud.submit("refused", LONG_AGO).await;
    cloud.channel.fail_next(common::channel::PublishError::TooLarge);
    let replica = cloud.acting().await;
    // It comes at last, when it is looked for again; by the same tracker under the same epoch.
    let session = cloud.log_in().await;
    let connection = cloud.connect(&session).await;
    assert_eq!(deliver(&connection).await, "refused");
    assert_eq!((cloud.copies(&refused.id), cloud.handovers()), (1, vec![1]));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_nobody_was_told_of_is_told() {
    let cloud = Cloud::new().await;
    let command = cloud.send("set").await;
    let now = Clock::system().wall();
    let cancelled = cloud.ledger().cancel(&cloud.device, &command.id, now).await.unwrap();
    assert!(matches!(cancelled, Cancel::Done(_)));
    let replica = cloud.acting().await;
    cloud.until_told("set cancelled").await;
    let session = cloud.log_in().await;
    let connection = cloud.connect(&session).await;
    cloud.send("next").await;
    assert_eq!(deliver(&connection).await, "next");
    replica.stop().await;
}
