//! What holds for devices of every protocol, written once. A scenario knows a driver and a cloud, nothing of either.
//!
//! [`scenario_tests`](crate::scenario_tests) makes a test of each for each driver, for a shape of the cloud.

mod absent;
mod attacks;
mod keeping;
mod outcomes;
mod several;

pub use absent::*;
pub use attacks::*;
pub use keeping::*;
pub use outcomes::*;
pub use several::*;

use std::time::Duration;

use serde_json::json;

use crate::cloud::{Cloud, Gate};
use crate::devices::{Command, DeviceDriver, Refused};
use crate::events::{EventStream, Query, Received};
use crate::outcomes::Outcomes;
use crate::secrets::{self, payload};
use crate::tenant::{Device, Tenant};
use crate::wait::eventually;
use crate::waiting::{LONG, SHORT, Waiting};

/// Calls a macro with the names of all scenarios, behind `with =>` if that is given.
#[macro_export]
macro_rules! for_each_scenario {
    ($generate:ident $(, $with:path)?) => {
        $generate! {
            $($with =>)?
            telemetry_is_in_the_stream_as_it_was_sent,
            telemetry_of_a_device_keeps_its_order,
            a_command_reaches_the_device_that_waits,
            a_command_that_answers_telemetry_is_not_too_early,
            a_wait_without_a_command_ends_empty,
            a_command_comes_once,
            row_10_a_command_for_an_absent_device_does_not_wait_for_it,
            row_18_of_two_waits_the_newest_gets_the_command_and_only_that_one,
            row_26_a_revoked_device_is_out_within_two_seconds,
            a_deleted_application_takes_its_devices_along,
            a_device_with_a_password_is_let_in_and_with_another_is_not,
            a_disabled_device_is_not_let_in,
            attack_malformed_credentials_fail_closed,
            attack_identity_in_names_is_refused,
            attack_topic_shape_is_refused,
            attack_crossing_tenants_by_command_reaches_nobody,
            reserved_subjects_are_refused,
            a_payload_above_the_limit_is_refused,
            a_new_device_can_log_in_at_once,
            an_accepted_command_can_be_looked_up,
            a_delivered_command_is_reported_to_whoever_waits_and_as_an_event,
            row_10_a_command_for_an_absent_device_is_reported,
            what_is_not_known_in_time_is_still_under_way,
            a_reply_is_the_answer,
            a_device_may_reject,
            a_reply_of_another_device_is_refused,
            a_second_reply_is_refused,
            commands_with_ttl_wait_for_their_device_in_order,
            a_command_with_ttl_for_a_device_that_is_there_is_delivered_at_once,
            a_pending_command_expires,
            a_pending_command_is_cancelled_and_no_other,
            a_newer_command_supersedes_a_pending_one,
            an_idempotency_key_makes_one_command,
            too_many_pending_commands_are_refused,
            a_connection_can_be_looked_up,
        }
    };
}

/// Makes a test of each scenario for each driver, in the cloud that a function returns for the name of a test. Where it
/// returns `None` it has said why the test is skipped.
#[macro_export]
macro_rules! scenario_tests {
    ($cloud:path) => {
        $crate::for_each_scenario!(scenario_tests, $cloud);
    };
    ($cloud:path => $($scenario:ident,)*) => {
        mod http {
            $crate::scenario_tests! { @driver $cloud, $crate::devices::HttpDevice => $($scenario,)* }
        }
        mod mqtt_311 {
            $crate::scenario_tests! { @driver $cloud, $crate::devices::MqttDevice::<false> => $($scenario,)* }
        }
        mod mqtt_5 {
            $crate::scenario_tests! { @driver $cloud, $crate::devices::MqttDevice::<true> => $($scenario,)* }
        }
    };
    (@driver $cloud:path, $driver:expr => $($scenario:ident,)*) => {$(
        #[tokio::test]
        async fn $scenario() {
            if let Some(cloud) = $cloud(stringify!($scenario)) {
                $crate::scenarios::$scenario($driver, cloud).await;
            }
        }
    )*};
}

/// What is sent is what the application gets, byte for byte, under the device's own name.
pub async fn telemetry_is_in_the_stream_as_it_was_sent<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    let binary = [secrets::MARK.as_bytes(), &[0, 255, 128, 10, 13]].concat();
    let subject = "floor-1/room:2/temp_~.x";
    assert_eq!(driver.publish(tenant.gate(), &device, subject, &binary).await, Ok(()));
    let received = stream.next().await;
    let expected = [
        ("specversion", "1.0"),
        ("type", "io.drogue.telemetry.v1"),
        ("subject", subject),
        ("application", &tenant.app),
        ("device", &device.name),
        ("partitionkey", &format!("{}/{}", tenant.app, device.name)),
        ("source", &format!("drogue://{}/{}", tenant.app, device.name)),
    ];
    for (attribute, value) in expected {
        assert_eq!(received.attribute(attribute), value, "{attribute}");
    }
    assert_eq!(decode(received.attribute("data_base64")), binary);
    assert!(received.event.get("data").is_none(), "binary data is data_base64 only");
}

