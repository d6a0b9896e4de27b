//! Every scenario for every protocol, in separate processes on Kafka.

use tests::cloud::Cloud;
use tests::devices::{HttpDevice, MqttDevice};
use tests::fleet::{Fleet, Shape, shared};
use tests::kafka::{Topics, given};
use tests::{scenario_tests, scenarios};

fn cloud(test: &str) -> Option<&'static Cloud> {
    Some(shared(test)?.cloud())
}

scenario_tests!(crate::scenarios::cloud);

/// The shared processes live as long as the tests do. The logs of these are looked at when they end.
#[tokio::test]
async fn promise_10_nothing_secret_is_logged() {
    let Some(servers) = given("promise 10") else { return };
    let shape = Shape { http: 1, mqtt: 1, command: 1 };
    let mut fleet = Fleet::start(Topics::new(servers), shape, &["--log=trace"]).await;
    let cloud = fleet.cloud();
    scenarios::a_device_with_a_password_is_let_in_and_with_another_is_not(HttpDevice, cloud).await;
    scenarios::a_command_reaches_the_device_that_waits(HttpDevice, cloud).await;
    scenarios::a_command_reaches_the_device_that_waits(MqttDevice::<true>, cloud).await;
    scenarios::attack_malformed_credentials_fail_closed(MqttDevice::<false>, cloud).await;
    let logs: String = fleet.parts().iter().map(|part| part.log()).collect();
    assert!(logs.contains("TRACE"), "the processes log all that they can");
    assert_eq!(tests::secrets::told_in(&logs), Vec::<&str>::new());
}
