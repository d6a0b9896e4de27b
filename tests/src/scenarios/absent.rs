//! A device that is away, with thousands of others connected.

use std::time::Duration;

use common::outcome::State;
use common::time::Timestamp;

use crate::actors::Stage;
use crate::cloud::Cloud;
use crate::history::now;
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
    let (mut took, mut seen) = (Vec::new(), Vec::new());
    for _ in 0..COMMANDS {
        let id = tenant.command(&device, "nobody", &payload()).await;
        let begin = now();
        assert_eq!(outcomes.until_settled(&id).await, ["undelivered: not-connected"]);
        seen.push(now().saturating_sub(begin));
        let command = tenant.command_in(&device, &id, "undelivered").await;
        let accepted = time(command["history"][0]["time"].as_str().unwrap_or_default());
        let told = time(outcomes.event(&id, State::Undelivered).attribute("time"));
        took.push(told.saturating_since(accepted));
    }
    took.sort();
    seen.sort_unstable();
    let (middle, last) = (COMMANDS / 2, COMMANDS - 1);
    let connected = 2 * EACH;
    eprintln!(
        "not-connected, {connected} connected elsewhere, by the events' times: p50 {:?}, highest of {COMMANDS} {:?}; \
         from the 202 to the event and GET: p50 {} ms, highest {} ms",
        took[middle], took[last], seen[middle], seen[last]
    );
    stage.stop();
    while let Some(device) = devices.join_next().await {
        device.expect("no device fails");
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time is a timestamp")
}