/// Events of one device come in the order in which they were accepted.
pub async fn telemetry_of_a_device_keeps_its_order<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    for number in 0..20 {
        let accepted = driver.publish(tenant.gate(), &device, &format!("n{number}"), b"x").await;
        assert_eq!(accepted, Ok(()));
    }
    let events = stream.take(20).await;
    let subjects: Vec<_> = events.iter().map(|received| received.attribute("subject")).collect();
    assert_eq!(subjects, (0..20).map(|number| format!("n{number}")).collect::<Vec<_>>());
}

/// Name, id and payload arrive as the application sent them.
pub async fn a_command_reaches_the_device_that_waits<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    a_command_arrives_through(cloud.gate(), driver, cloud).await;
}

/// Sends a command to a device that waits at a gate; it must arrive.
pub async fn a_command_arrives_through<D: DeviceDriver>(gate: Gate, driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await.through(gate);
    let device = tenant.device().await;
    let waiting = Waiting::begin(driver, &tenant, &device, LONG).await;
    let sent = payload();
    let id = tenant.command(&device, "set-temp", &sent).await;
    let expected = Command { name: "set-temp".into(), id, payload: sent.into() };
    assert_eq!(waiting.end().await, Some(expected));
}

/// An application that reacts to the telemetry is not too early for the wait that came with it.
pub async fn a_command_that_answers_telemetry_is_not_too_early<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    commands_that_answer_telemetry(driver, cloud, 20).await;
}

/// Lets an application answer each of `count` events at once; each answer must reach the device that waits.
pub async fn commands_that_answer_telemetry<D: DeviceDriver>(driver: D, cloud: &Cloud, count: usize) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    let application = tokio::spawn({
        let (tenant, device) = (tenant.clone(), device.clone());
        async move {
            for _ in 0..count {
                let subject = stream.next().await.attribute("subject").to_owned();
                tenant.command(&device, &format!("re-{subject}"), &payload()).await;
            }
        }
    });
    for number in 0..count {
        let subject = format!("n{number}");
        let answer = driver.exchange(tenant.gate(), &device, &subject, payload().as_bytes(), LONG).await;
        let command = answer.expect("telemetry is accepted");
        let command = command.unwrap_or_else(|| panic!("{}: no command in exchange {number}", D::NAME));
        assert_eq!(command.name, format!("re-{subject}"));
    }
    application.await.expect("the application does not fail");
}

/// A wait ends by itself, and the telemetry was accepted all the same.
pub async fn a_wait_without_a_command_ends_empty<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let waiting = Waiting::begin(driver, &tenant, &device, SHORT).await;
    assert_eq!(waiting.end().await, None);
}

/// A command that was delivered is not delivered again.
pub async fn a_command_comes_once<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let waiting = Waiting::begin(driver, &tenant, &device, LONG).await;
    tenant.command(&device, "once", &payload()).await;
    assert!(waiting.end().await.is_some());
    let again = Waiting::begin(driver, &tenant, &device, SHORT).await;
    assert_eq!(again.end().await, None);
}

/// A command without a `ttl` is for a device that is there.
pub async fn row_10_a_command_for_an_absent_device_does_not_wait_for_it<D: DeviceDriver>(
    driver: D,
    cloud: &Cloud,
) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    tenant.command(&device, "too-early", &payload()).await;
    let waiting = Waiting::begin(driver, &tenant, &device, SHORT).await;
    assert_eq!(waiting.end().await, None);
}

/// The older wait stays and takes the next command.
pub async fn row_18_of_two_waits_the_newest_gets_the_command_and_only_that_one<D: DeviceDriver>(
    driver: D,
    cloud: &Cloud,
) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let mut outcomes = Outcomes::of(&tenant, &device).await;
    let older = Waiting::begin(driver, &tenant, &device, LONG).await;
    let newer = Waiting::begin(driver, &tenant, &device, LONG).await;
    let first = tenant.command(&device, "first", &payload()).await;
    assert_eq!(newer.end().await.map(|command| command.id).as_ref(), Some(&first));
    let [delivered] = &outcomes.until_settled(&first).await[..] else { panic!("one outcome") };
    assert!(delivered.starts_with("delivered"), "{delivered}");
    assert!(!older.is_over());
    let second = Waiting::begin(driver, &tenant, &device, SHORT).await;
    assert_eq!(second.end().await, None);
    // The newest wait was closed by its device: that may reach the server after this command.
    let mut missed = Vec::new();
    while !older.is_over() {
        let id = tenant.command(&device, "second", &payload()).await;
        if outcomes.end(&id).await.starts_with("undelivered") {
            missed.push(id);
        } else {
            break;
        }
    }
    let received = older.end().await.map(|command| command.id).expect("the older wait gets a command");
    assert!(!missed.contains(&received), "what a device received is not reported undelivered");
}

