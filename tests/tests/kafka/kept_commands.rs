//! Commands that are kept for devices that are away, in separate processes of which every kind is killed meanwhile.

use tests::brokers::Brokers;
use tests::fleet::{Fleet, Kind, Shape, shared};
use tests::kafka::{Topics, given};
use tests::returning::Returners;
use tests::scenarios::{
    not_connected_is_known_though_thousands_are_connected,
    row_19_a_device_on_several_protocols_gets_each_command_once,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_away_gets_all_in_order_on_one_connection_and_in_one_batch() {
    let Some(fleet) = shared("kept commands") else { return };
    let tenant = fleet.cloud().tenant().await;
    let mut returners = Returners::new(&tenant).await;
    returners.send(&tenant, 20).await;
    returners.finish(&tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_every_part_and_the_broker_changes_nothing_for_kept_commands() {
    let Some(mut brokers) = Brokers::start("kept commands", 1).await else { return };
    let shape = Shape { http: 1, mqtt: 1, command: 2 };
    let mut fleet = Fleet::start(Topics::new(brokers.servers()), shape, &["--log=info"]).await;
    let tenant = fleet.cloud().tenant().await;
    let mut returners = Returners::new(&tenant).await;
    returners.send(&tenant, 5).await;
    kill_and_restart(&mut fleet, &[Kind::Command]).await;
    returners.send(&tenant, 5).await;
    kill_and_restart(&mut fleet, &[Kind::Http, Kind::Mqtt]).await;
    returners.send(&tenant, 5).await;
    kill_the_broker(&fleet, &mut brokers).await;
    returners.send(&tenant, 5).await;
    returners.begin(&tenant, 6).await;
    kill_and_restart(&mut fleet, &[Kind::Command]).await;
    returners.begin(&tenant, 9).await;
    kill_and_restart(&mut fleet, &[Kind::Http, Kind::Mqtt]).await;
    returners.begin(&tenant, 12).await;
    kill_the_broker(&fleet, &mut brokers).await;
    returners.finish(&tenant).await;
}

/// Kills all processes of some kinds at once, then starts them again.
async fn kill_and_restart(fleet: &mut Fleet, kinds: &[Kind]) {
    for kind in kinds {
        fleet.of(*kind).into_iter().for_each(|part| part.kill());
    }
    for kind in kinds {
        for part in fleet.of(*kind) {
            part.restart().await;
        }
    }
}

async fn kill_the_broker(fleet: &Fleet, brokers: &mut Brokers) {
    brokers.kill(1);
    fleet.wait_until_ready(false).await;
    brokers.restart(1);
    fleet.wait_until_ready(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_connected_is_known_soon_though_thousands_are_connected_elsewhere() {
    let Some(servers) = given("not-connected") else { return };
    let shape = Shape { http: 2, mqtt: 2, command: 2 };
    let fleet = Fleet::start(Topics::new(servers), shape, &["--log=info", "--max-ttd=10m"]).await;
    not_connected_is_known_though_thousands_are_connected(fleet.cloud()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_19_over_http_and_mqtt_at_once_each_command_comes_once() {
    let Some(fleet) = shared("row 19") else { return };
    row_19_a_device_on_several_protocols_gets_each_command_once(fleet.cloud()).await;
}
