//! Runs that are judged by their history: many devices and commands, and kills at random.

use std::time::Duration;

use tests::actors::Stage;
use tests::chaos::settled;
use tests::fleet::{Fleet, Shape};
use tests::history::{Found, judge};
use tests::kafka::{Topics, given};
use tests::wait::eventually;

/// Devices of each protocol, and commands.
const EACH: usize = 1_000;
const COMMANDS: usize = 20_000;
const TTL: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread")]
async fn every_command_reaches_its_device_once_and_in_order_and_nobody_else() {
    let Some(servers) = given("2,000 devices") else { return };
    let shape = Shape { http: 3, mqtt: 3, command: 2 };
    // A wait that ends before its turn comes would leave its device unreachable for a moment.
    let fleet = Fleet::start(Topics::new(servers), shape, &["--log=info", "--max-ttd=10m"]).await;
    let tenant = fleet.cloud().tenant().await;
    let stage = Stage::set(&tenant, EACH, TTL).await;
    let mut devices = stage.start();
    stage.send_to_waiting(COMMANDS, TTL).await;
    eventually("all commands arrive", || async { (stage.received() >= COMMANDS).then_some(()) }).await;
    stage.stop();
    while let Some(device) = devices.join_next().await {
        device.unwrap();
    }
    let outcomes = Some(settled(fleet.topics(), stage.history()).await);
    let found = Found { telemetry: Vec::new(), outcomes };
    let verdict = judge(&stage.history().operations(), &found, TTL);
    eprintln!("{:?}", verdict.outcomes);
    // Telemetry is not what this is about: its faults would be that nothing was kept.
    let faults: Vec<_> =
        verdict.faults.iter().filter(|fault| !fault.starts_with("lost: telemetry")).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    assert_eq!(verdict.commands["accepted, received"], COMMANDS);
    assert!(verdict.outcomes.keys().all(|end| end.starts_with("delivered")), "{:?}", verdict.outcomes);
}

#[tokio::test(flavor = "multi_thread")]
async fn ack_before_commit_a_run_with_random_kills_loses_nothing_and_explains_everything() {
    let Some(verdict) = tests::chaos::run(Duration::from_secs(45), 4).await else { return };
    eprintln!("{verdict}");
    assert!(verdict.faults.is_empty(), "{verdict}");
    assert!(verdict.commands["accepted, received"] > 100, "{verdict}");
    assert!(verdict.due > 0, "{verdict}");
    assert!(verdict.telemetry["accepted"] > 100, "{verdict}");
}