/// Deleting a device ends its waits and lets it in no more.
pub async fn row_26_a_revoked_device_is_out_within_two_seconds<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let waiting = Waiting::begin(driver, &tenant, &device, LONG).await;
    tenant.api.delete(&tenant.path(&device)).await.expect_status(204);
    let ended = tokio::time::timeout(Duration::from_secs(20), waiting.end()).await;
    assert_eq!(ended.expect("the session ends long before its wait does"), None);
    shut_out(driver, &tenant, &device).await;
}

/// Waits until a device is let in no more: the replica that it asks may hear of the change a moment later.
async fn shut_out<D: DeviceDriver>(driver: D, tenant: &Tenant, device: &Device) {
    let what = format!("{} is shut out", D::NAME);
    eventually(&what, || async {
        let again = driver.publish(tenant.gate(), device, "temperature", payload().as_bytes()).await;
        (again == Err(Refused::Login)).then_some(())
    })
    .await;
}

/// The devices of a deleted application are out, too.
pub async fn a_deleted_application_takes_its_devices_along<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    assert_eq!(driver.publish(tenant.gate(), &device, "a", b"x").await, Ok(()));
    cloud.operator.delete(&format!("apps/{}", tenant.app)).await.expect_status(204);
    shut_out(driver, &tenant, &device).await;
}

/// A password is checked, and a change of it takes effect.
pub async fn a_device_with_a_password_is_let_in_and_with_another_is_not<D: DeviceDriver>(
    driver: D,
    cloud: &Cloud,
) {
    let tenant = cloud.tenant().await;
    let device = tenant.device_with_password().await;
    let gate = tenant.gate();
    // Twice: the second is checked against the cache.
    for _ in 0..2 {
        assert_eq!(driver.publish(gate, &device, "a", b"x").await, Ok(()));
        let other = device.with_secret(secrets::password());
        assert_eq!(driver.publish(gate, &other, "a", b"x").await, Err(Refused::Login));
    }
    let changed = device.with_secret(secrets::password());
    let body = json!({"credentials": [{"password": changed.secret}]});
    tenant.api.put(&tenant.path(&device), &body).await.expect_status(200);
    shut_out(driver, &tenant, &device).await;
    assert_eq!(driver.publish(gate, &changed, "a", b"x").await, Ok(()));
}

/// A device that is disabled keeps its credentials and is not let in.
pub async fn a_disabled_device_is_not_let_in<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let enable = |enabled: bool| {
        let (tenant, path) = (tenant.clone(), tenant.path(&device));
        async move { tenant.api.put(&path, &json!({"enabled": enabled})).await.expect_status(200).clone() }
    };
    assert_eq!(driver.publish(tenant.gate(), &device, "a", b"x").await, Ok(()));
    enable(false).await;
    shut_out(driver, &tenant, &device).await;
    enable(true).await;
    eventually("the device is let in again", || async {
        driver.publish(tenant.gate(), &device, "a", b"x").await.ok()
    })
    .await;
}

/// The default limit is 256 KiB, and what has it exactly is accepted.
pub async fn a_payload_above_the_limit_is_refused<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    let most = vec![b'x'; 256 * 1024];
    assert_eq!(driver.publish(tenant.gate(), &device, "most", &most).await, Ok(()));
    assert_eq!(decode(stream.next().await.attribute("data_base64")), most);
    let result = driver.publish(tenant.gate(), &device, "more", &[&most[..], b"x"].concat()).await;
    assert!(matches!(result, Err(Refused::Message(_))), "{result:?}");
}

/// A login that failed is not remembered against the device.
pub async fn a_new_device_can_log_in_at_once<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.stranger();
    assert_eq!(driver.publish(tenant.gate(), &device, "a", b"x").await, Err(Refused::Login));
    tenant.register(&device, &json!({"token": device.secret})).await;
    assert_eq!(driver.publish(tenant.gate(), &device, "a", b"x").await, Ok(()));
}

/// Reads the telemetry of an application that is in the channel, until an event of `last` as its subject.
pub async fn telemetry_until(tenant: &Tenant, last: &str) -> Vec<Received> {
    let mut stream: EventStream = tenant.events(&Query::telemetry().from_earliest()).await;
    let mut events = Vec::new();
    loop {
        let received = stream.next().await;
        if received.attribute("subject") == last {
            return events;
        }
        events.push(received);
    }
}

fn decode(base64: &str) -> Vec<u8> {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    BASE64_STANDARD.decode(base64).expect("data_base64 is base64")
}
