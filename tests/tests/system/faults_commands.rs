//! Rows 10, 16, 17, 20, 22 to 24: commands, and the devices that they do not reach.

use std::time::Duration;

use common::channel::Channel;
use common::command::Command;
use common::event::Malformed;
use common::service::Clock;
use common::testing;
use tests::api::http_client;
use tests::devices::{DeviceDriver, HttpDevice, MqttDevice};
use tests::events::Query;
use tests::faults::{Endpoints, key};
use tests::mqtt::{Client, Version, wire};
use tests::outcomes::Outcomes;
use tests::secrets::payload;
use tests::server::{Server, shared};
use tests::tenant::{Device, Tenant};
use tests::wait::{eventually, within};
use tests::waiting::{LONG, Waiting};

#[tokio::test]
async fn row_10_a_command_for_an_absent_device_is_counted_and_never_delivered() {
    let server = Server::start(&[]).await;
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    let id = tenant.command(&device, "nobody", &payload()).await;
    eventually("the drop is counted", || async {
        (server.cloud().metric("drogue_commands_foreign_total", &[]).await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(server.outcomes(&id), []);
    assert_eq!(server.cloud().metric("drogue_commands_total", &[("state", "delivered")]).await, 0.0);
}

#[tokio::test]
async fn row_16_a_command_that_races_the_end_of_ttd_is_in_the_response_or_reported() {
    race_the_end_of_ttd(shared(), 40).await;
}

/// Sends commands around the end of waits. Each is in a response and reported delivered; or else in none, and reported
/// undelivered, or pending where it is kept.
pub(crate) async fn race_the_end_of_ttd(server: &Server, rounds: u64) {
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    let mut outcomes = Outcomes::of(&tenant, &device).await;
    let (mut delivered, mut missed) = (0, 0);
    for round in 0..rounds {
        let query = if round / 10 % 2 == 0 { "race" } else { "race?ttl=10m" };
        let (answer, id) = race_once(&tenant, &device, round, query).await;
        // A command behind it has been through the same log: then this one's outcome is known.
        let next = Waiting::begin(HttpDevice, &tenant, &device, LONG).await;
        match answer {
            Some(command) => {
                assert_eq!(command.id, id);
                assert_eq!(outcomes.end(&id).await, "delivered: written");
                delivered += 1;
            }
            None if query.contains("ttl") => {
                let pending = next.end().await.expect("what is pending comes in the next wait");
                assert_eq!(pending.id, id, "no command is answered twice, nor late");
                assert_eq!(outcomes.end(&id).await, "delivered: written");
                missed += 1;
                continue;
            }
            None => {
                assert_eq!(outcomes.until_settled(&id).await, ["undelivered: not-connected"]);
                missed += 1;
            }
        }
        tenant.command(&device, "behind", &payload()).await;
        let behind = next.end().await.expect("a wait that is not at its end gets the command");
        assert_eq!(behind.name, "behind", "no command is answered twice, nor late");
    }
    assert!(delivered > 0 && missed > 0, "{delivered} delivered, {missed} missed: that was no race");
}

/// Waits shortly, and sends a command from well before the end to well after it, in steps that no round repeats exactly.
async fn race_once(
    tenant: &Tenant,
    device: &Device,
    round: u64,
    query: &str,
) -> (Option<tests::devices::Command>, String) {
    let wait = Duration::from_millis(30 + round % 10 * 7);
    let exchange = HttpDevice.exchange(tenant.gate(), device, "temperature", b"x", wait);
    let command = async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let answer = tenant.submit(device, query, &payload()).await;
        answer.expect_status(202).json()["id"].as_str().unwrap().to_owned()
    };
    let (answer, id) = tokio::join!(exchange, command);
    (answer.expect("telemetry is accepted"), id)
}

#[tokio::test]
async fn row_17_a_client_that_vanishes_while_it_waits_frees_the_wait() {
    let server = Server::start(&["--max-device-connections=2"]).await;
    row_17(HttpDevice, &server).await;
    row_17(MqttDevice::<false>, &server).await;
    row_17(MqttDevice::<true>, &server).await;
}

/// More waits, one after another, than the device may have at once; then a command, which is nobody's.
async fn row_17<D: DeviceDriver>(driver: D, server: &Server) {
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    for _ in 0..5 {
        let waiting = eventually("the connection of the gone client is free", || async {
            let gate = tenant.gate();
            driver.publish(gate, &device, "probe", b"x").await.is_ok().then_some(())
        });
        waiting.await;
        Waiting::begin(driver, &tenant, &device, LONG).await.hang_up().await;
    }
    let foreign = || server.cloud().metric("drogue_commands_foreign_total", &[]);
    eventually("a command for the gone client is nobody's", || async {
        let before = foreign().await;
        let id = tenant.command(&device, "nobody", &payload()).await;
        let what_became = || async {
            let outcomes = server.outcomes(&id);
            (!outcomes.is_empty() || foreign().await > before).then_some(outcomes)
        };
        let outcomes = eventually("the command has an end", what_became).await;
        assert!(outcomes.iter().all(|(state, _)| state != "delivered"), "{}: {outcomes:?}", D::NAME);
        outcomes.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn row_20_a_ttd_is_a_number_of_seconds_and_at_most_the_maximum() {
    let server = Server::start(&["--max-ttd=1s"]).await;
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    let post = async |ttd: &str| {
        let url = format!("http://{}/v1/temperature?ttd={ttd}", tenant.gate().http);
        let request = http_client().post(url).basic_auth(device.user(), Some(&device.secret));
        within("an answer", request.send()).await.unwrap()
    };
    for bad in ["-1", "NaN", "inf", "1e3", "", "1.", ".5", "0x10", "%2B1", "5s"] {
        let answer = post(bad).await;
        assert_eq!(answer.status(), 400, "{bad:?}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    for (accepted, granted) in
        [("0", None), ("0.0", None), ("0.25", None), ("999999999999999999999", Some("1"))]
    {
        let answer = post(accepted).await;
        assert_eq!(answer.status(), 202, "{accepted:?}");
        let said = answer.headers().get("ttd").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(said.as_deref(), granted, "{accepted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_22_a_poison_record_is_skipped() {
    let endpoints = Endpoints::start().await;
    let device = endpoints.device();
    let mut client = Client::connect(endpoints.gate().mqtt, Version::V5, &device).await.unwrap();
    client.subscribe(&[("cmd", 1)]).await.unwrap();
    let key = key(&device);
    for poison in [Malformed::NoEvent, Malformed::KeyMismatch, Malformed::Missing("id")] {
        endpoints.channel.put(Channel::Commands, key.as_str().as_bytes(), Err(poison));
    }
    endpoints.channel.put(Channel::Commands, b"\xff\0no key", Err(Malformed::NoEvent));
    endpoints.channel.send(testing::command(&key, "after".parse().unwrap(), b"1"));
    let message = client.message().await.unwrap();
    assert_eq!(message.properties.user("command"), Some("after"));
    assert!(endpoints.service.is_live());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_an_expired_command_is_not_delivered() {
    row_23(HttpDevice).await;
    row_23(MqttDevice::<false>).await;
    row_23(MqttDevice::<true>).await;
}

/// A command that is read only when its time is over: nobody can send such a one, a channel that lags can.
async fn row_23<D: DeviceDriver>(driver: D) {
    let endpoints = Endpoints::start().await;
    let device = endpoints.device();
    let (gate, waits) = (endpoints.gate(), device.clone());
    let device_side = tokio::spawn(async move {
        loop {
            // Over HTTP the wait is used up by what has lapsed, as by any command: the device waits again.
            let answer = driver.exchange(gate, &waits, "a", b"x", LONG).await.unwrap();
            if let Some(command) = answer {
                return command;
            }
        }
    });
    eventually("the wait has begun", || async {
        (!endpoints.channel.events(Channel::Telemetry).is_empty()).then_some(())
    })
    .await;
    let lapsed = testing::command(&key(&device), "lapsed".parse().unwrap(), b"1");
    endpoints.channel.send(Command { expires: Clock::system().wall(), ..lapsed });
    eventually("its lapse is reported", || async {
        let outcomes = endpoints.channel.events(Channel::Outcomes);
        let told: Vec<_> = outcomes.iter().map(|event| (event.subject.as_str(), &*event.kind)).collect();
        (told == [("lapsed", "io.drogue.command.expired.v1")]).then_some(())
    })
    .await;
    eventually("a command in time comes", || async {
        endpoints.channel.send(testing::command(&key(&device), "in-time".parse().unwrap(), b"1"));
        device_side.is_finished().then_some(())
    })
    .await;
    let received = device_side.await.unwrap();
    assert_eq!(received.name.as_str(), "in-time", "{}", D::NAME);
}

#[tokio::test]
async fn row_23_a_command_that_expires_in_the_queue_is_reported() {
    let server = Server::start(&["--mqtt-max-unacknowledged=1"]).await;
    let tenant = server.cloud().tenant().await;
    let device = tenant.device().await;
    let mut client = Client::connect(tenant.gate().mqtt, Version::V5, &device).await.unwrap();
    client.subscribe(&[("cmd", 1)]).await.unwrap();
    let mut outcomes = Outcomes::of(&tenant, &device).await;
    let mut commands = tenant.events(&Query { channels: vec!["commands"], ..Query::default() }).await;
    tenant.command(&device, "first", &payload()).await;
    let first = client.unacknowledged_message().await.unwrap();
    // While the first is not acknowledged, the next ones wait in the queue, one of them for too long.
    let lapsed = tenant.command_with_ttl(&device, "lapsed", "1s").await;
    tenant.command(&device, "last", &payload()).await;
    let expiry = commands.take(2).await[1].attribute("expirytime").parse().unwrap();
    eventually("its time is over", || async { (Clock::system().wall() > expiry).then_some(()) }).await;
    client.send(&wire::puback(first.id.unwrap())).await;
    assert_eq!(client.message().await.unwrap().properties.user("command"), Some("last"));
    assert_eq!(outcomes.end(&lapsed).await, "expired");
}

#[tokio::test]
async fn row_24_a_device_that_does_not_read_fills_its_own_queue_only() {
    a_device_that_does_not_read(&Server::start(&["--command-queue=10"]).await).await;
}

/// Sends more commands to a device that reads nothing than its queue and its socket hold; others get theirs.
pub(crate) async fn a_device_that_does_not_read(server: &Server) {
    let tenant = server.cloud().tenant().await;
    let (slow, quick) = (tenant.device().await, tenant.device().await);
    let mut deaf = Client::connect(tenant.gate().mqtt, Version::V311, &slow).await.unwrap();
    deaf.subscribe(&[("cmd", 1)]).await.unwrap();
    let overflow = || server.cloud().metric("drogue_commands_total", &[("detail", "overflow")]);
    let large = format!(r#""{}""#, "x".repeat(16 * 1024));
    let mut sent = 0;
    while overflow().await == 0.0 {
        tenant.command(&slow, "more", &large).await;
        sent += 1;
        assert!(sent < 2_000, "a queue that takes {sent} commands is not bounded");
        if sent % 20 == 0 {
            assert_reachable(&tenant, &quick).await;
        }
    }
    assert_reachable(&tenant, &quick).await;
    let waiting = Waiting::begin(MqttDevice::<false>, &tenant, &quick, LONG).await;
    tenant.command(&quick, "through", &payload()).await;
    assert!(waiting.end().await.is_some());
}

async fn assert_reachable(tenant: &Tenant, device: &Device) {
    let waiting = Waiting::begin(HttpDevice, tenant, device, LONG).await;
    tenant.command(device, "through", &payload()).await;
    assert!(waiting.end().await.is_some(), "one slow device slows only itself");
}
