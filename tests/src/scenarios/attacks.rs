//! What devices and strangers must not be able to do, on any protocol.

use serde_json::json;

use crate::cloud::Cloud;
use crate::devices::{DeviceDriver, Refused};
use crate::secrets::{self, payload};
use crate::tenant::Device;
use crate::waiting::{LONG, Waiting};

/// What is not known to be right is refused (CVE-2018-12550).
pub async fn attack_malformed_credentials_fail_closed<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let without_credentials = tenant.stranger();
    tenant.api.put(&tenant.path(&without_credentials), &json!({})).await.expect_status(201);
    let truncated = device.with_secret(&device.secret[..20]);
    let other_case = device.with_secret(device.secret.to_uppercase());
    let strangers = [
        device.with_secret(""),
        device.with_secret("drogue_"),
        truncated,
        other_case,
        device.with_secret("x".repeat(10_000)),
        without_credentials.with_secret(""),
        without_credentials,
        tenant.stranger(),
    ];
    for stranger in strangers {
        let result = driver.publish(tenant.gate(), &stranger, "a", b"x").await;
        assert_eq!(result, Err(Refused::Login), "{} with {} bytes", stranger.name, stranger.secret.len());
    }
}

/// A name is no pattern and no path (CVE-2017-7650).
pub async fn attack_identity_in_names_is_refused<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let half = &device.name[..device.name.len() / 2];
    let names = [
        "#",
        "+",
        "*",
        "",
        ".",
        "..",
        "a/b",
        "%2e%2e",
        "a@b",
        &format!("{half}#"),
        &device.name.to_uppercase(),
    ];
    for name in names {
        let stranger = Device { name: name.to_owned(), ..device.clone() };
        let result = driver.publish(tenant.gate(), &stranger, "a", b"x").await;
        assert_eq!(result, Err(Refused::Login), "{name:?}");
    }
    for app in ["#", "+", "", "..", &tenant.app.to_uppercase()] {
        let stranger = Device { app: app.to_owned(), ..device.clone() };
        let result = driver.publish(tenant.gate(), &stranger, "a", b"x").await;
        assert_eq!(result, Err(Refused::Login), "{app:?}");
    }
}

/// A subject is 1 to 16 levels, each an id (CVE-2019-11779, CVE-2021-34432, CVE-2017-7653).
pub async fn attack_topic_shape_is_refused<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    let mut stream = tenant.telemetry().await;
    let (deep, long) = (["a"; 17].join("/"), "a".repeat(129));
    for subject in ["a//b", "a/", "a b", "a$b", &deep, &long, &"/".repeat(2_000)] {
        let result = driver.publish(tenant.gate(), &device, subject, b"x").await;
        assert!(matches!(result, Err(Refused::Message(_))), "{subject:?}: {result:?}");
    }
    let deepest = ["a"; 16].join("/");
    assert_eq!(driver.publish(tenant.gate(), &device, &deepest, b"x").await, Ok(()));
    assert_eq!(stream.next().await.attribute("subject"), deepest, "nothing else got through");
}

/// The same device name in two applications is two devices.
pub async fn attack_crossing_tenants_by_command_reaches_nobody<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let (tenant, other) = (cloud.tenant().await, cloud.tenant().await);
    let device = tenant.device().await;
    let namesake = Device { app: other.app.clone(), ..device.with_secret(secrets::token()) };
    other.register(&namesake, &json!({"token": namesake.secret})).await;
    let with_stolen_secret = namesake.with_secret(&device.secret);
    let stolen = driver.publish(tenant.gate(), &with_stolen_secret, "a", b"x").await;
    assert_eq!(stolen, Err(Refused::Login));
    let waiting = Waiting::begin(driver, &tenant, &device, LONG).await;
    other.command(&namesake, "theirs", &payload()).await;
    tenant.command(&device, "mine", &payload()).await;
    assert_eq!(waiting.end().await.map(|command| command.name), Some("mine".into()));
}

/// The system's own subjects are not for telemetry.
pub async fn reserved_subjects_are_refused<D: DeviceDriver>(driver: D, cloud: &Cloud) {
    let tenant = cloud.tenant().await;
    let device = tenant.device().await;
    for subject in ["cmd", "cmd/x", "commands", "commands/a/b", "reply"] {
        let result = driver.publish(tenant.gate(), &device, subject, b"x").await;
        assert!(matches!(result, Err(Refused::Message(_))), "{subject}: {result:?}");
    }
    assert_eq!(driver.publish(tenant.gate(), &device, "a/cmd", b"x").await, Ok(()));
}
