//! Several replicas, each with a Subscription of its own, and what becomes of it.

use serde_json::Value;
use tests::devices::{HttpDevice, MqttDevice};
use tests::fleet::Kind;
use tests::knative::{fleet, given, given_waiting, pod_of};
use tests::process::Signal;
use tests::scenarios::{a_command_arrives_through, a_command_reaches_the_device_that_waits};

/// Each replica has a Subscription of its own, and a command reaches the one that holds the device, every time: scenarios go to
/// one replica after the other.
#[tokio::test]
async fn a_command_reaches_the_replica_that_holds_the_device_every_time() {
    let Some(channels) = given("a_command_reaches_the_replica_that_holds_the_device_every_time").await else {
        return;
    };
    let fleet = fleet(channels, 2).await;
    for kind in [Kind::Http, Kind::Mqtt] {
        for number in 0..2 {
            let subscriptions = fleet.ground().subscriptions_of(&pod_of(kind, number)).await;
            let channels: Vec<_> =
                subscriptions.iter().map(|object| object.data["spec"]["channel"]["name"].clone()).collect();
            assert_eq!(channels, [Value::from("commands")]);
        }
    }
    for _ in 0..10 {
        a_command_reaches_the_device_that_waits(HttpDevice, fleet.cloud()).await;
        a_command_reaches_the_device_that_waits(MqttDevice::<true>, fleet.cloud()).await;
    }
}

/// On channels that answer when all subscribers have, the same holds.
#[tokio::test]
async fn a_channel_that_waits_for_its_subscribers_does_as_well() {
    let Some(channels) = given_waiting("a_channel_that_waits_for_its_subscribers_does_as_well").await else {
        return;
    };
    let fleet = fleet(channels, 1).await;
    for _ in 0..5 {
        a_command_reaches_the_device_that_waits(HttpDevice, fleet.cloud()).await;
        a_command_reaches_the_device_that_waits(MqttDevice::<false>, fleet.cloud()).await;
    }
}

/// A replica that is asked to end removes its Subscription; one whose Pod is deleted loses it with that; and one that crashed
/// comes back in its place, whatever the channels said meanwhile.
#[tokio::test]
async fn no_replica_leaves_a_subscription_behind() {
    let Some(channels) = given("no_replica_leaves_a_subscription_behind").await else { return };
    let mut fleet = fleet(channels, 2).await;
    {
        let mut http = fleet.of(Kind::Http);
        http[0].signal(Signal::Terminate);
        assert!(http[0].ended().await, "{}", http[0].log());
    }
    fleet.ground().wait_until_unsubscribed(&pod_of(Kind::Http, 0)).await;

    fleet.of(Kind::Mqtt)[0].kill();
    assert_eq!(fleet.ground().subscriptions_of(&pod_of(Kind::Mqtt, 0)).await.len(), 1);
    fleet.ground().delete_pod(&pod_of(Kind::Mqtt, 0)).await;
    fleet.ground().wait_until_unsubscribed(&pod_of(Kind::Mqtt, 0)).await;

    // The container of a Pod is started again, and others go on meanwhile.
    fleet.of(Kind::Mqtt)[1].kill();
    let gate = fleet.cloud().gates()[1];
    a_command_arrives_through(gate, HttpDevice, fleet.cloud()).await;
    fleet.of(Kind::Mqtt)[1].restart().await;
    assert_eq!(fleet.ground().subscriptions_of(&pod_of(Kind::Mqtt, 1)).await.len(), 1);
    a_command_arrives_through(gate, MqttDevice::<true>, fleet.cloud()).await;
}
