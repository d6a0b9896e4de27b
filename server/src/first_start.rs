//! What the first start makes, and what later starts look after.

use common::auth::{AuthError, Authenticator, Login, Secret};
use common::device::{Credential, DeviceSpec};
use common::error::ErrorKind;
use common::id::{AppId, DEFAULT_APPLICATION, DeviceKey};
use common::registry::{ApplicationSpec, Registry, Scope, generate_token};

use crate::addresses::Addresses;
use crate::data_dir::DataDir;
use crate::quickstart::{EXAMPLE_DEVICE, EXAMPLE_PASSWORD, Example};

/// The file with the operator's token.
pub const ADMIN_TOKEN: &str = "admin-token";
/// The file with the token of the application `default`.
pub const DEFAULT_TOKEN: &str = "default-token";

/// Returns the operator's token: the given one, else that of the data directory, else a new one, which is kept there.
///
/// # Errors
/// Names the file that cannot be read or written.
pub fn admin_token(data: &DataDir, given: Option<Secret>) -> anyhow::Result<Secret> {
    if let Some(token) = given {
        return Ok(token);
    }
    if let Some(token) = data.read_token(ADMIN_TOKEN)? {
        return Ok(token);
    }
    let token = generate_token()?;
    data.write_token(ADMIN_TOKEN, &token)?;
    Ok(token)
}

/// Makes, on the first start, the application `default`, its token, and on loopback the example device.
///
/// A start is the first until one left its addresses in the data directory; what an interrupted first start made is
/// kept. Later starts make nothing again that was deleted. Where others can connect, the example device is disabled
/// while its password is the public one.
///
/// # Errors
/// Fails if the registry does, or names the file that cannot be written.
pub async fn prepare(data: &DataDir, registry: &Registry, loopback: bool) -> anyhow::Result<()> {
    if Addresses::load(data)?.is_none() {
        make_application(data, registry).await?;
        if loopback {
            make_example_device(registry).await?;
        }
    }
    if !loopback && login_works(registry).await {
        let spec = DeviceSpec { enabled: Some(false), ..DeviceSpec::default() };
        registry.put_device(&example_device()?, spec).await?;
        tracing::warn!(
            device = EXAMPLE_DEVICE,
            "the example device is disabled: its password is public, and others can connect; give it another with \
             `drogue device set-password {EXAMPLE_DEVICE}`, then `drogue device enable {EXAMPLE_DEVICE}`"
        );
    }
    Ok(())
}

async fn make_application(data: &DataDir, registry: &Registry) -> anyhow::Result<()> {
    let application: AppId = DEFAULT_APPLICATION.parse()?;
    registry.put_application(&application, ApplicationSpec::default()).await?;
    if data.read_token(DEFAULT_TOKEN)?.is_some() {
        return Ok(());
    }
    let made_by = "made by the first start".to_owned();
    let (_, token) = registry.create_token(&application, Scope::ALL.into(), made_by).await?;
    data.write_token(DEFAULT_TOKEN, &token)
}

async fn make_example_device(registry: &Registry) -> anyhow::Result<()> {
    let device = example_device()?;
    if registry.device_exists(&device).await? {
        return Ok(());
    }
    let credentials = Some(vec![Credential::Password(Secret::new(EXAMPLE_PASSWORD))]);
    registry.put_device(&device, DeviceSpec { credentials, ..DeviceSpec::default() }).await?;
    Ok(())
}

fn example_device() -> anyhow::Result<DeviceKey> {
    Ok(DeviceKey::new(&DEFAULT_APPLICATION.parse()?, &EXAMPLE_DEVICE.parse()?))
}

/// Returns what there is of the example device.
///
/// # Errors
/// Fails if the registry does.
pub async fn example(registry: &Registry) -> anyhow::Result<Example> {
    match registry.device(&example_device()?).await {
        Ok(device) if !device.enabled => Ok(Example::Disabled),
        Ok(_) if login_works(registry).await => Ok(Example::Public),
        Ok(_) => Ok(Example::Private),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Example::Missing),
        Err(error) => Err(error.into()),
    }
}

