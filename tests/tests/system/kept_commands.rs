//! Commands that are kept for devices that are away, in one process that is killed meanwhile.

use tests::returning::Returners;
use tests::scenarios::not_connected_is_known_though_thousands_are_connected;
use tests::server::{Server, shared};

/// How many commands a device has missed.
const MISSED: usize = 20;

#[tokio::test]
async fn a_device_that_was_away_gets_all_in_order_on_one_connection_and_in_one_batch() {
    let tenant = shared().cloud().tenant().await;
    let mut returners = Returners::new(&tenant).await;
    returners.send(&tenant, MISSED).await;
    returners.finish(&tenant).await;
}

#[tokio::test]
async fn kill_9_between_commands_and_the_devices_return_changes_nothing() {
    let mut server = Server::start(&["--log=info"]).await;
    let tenant = server.cloud().tenant().await;
    let mut returners = Returners::new(&tenant).await;
    returners.send(&tenant, MISSED / 2).await;
    server.restart().await;
    let tenant = tenant.moved_to(server.cloud());
    returners.send(&tenant, MISSED / 2).await;
    server.restart().await;
    returners.finish(&tenant.moved_to(server.cloud())).await;
}

#[tokio::test]
async fn kill_9_while_a_device_fetches_what_it_missed_changes_nothing() {
    let mut server = Server::start(&["--log=info"]).await;
    let tenant = server.cloud().tenant().await;
    let mut returners = Returners::new(&tenant).await;
    returners.send(&tenant, MISSED).await;
    returners.begin(&tenant, MISSED / 3).await;
    server.restart().await;
    returners.finish(&tenant.moved_to(server.cloud())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_connected_is_known_soon_though_thousands_are_connected_elsewhere() {
    let server = Server::start(&["--log=info", "--max-ttd=10m"]).await;
    not_connected_is_known_though_thousands_are_connected(server.cloud()).await;
}
