//! Devices.

use std::collections::BTreeMap;
use std::time::Duration;

use common::auth::Secret;
use common::id::{AppId, DeviceId, DeviceKey, InvalidId};
use common::registry::MAX_PASSWORD;
use common::time::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{Refusal, readiness};
use crate::controller::conditions::condition;
use crate::controller::link::Link;
use crate::controller::resources::{
    Application, CONNECTED, CredentialSource, Device, DeviceStatus, READY, SecretKey,
};

/// How often to look whether another device of the same id is gone.
const DUPLICATE: Duration = Duration::from_secs(5);

/// Finds out which device of the registry a resource stands for. `others` are the devices that there are, itself among
/// them or not.
///
/// # Errors
/// Refuses an id that is none, and one that an older resource has.
pub(in crate::controller) fn key<'a>(
    device: &Device,
    others: impl Iterator<Item = &'a Device>,
) -> Result<DeviceKey, Refusal> {
    let invalid = |id: &str, error: InvalidId| Refusal::new("InvalidId", format!("'{id}': {error}"));
    let id: DeviceId = device.id().parse().map_err(|error| invalid(device.id(), error))?;
    let name = &device.spec.application;
    let app: AppId = name.parse().map_err(|error| invalid(name, error))?;
    match others.filter(|other| is_before(other, device)).min_by_key(|other| age(other)) {
        None => Ok(DeviceKey::new(&app, &id)),
        Some(older) => {
            let message = format!("Device '{}' has the id '{id}' already; it is older", older.name_any());
            Err(Refusal::new("Duplicate", message).again(DUPLICATE))
        }
    }
}

/// Finds out which device of the registry a resource stands for, and whether it may be written. `others` as for [`key`].
///
/// # Errors
/// As for [`key`]; also refuses an application that is not ready.
pub(in crate::controller) fn place<'a>(
    device: &Device,
    application: Option<&Application>,
    others: impl Iterator<Item = &'a Device>,
) -> Result<DeviceKey, Refusal> {
    let key = key(device, others)?;
    let name = &device.spec.application;
    let Some(application) = application else {
        return Err(Refusal::new(
            "NoApplication",
            format!("there is no Application '{name}' in this namespace"),
        ));
    };
    if application.metadata.deletion_timestamp.is_some() {
        return Err(Refusal::new("ApplicationNotReady", format!("Application '{name}' is being deleted")));
    }
    if let Err(message) = is_ready(application) {
        let message = format!("Application '{name}' is not ready: {message}");
        return Err(Refusal::new("ApplicationNotReady", message));
    }
    Ok(key)
}

/// Tells whether `other` has the id of `device`, and had it before. One that is being deleted has it until it is gone.
fn is_before(other: &Device, device: &Device) -> bool {
    other.metadata.uid != device.metadata.uid
        && other.metadata.namespace == device.metadata.namespace
        && other.spec.application == device.spec.application
        && other.id() == device.id()
        && age(other) < age(device)
}

/// Of two of the same second, the name decides.
fn age(device: &Device) -> (Option<&Time>, Option<&str>) {
    (device.metadata.creation_timestamp.as_ref(), device.metadata.name.as_deref())
}

fn is_ready(application: &Application) -> Result<(), &str> {
    match application.ready() {
        Some(ready) if ready.status == "True" => Ok(()),
        Some(ready) => Err(&ready.message),
        None => Err("it was not looked at yet"),
    }
}

/// A credential that was found.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::controller) struct Resolved {
    /// Where it comes from.
    pub(in crate::controller) source: CredentialSource,
    /// What it is.
    pub(in crate::controller) secret: Secret,
}

/// Finds the credentials of a device in those Secrets that there are, by their names.
///
/// # Errors
/// Names a Secret or a key of one that is missing, or one that is no text.
pub(in crate::controller) fn credentials(
    sources: &[CredentialSource],
    secrets: &BTreeMap<String, BTreeMap<String, Vec<u8>>>,
) -> Result<Vec<Resolved>, Refusal> {
    let resolve = |source: &CredentialSource| {
        let SecretKey { name, key } = source.secret();
        let missing = |what: String| Refusal::new("SecretMissing", what);
        let secret = secrets.get(name).ok_or_else(|| missing(format!("there is no Secret '{name}'")))?;
        let value = secret.get(key).ok_or_else(|| missing(format!("Secret '{name}' has no key '{key}'")))?;
        let text = std::str::from_utf8(value).map(|text| text.trim_end_matches(['\r', '\n']));
        let text = text.ok().filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| {
            Refusal::new(
                "SecretInvalid",
                format!("key '{key}' of Secret '{name}' is empty, or no text in UTF-8"),
            )
        })?;
        // The registry sees its hash alone.
        if matches!(source, CredentialSource::PasswordSecret(_)) && text.len() > MAX_PASSWORD {
            let message = format!("key '{key}' of Secret '{name}' has more than {MAX_PASSWORD} bytes");
            return Err(Refusal::new("SecretInvalid", message));
        }
        Ok(Resolved { source: source.clone(), secret: Secret::new(text) })
    };
    sources.iter().map(resolve).collect()
}

