//! A device that is away, with thousands of others connected.

use std::time::Duration;

use common::outcome::State;
use common::time::Timestamp;

use crate::actors::Stage;
use crate::cloud::Cloud;
use crate::outcomes::Outcomes;
use crate::secrets::payload;
use crate::wait::eventually;

/// Devices of each protocol that are connected.
const EACH: usize = 1_000;
const COMMANDS: usize = 50;

/// A command for a device that is away is known to have met none, however many others are there. How soon is printed.
pub async fn not_connected_is_known_though_thousands_are_connected(cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let stage = Stage::set(&tenant, EACH, Duration::from_secs(500)).await;
    let mut devices = stage.start();
    eventually("all devices are connected", || async { (stage.connected() >= 2 * EACH).then_some(()) }).await;
    let device = tenant.device().await;
    let mut outcomes = Outcomes::of(&tenant, &device).await;
    let mut took = Vec::new();
    for _ in 0..COMMANDS {
        let id = tenant.command(&device, "nobody", &payload()).await;
        assert_eq!(outcomes.until_settled(&id).await, ["undelivered: not-connected"]);
        let command = tenant.command_in(&device, &id, "undelivered").await;
        let accepted = time(command["history"][0]["time"].as_str().unwrap_or_default());
        let told = time(outcomes.event(&id, State::Undelivered).attribute("time"));
        took.push(told.saturating_since(accepted));
    }
    took.sort();
    eprintln!(
        "not-connected, {} connected elsewhere: p50 {:?}, highest of {COMMANDS} {:?}",
        2 * EACH,
        took[COMMANDS / 2],
        took[COMMANDS - 1]
    );
    stage.stop();
    while let Some(device) = devices.join_next().await {
        device.expect("no device fails");
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time is a timestamp")
}
