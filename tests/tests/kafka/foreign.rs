//! Other programs on the same topics: kcat, and producers that write what is no command (row 22).

use std::process::{Command, Stdio};

use common::channel::Channel;
use tests::clients::have;
use tests::fleet::{Fleet, shared};
use tests::kafka::{read, write};
use tests::mqtt::{Client, Version};
use tests::secrets::{payload, unique};
use tests::tenant::{Device, Tenant};
use tests::wait::eventually;

const COMMAND: &str = "io.drogue.command.v1";

async fn subscribed(tenant: &Tenant, device: &Device) -> Client {
    Client::subscribed(tenant.gate().mqtt, Version::V5, device, "cmd").await
}

fn kcat(fleet: &Fleet, channel: Channel) -> Command {
    let mut command = Command::new("kcat");
    command.args(["-b", fleet.topics().servers(), "-t", &fleet.topics().of(channel)]);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn kcat_shows_telemetry_and_commands_as_the_binding_prescribes() {
    let Some(fleet) = shared("kcat") else { return };
    if !have("kcat", &["kcat"]) {
        return;
    }
    let tenant = fleet.cloud().tenant().await;
    let device = tenant.device().await;
    let key = format!("{}/{}", tenant.app, device.name);
    let mut client = subscribed(&tenant, &device).await;
    let (up, down) = (payload(), payload());
    client.publish("floor-1/temp", 1, up.as_bytes()).await.unwrap();
    let id = tenant.command(&device, "set-temp", &down).await;
    for (channel, data, expected) in [
        (
            Channel::Telemetry,
            &up,
            vec!["ce_type=io.drogue.telemetry.v1".to_owned(), "ce_subject=floor-1/temp".to_owned()],
        ),
        (
            Channel::Commands,
            &down,
            vec![
                format!("ce_type={COMMAND}"),
                "ce_subject=set-temp".to_owned(),
                format!("ce_id={id}"),
                "content-type=application/json".to_owned(),
                "ce_expirytime=".to_owned(),
            ],
        ),
    ] {
        let read =
            kcat(fleet, channel).args(["-C", "-o", "beginning", "-e", "-q", "-f", "%k|%h|%s\n"]).output();
        let text = String::from_utf8(read.unwrap().stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with(&key) && line.ends_with(data.as_str()));
        let line = line.unwrap_or_else(|| panic!("no record of {key} with its data in {channel}"));
        let common = [
            "ce_specversion=1.0".to_owned(),
            format!("ce_source=drogue://{key}"),
            format!("ce_application={}", tenant.app),
            format!("ce_device={}", device.name),
            format!("ce_partitionkey={key}"),
            "ce_time=".to_owned(),
        ];
        for header in common.iter().chain(&expected) {
            assert!(line.contains(header), "{header} in {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_kcat_wrote_is_delivered() {
    let Some(fleet) = shared("kcat") else { return };
    if !have("kcat", &["kcat", "sh"]) {
        return;
    }
    let tenant = fleet.cloud().tenant().await;
    let device = tenant.device().await;
    let mut client = subscribed(&tenant, &device).await;
    let (id, data) = (unique(), payload());
    let mut write = kcat(fleet, Channel::Commands);
    write.args([
        "-P",
        "-X",
        "topic.partitioner=murmur2_random",
        "-k",
        &format!("{}/{}", tenant.app, device.name),
    ]);
    for header in [
        "ce_specversion=1.0",
        &format!("ce_id={id}"),
        &format!("ce_type={COMMAND}"),
        "ce_source=kcat",
        "ce_subject=reboot",
    ] {
        write.args(["-H", header]);
    }
    let mut kcat = write.stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut kcat.stdin.take().unwrap(), data.as_bytes()).unwrap();
    assert!(kcat.wait().unwrap().success());
    let message = client.message().await.unwrap();
    assert_eq!(message.payload, data.as_bytes());
    assert_eq!(message.properties.user("command"), Some("reboot"));
    assert_eq!(message.properties.user("command-id"), Some(id.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_22_poison_is_counted_and_skipped_and_the_partition_goes_on() {
    let Some(fleet) = shared("row 22") else { return };
    let tenant = fleet.cloud().tenant().await;
    let device = tenant.device().await;
    let mut client = subscribed(&tenant, &device).await;
    let (servers, topic) = (fleet.topics().servers(), fleet.topics().of(Channel::Commands));
    let key = format!("{}/{}", tenant.app, device.name);
    let id = unique();
    let good = [
        ("ce_specversion", Some("1.0")),
        ("ce_id", Some(id.as_str())),
        ("ce_type", Some(COMMAND)),
        ("ce_source", Some("test")),
        ("ce_subject", Some("reboot")),
    ];
    let with = |name: &'static str, value: Option<&'static str>| {
        let mut headers: Vec<_> = good.iter().copied().filter(|(other, _)| *other != name).collect();
        headers.push((name, value));
        headers
    };
    let before = fleet.metric("drogue_records_malformed_total").await;
    // In place of one that is good: where it lies is found by what the product wrote under the key.
    tenant.command(&device, "first", &payload()).await;
    client.message().await.unwrap();
    let right = read(servers, &topic).await.iter().find(|record| record.key == key).unwrap().partition;
    let poison = [
        Vec::new(),
        with("ce_specversion", Some("7.0")),
        with("ce_specversion", None),
        with("ce_id", None),
        with("ce_id", Some("/")),
        with("ce_subject", Some("a/b")),
        with("ce_subject", Some("\u{7f}\u{0}")),
        with("ce_expirytime", Some("soon")),
        with("ce_device", Some("somebody-else")),
        with("content-type", Some("text/plain\r\nx: y")),
    ];
    for headers in &poison {
        write(servers, &topic, &key, headers, b"poison", None).await;
    }
    write(servers, &topic, &key, &good, b"elsewhere", Some((right + 1) % 12)).await;
    write(servers, &topic, "no key of a device", &good, b"poison", Some(right)).await;
    write(servers, &topic, &key, &good, b"good", None).await;
    assert_eq!(client.message().await.unwrap().payload, &b"good"[..]);
    assert_eq!(client.waiting_messages(), 0);
    let counted = poison.len() as f64 + 1.0;
    eventually("all poison is counted", || async {
        (fleet.metric("drogue_records_malformed_total").await - before >= counted).then_some(())
    })
    .await;
}