/// Returns the status of a device.
pub(in crate::controller) fn device_status(
    device: &Device,
    refusal: Option<&Refusal>,
    link: &Link,
    now: Timestamp,
) -> DeviceStatus {
    let old = device.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let generation = device.metadata.generation;
    DeviceStatus {
        observed_generation: generation,
        id: Some(device.id().to_owned()),
        conditions: vec![
            condition(READY, &readiness(refusal), old, generation, now),
            condition(CONNECTED, &link.said(), old, generation, now),
        ],
        connection: link.status(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::conditions::time;
    use crate::controller::plan::application_status;
    use crate::controller::resources::{ApplicationSpec, DeviceSpec};

    fn device(name: &str, id: Option<&str>, created: i64) -> Device {
        let spec =
            DeviceSpec { application: "a".to_owned(), id: id.map(str::to_owned), ..DeviceSpec::default() };
        let mut device = Device::new(name, spec);
        device.metadata.uid = Some(name.to_owned());
        device.metadata.namespace = Some("ns".to_owned());
        device.metadata.creation_timestamp = Some(time(Timestamp::from_millis(created * 1_000)));
        device
    }

    fn application(refusal: Option<&Refusal>) -> Application {
        let mut application = Application::new("a", ApplicationSpec::default());
        application.status = Some(application_status(&application, refusal, Timestamp::from_millis(0)));
        application
    }

    fn placed(device: &Device, others: &[Device]) -> Result<String, &'static str> {
        let result = place(device, Some(&application(None)), others.iter());
        result.map(|key| key.to_string()).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn the_id_is_the_name_unless_it_is_given() {
        assert_eq!(placed(&device("d-1", None, 1), &[]), Ok("a/d-1".to_owned()));
        assert_eq!(placed(&device("d-1", Some("d_1"), 1), &[]), Ok("a/d_1".to_owned()));
        for bad in ["a/b", "..", "ä", "#"] {
            assert_eq!(placed(&device("d", Some(bad), 1), &[]), Err("InvalidId"), "{bad}");
        }
        assert_eq!(placed(&device(&"x".repeat(129), None, 1), &[]), Err("InvalidId"));
    }

    #[test]
    fn of_two_devices_of_one_id_the_older_has_it() {
        let (old, new) = (device("d", None, 1), device("e", Some("d"), 2));
        let all = [old.clone(), new.clone()];
        assert_eq!(placed(&old, &all), Ok("a/d".to_owned()));
        assert_eq!(placed(&new, &all), Err("Duplicate"));
        assert_eq!(placed(&new, std::slice::from_ref(&new)), Ok("a/d".to_owned()));
        let message = place(&new, None, all.iter()).unwrap_err().message;
        assert!(message.contains("Device 'd' has the id 'd'"), "{message}");
        let twin = device("c", Some("d"), 1);
        assert_eq!(placed(&old, &[old.clone(), twin.clone()]), Err("Duplicate"));
        assert_eq!(placed(&twin, &[old, twin.clone()]), Ok("a/d".to_owned()));
    }

    #[test]
    fn the_same_id_elsewhere_is_another_device() {
        let mut elsewhere = [device("d", None, 1), device("e", None, 1), device("f", None, 1)];
        elsewhere[0].metadata.namespace = Some("other".to_owned());
        elsewhere[1].spec.application = "b".to_owned();
        assert_eq!(placed(&device("g", Some("d"), 2), &elsewhere), Ok("a/d".to_owned()));
    }

    #[test]
    fn a_device_waits_for_its_application() {
        let wait = |application: Option<&Application>| {
            let refusal = place(&device("d", None, 1), application, [].iter()).unwrap_err();
            (refusal.reason, refusal.message)
        };
        assert_eq!(wait(None).0, "NoApplication");
        let (reason, message) = wait(Some(&application(Some(&Refusal::new("NotOurs", "another's")))));
        assert_eq!((reason, message.contains("another's")), ("ApplicationNotReady", true));
        let unseen = Application { status: None, ..application(None) };
        assert_eq!(wait(Some(&unseen)).0, "ApplicationNotReady");
        let mut dying = application(None);
        dying.metadata.deletion_timestamp = Some(time(Timestamp::from_millis(0)));
        assert_eq!(wait(Some(&dying)).0, "ApplicationNotReady");
    }

    #[test]
    fn credentials_come_from_secrets_and_what_is_missing_is_named() {
        let key = |name: &str, key: &str| SecretKey { name: name.to_owned(), key: key.to_owned() };
        let data =
            [("p", b"pw\n".to_vec()), ("bad", vec![0xff]), ("long", vec![b'p'; 1025]), ("none", vec![])];
        let data = data.map(|(key, value)| (key.to_owned(), value)).into();
        let secrets = BTreeMap::from([("s".to_owned(), data)]);
        let find = |source| credentials(&[source], &secrets);
        let found = find(CredentialSource::PasswordSecret(key("s", "p"))).unwrap();
        assert_eq!(found[0].secret, Secret::new("pw"));
        for (source, reason, named) in [
            (CredentialSource::TokenSecret(key("t", "p")), "SecretMissing", "Secret 't'"),
            (CredentialSource::HashSecret(key("s", "q")), "SecretMissing", "key 'q'"),
            (CredentialSource::PasswordSecret(key("s", "bad")), "SecretInvalid", "key 'bad'"),
            (CredentialSource::PasswordSecret(key("s", "long")), "SecretInvalid", "1024 bytes"),
            (CredentialSource::TokenSecret(key("s", "none")), "SecretInvalid", "key 'none'"),
        ] {
            let refusal = find(source).unwrap_err();
            assert_eq!(refusal.reason, reason);
            assert!(refusal.message.contains(named), "{refusal}");
        }
    }

    #[test]
    fn a_status_tells_readiness_and_connection() {
        let link =
            Link::Connected { protocol: "mqtt".to_owned(), since: Some(Timestamp::from_millis(7_000)) };
        let device = device("d", Some("d_1"), 1);
        let status = device_status(&device, None, &link, Timestamp::from_millis(9_000));
        let told: Vec<_> = status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect();
        assert_eq!(told, [("Ready", "True"), ("Connected", "True")]);
        assert_eq!(status.id.as_deref(), Some("d_1"));
        assert_eq!(status.connection.unwrap().since, Some(time(Timestamp::from_millis(7_000))));
    }
}
