//! Rows 1, 2 and 5 to 7: the channel fails, or is slow. Endpoints in this process, over a channel that is told to.

use std::time::Duration;

use common::channel::{Channel, PublishError};
use common::service::{Clock, Limits};
use tests::cloud::Gate;
use tests::devices::{DeviceDriver, HttpDevice, MqttDevice, Refused};
use tests::faults::{Endpoints, impatient};
use tests::mqtt::wire::{self, Connect};
use tests::mqtt::{self, Client, Version};
use tests::raw::{self, Raw};
use tests::secrets::payload;
use tests::server::shared;
use tests::tenant::Device;
use tests::wait::{eventually, within};
use tests::waiting::SHORT;

fn down() -> PublishError {
    PublishError::Unavailable("it is down".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn row_01_mqtt_has_no_success_while_the_channel_is_down() {
    let endpoints = Endpoints::start_with(impatient(), Clock::system()).await;
    let device = endpoints.device();
    endpoints.channel.fail_all(Some(down()));
    assert_refused_over_mqtt(endpoints.gate(), &device).await;
    endpoints.channel.fail_all(None);
    // The event is in the channel, but no acknowledgement comes: within the stated time that is a failure, too.
    endpoints.channel.hold();
    assert_refused_over_mqtt(endpoints.gate(), &device).await;
}

async fn assert_refused_over_mqtt(gate: Gate, device: &Device) {
    let mut v5 = Client::connect(gate.mqtt, Version::V5, device).await.unwrap();
    let refused = v5.publish("temperature", 1, payload().as_bytes()).await.unwrap_err();
    assert!(matches!(refused, mqtt::Refused::Publish(0x80 | 0x97)), "{refused:?}");
    v5.ping().await;
    let mut v311 = Client::connect(gate.mqtt, Version::V311, device).await.unwrap();
    assert_eq!(v311.publish("temperature", 1, payload().as_bytes()).await, Err(mqtt::Refused::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_02_http_is_503_while_the_channel_is_down() {
    let endpoints = Endpoints::start_with(impatient(), Clock::system()).await;
    let device = endpoints.device();
    let publish = || HttpDevice.publish(endpoints.gate(), &device, "temperature", b"x");
    let refused = Err(Refused::Message("503".to_owned()));
    endpoints.channel.fail_all(Some(down()));
    assert_eq!(publish().await, refused);
    let waiting = HttpDevice.exchange(endpoints.gate(), &device, "temperature", b"x", SHORT).await;
    assert_eq!(waiting, Err(Refused::Message("503".to_owned())));
    endpoints.channel.fail_all(None);
    endpoints.channel.hold();
    assert_eq!(publish().await, refused);
    endpoints.channel.release(Ok(()));
    assert_eq!(publish().await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_05_a_full_queue_is_told_and_recovers_by_itself() {
    let endpoints = Endpoints::start().await;
    let device = endpoints.device();
    for _ in 0..2 {
        endpoints.channel.fail_all(Some(PublishError::Overloaded));
        let refused = HttpDevice.publish(endpoints.gate(), &device, "a", b"x").await;
        assert_eq!(refused, Err(Refused::Message("429".to_owned())));
        let mut v5 = Client::connect(endpoints.gate().mqtt, Version::V5, &device).await.unwrap();
        assert_eq!(v5.publish("a", 1, b"x").await, Err(mqtt::Refused::Publish(0x97)));
        endpoints.channel.fail_all(None);
        assert_eq!(v5.publish("a", 1, b"x").await, Ok(()));
        assert_eq!(HttpDevice.publish(endpoints.gate(), &device, "a", b"x").await, Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_05_reads_pause_while_the_channel_is_slow() {
    let endpoints = Endpoints::start().await;
    let (device, many) = (endpoints.device(), 1_000);
    for qos in [0, 1] {
        endpoints.channel.hold();
        let before = endpoints.channel.events(Channel::Telemetry).len();
        let mut client = Client::connect(endpoints.gate().mqtt, Version::V311, &device).await.unwrap();
        for _ in 0..many {
            client.send_publish("flood", qos, b"x").await;
        }
        // Another device is not behind the flood: when it is held, too, the flood has had its turn.
        let held = endpoints.channel.held();
        let other = endpoints.device();
        let mut other = Client::connect(endpoints.gate().mqtt, Version::V311, &other).await.unwrap();
        let last = format!("after-{qos}");
        other.send_publish(&last, 1, b"x").await;
        eventually("the other event is in the channel", || async {
            endpoints
                .channel
                .events(Channel::Telemetry)
                .iter()
                .any(|event| event.subject == last)
                .then_some(())
        })
        .await;
        let held = held.max(endpoints.channel.held());
        assert!(
            held <= 101,
            "at QoS {qos}, {held} events wait for the channel (option --mqtt-max-in-flight)"
        );
        endpoints.channel.release(Ok(()));
        eventually("all are accepted once the channel answers", || async {
            let after = endpoints.channel.events(Channel::Telemetry).len();
            (after == before + many + 1).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn row_06_what_was_acknowledged_is_in_the_channel_though_the_device_is_gone() {
    let tenant = shared().cloud().tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    for number in 0..30 {
        let version = [Version::V311, Version::V5][number % 2];
        let mut client = Client::connect(tenant.gate().mqtt, version, &device).await.unwrap();
        client.publish(&format!("n{number}"), 1, payload().as_bytes()).await.unwrap();
        drop(client);
        assert_eq!(stream.next().await.attribute("subject"), format!("n{number}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_07_a_disconnect_while_the_acknowledgement_is_pending_leaves_nothing_behind() {
    row_07(HttpDevice).await;
    row_07(MqttDevice::<false>).await;
    row_07(MqttDevice::<true>).await;
}

/// The one connection that the device may have must be free again, while the channel still says nothing.
async fn row_07<D: DeviceDriver>(driver: D) {
    let limits = Limits { max_device_connections: 1, ..Limits::default() };
    let endpoints = Endpoints::start_with(limits, Clock::system()).await;
    let device = endpoints.device();
    for round in 1..=3 {
        endpoints.channel.hold();
        let (gate, gone) = (endpoints.gate(), device.clone());
        let exchange =
            tokio::spawn(
                async move { driver.exchange(gate, &gone, "a", b"x", Duration::from_secs(50)).await },
            );
        let held = eventually("the event waits for its acknowledgement", || async {
            (endpoints.channel.held() > 0).then(|| endpoints.channel.held())
        });
        assert_eq!(held.await, 1, "{} in round {round}", D::NAME);
        exchange.abort();
        let refused = eventually("the session of the gone device is closed", || async {
            let (gate, device) = (endpoints.gate(), device.clone());
            let again = tokio::spawn(async move { driver.publish(gate, &device, "b", b"x").await });
            let is_held = || async { (endpoints.channel.held() == 2 || again.is_finished()).then_some(()) };
            eventually("the event is held or refused", is_held).await;
            if endpoints.channel.held() == 2 {
                return Some(again);
            }
            assert!(again.await.unwrap().is_err());
            None
        });
        let again = refused.await;
        endpoints.channel.release(Ok(()));
        assert_eq!(again.await.unwrap(), Ok(()), "{}", D::NAME);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_is_telemetry_and_fails_quietly_while_the_channel_is_down() {
    let endpoints = Endpoints::start().await;
    let device = endpoints.device();
    for fails in [true, false] {
        endpoints.channel.fail_all(fails.then(down));
        let will = wire::Will { topic: "will".into(), payload: payload(), properties: Vec::new() };
        let connect = Connect { will: Some(will), ..Connect::of(Version::V5, &device) };
        drop(Client::connect_with(endpoints.gate().mqtt, &connect).await.unwrap());
        // The endpoint serves on, whatever became of the will.
        let mut other =
            Client::connect(endpoints.gate().mqtt, Version::V5, &endpoints.device()).await.unwrap();
        other.ping().await;
    }
    eventually("the will is in the channel", || async {
        let events = endpoints.channel.events(Channel::Telemetry);
        events.iter().any(|event| event.subject == "will").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_came_before_a_failed_acknowledgement_is_not_in_the_answer() {
    let endpoints = Endpoints::start().await;
    let device = endpoints.device();
    let mut connection = Raw::connect(endpoints.gate().http).await;
    endpoints.channel.hold();
    connection.send(request(&device)).await;
    eventually("the event is held", || async { (endpoints.channel.held() == 1).then_some(()) }).await;
    let key = tests::faults::key(&device);
    endpoints.channel.send(common::testing::command(&key, "set-temp".parse().unwrap(), b"40"));
    endpoints.channel.release(Err(down()));
    let answer = within("the answer", connection.response()).await;
    assert_eq!(raw::status(&answer), 503, "{answer}");
    assert_eq!(raw::header(&answer, "command"), None);
}

fn request(device: &Device) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let credentials = BASE64_STANDARD.encode(format!("{}:{}", device.user(), device.secret));
    format!(
        "POST /v1/a?ttd=30 HTTP/1.1\r\nhost: x\r\nauthorization: Basic {credentials}\r\ncontent-length: 0\r\n\r\n"
    )
}
