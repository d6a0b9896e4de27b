//! What becomes of the cloud when parts of the cluster stop: a binary of its own, as they stop for all tests.
//!
//! They take the cluster from `KUBECONFIG`, and from `DROGUE_TEST_CONTROL` a program that stops and starts its parts; they say
//! that they are skipped where either is missing.

use std::time::Duration;

use tests::control::Control;
use tests::devices::{DeviceDriver, HttpDevice, MqttDevice};
use tests::fleet::Kind;
use tests::knative::{fleet, given, pod_of};
use tests::process::Signal;
use tests::scenarios::a_command_reaches_the_device_that_waits;
use tests::waiting::Waiting;

/// A wait that outlasts an outage.
const LONGER: Duration = Duration::from_secs(170);

/// Rows 1, 2 and 21 of the faults: while the channels are down nothing is accepted and no replica is ready. When they are
/// back, what was missed meanwhile is not known: sessions are ended, and whoever connects anew gets its commands.
#[tokio::test]
async fn rows_01_02_21_a_restarted_dispatcher_is_survived() {
    const TEST: &str = "rows_01_02_21_a_restarted_dispatcher_is_survived";
    let Some(control) = Control::given(TEST).await else { return };
    let Some(channels) = given(TEST).await else { return };
    let fleet = fleet(channels, 1).await;
    let tenant = fleet.cloud().tenant().await;
    let (device, other) = (tenant.device().await, tenant.device().await);
    let waiting = Waiting::begin(MqttDevice::<true>, &tenant, &device, LONGER).await;

    control.stop("dispatcher");
    fleet.wait_until_ready(false).await;
    assert!(HttpDevice.publish(tenant.gate(), &other, "t", b"x").await.is_err());
    assert!(MqttDevice::<true>.publish(tenant.gate(), &other, "t", b"x").await.is_err());
    assert!(MqttDevice::<false>.publish(tenant.gate(), &other, "t", b"x").await.is_err());

    control.start("dispatcher");
    fleet.wait_until_ready(true).await;
    assert_eq!(waiting.end().await, None);
    let waiting = Waiting::begin(MqttDevice::<true>, &tenant, &device, LONGER).await;
    let id = tenant.command(&device, "reboot", "{}").await;
    assert_eq!(waiting.end().await.map(|command| command.id), Some(id));
    a_command_reaches_the_device_that_waits(HttpDevice, fleet.cloud()).await;
}

/// While the API server is down everything that runs goes on; a replica that ends then leaves its Subscription to its Pod.
#[tokio::test]
async fn a_restarted_api_server_is_survived() {
    const TEST: &str = "a_restarted_api_server_is_survived";
    let Some(control) = Control::given(TEST).await else { return };
    let Some(channels) = given(TEST).await else { return };
    let mut fleet = fleet(channels, 1).await;

    control.stop("apiserver");
    a_command_reaches_the_device_that_waits(HttpDevice, fleet.cloud()).await;
    {
        let mut mqtt = fleet.of(Kind::Mqtt);
        mqtt[0].signal(Signal::Terminate);
        assert!(mqtt[0].ended().await, "{}", mqtt[0].log());
        assert!(mqtt[0].log().contains("it goes with its Pod"), "{}", mqtt[0].log());
    }

    control.start("apiserver");
    assert_eq!(fleet.ground().subscriptions_of(&pod_of(Kind::Mqtt, 0)).await.len(), 1);
    fleet.ground().delete_pod(&pod_of(Kind::Mqtt, 0)).await;
    fleet.ground().wait_until_unsubscribed(&pod_of(Kind::Mqtt, 0)).await;
    fleet.ground().pod(&pod_of(Kind::Mqtt, 0)).await;
    fleet.of(Kind::Mqtt)[0].restart().await;
    a_command_reaches_the_device_that_waits(MqttDevice::<false>, fleet.cloud()).await;
}