/// Tells whether the example device can log in with its public password.
pub async fn login_works(registry: &Registry) -> bool {
    let Ok(login) = Login::parse(EXAMPLE_DEVICE, Secret::new(EXAMPLE_PASSWORD)) else { return false };
    registry.authenticate(&login).await.is_ok()
}

/// Reads the token of the application `default`; `None` if it is gone or was revoked.
///
/// # Errors
/// Fails if the registry does, or names the file that cannot be read.
pub async fn valid_token(data: &DataDir, registry: &Registry) -> anyhow::Result<Option<Secret>> {
    let Some(token) = data.read_token(DEFAULT_TOKEN)? else { return Ok(None) };
    let application: AppId = DEFAULT_APPLICATION.parse()?;
    match registry.grant(&token).await {
        Ok(grant) => Ok(grant.permits(&application, Scope::Command).then_some(token)),
        Err(AuthError::Denied) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use common::registry::{RegistrySettings, sqlite_url};

    use super::*;

    struct Fixture {
        _directory: tempfile::TempDir,
        data: DataDir,
        registry: Registry,
    }

    impl Fixture {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let data = DataDir::at(directory.path()).unwrap();
            let url = sqlite_url(&data.file("registry.sqlite"));
            let registry = Registry::open(&url, RegistrySettings::default()).await.unwrap();
            Self { _directory: directory, data, registry }
        }

        async fn start(&self, loopback: bool) {
            prepare(&self.data, &self.registry, loopback).await.unwrap();
            Addresses::default().save(&self.data).unwrap();
        }

        async fn has_token(&self) -> bool {
            valid_token(&self.data, &self.registry).await.unwrap().is_some()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_first_start_makes_a_token_and_an_example_and_later_ones_make_nothing_again() {
        let fixture = Fixture::new().await;
        fixture.start(true).await;
        assert!(fixture.has_token().await);
        assert!(login_works(&fixture.registry).await);

        let application = DEFAULT_APPLICATION.parse().unwrap();
        let token = fixture.registry.tokens(&application).await.unwrap().remove(0);
        fixture.registry.delete_token(&application, &token.id).await.unwrap();
        fixture.registry.delete_device(&example_device().unwrap()).await.unwrap();
        fixture.start(true).await;
        assert!(!fixture.has_token().await);
        assert!(!login_works(&fixture.registry).await);
        assert_eq!(example(&fixture.registry).await.unwrap(), Example::Missing);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_interrupted_first_start_is_made_good() {
        let fixture = Fixture::new().await;
        prepare(&fixture.data, &fixture.registry, true).await.unwrap();
        std::fs::remove_file(fixture.data.file(DEFAULT_TOKEN)).unwrap();
        fixture.start(true).await;
        assert!(fixture.has_token().await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_elsewhere_can_log_in_with_the_public_password() {
        let fixture = Fixture::new().await;
        fixture.start(false).await;
        assert!(!fixture.registry.device_exists(&example_device().unwrap()).await.unwrap());

        let local = Fixture::new().await;
        local.start(true).await;
        assert_eq!(example(&local.registry).await.unwrap(), Example::Public);
        local.start(false).await;
        assert!(!login_works(&local.registry).await);
        assert_eq!(example(&local.registry).await.unwrap(), Example::Disabled);
    }

    #[test]
    fn the_operators_token_is_made_once_unless_it_is_given() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::at(directory.path()).unwrap();
        let given = Secret::new("x".repeat(32));
        assert_eq!(admin_token(&data, Some(given.clone())).unwrap(), given);
        assert!(!data.file(ADMIN_TOKEN).exists());
        let made = admin_token(&data, None).unwrap();
        assert_eq!(admin_token(&data, None).unwrap(), made);
    }
}
