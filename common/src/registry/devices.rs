//! Devices and their credentials.

use std::sync::Arc;

use sqlx::Row;
use sqlx::any::AnyRow;
use tokio::sync::OwnedSemaphorePermit;

use super::applications::require;
use super::credential::{self, Kept};
use super::error::RegistryError;
use super::model::{Device, Labels, Put, PutDevice};
use super::passwords::PasswordHashText;
use super::spec::{InvalidSpec, check_labels, check_name};
use super::store;
use super::token::{self, Digest};
use super::write::Write;
use super::{Registry, Shared};
use crate::auth::{Change, Secret};
use crate::device::{Credential, DeviceSpec};
use crate::id::{AppId, DeviceId, DeviceKey};

/// How many devices are written in one transaction.
const BULK: usize = 256;

impl Registry {
    /// Creates or changes a device. What the spec leaves out stays as it is; a new device is enabled.
    ///
    /// A change ends the device's sessions; to write what is there already is none.
    ///
    /// # Errors
    /// Fails if the spec has a wrong shape or names another device, or there is no such application.
    pub async fn put_device(&self, key: &DeviceKey, spec: DeviceSpec) -> Result<PutDevice, RegistryError> {
        check_name(spec.name.as_ref().map(DeviceId::as_str), key.device())?;
        let (app, device): (AppId, DeviceId) =
            (store::parse(key.application())?, store::parse(key.device())?);
        let mut results = self.put_devices(&app, vec![DeviceSpec { name: Some(device), ..spec }]).await?;
        results.pop().unwrap_or(Err(RegistryError::Unavailable))
    }

    /// Creates or changes devices, and returns in order what became of each.
    ///
    /// # Errors
    /// Fails as a whole, before anything is written, if there is no such application.
    pub async fn put_devices(
        &self,
        app: &AppId,
        specs: Vec<DeviceSpec>,
    ) -> Result<Vec<Result<PutDevice, RegistryError>>, RegistryError> {
        let app = app.clone();
        self.at_home_at_length(|shared| async move {
            let known = async { require(&mut *shared.store.pool().acquire().await?, &app).await };
            store::in_time(known).await?;
            let mut results = Vec::with_capacity(specs.len());
            let mut specs = specs.into_iter().peekable();
            while specs.peek().is_some() {
                let ready = shared.clone().prepare(specs.by_ref().take(BULK).collect()).await;
                results.extend(shared.write_devices(&app, ready).await);
            }
            Ok(results)
        })
        .await
    }

    /// Returns a device.
    ///
    /// # Errors
    /// Fails if there is none of this id in that application.
    pub async fn device(&self, key: &DeviceKey) -> Result<Device, RegistryError> {
        let key = key.clone();
        self.at_home(|shared| async move {
            let row =
                sqlx::query("SELECT name, enabled, labels FROM devices WHERE application = $1 AND name = $2")
                    .bind(key.application())
                    .bind(key.device())
                    .fetch_optional(shared.store.pool())
                    .await?;
            row.as_ref().map_or_else(|| Err(RegistryError::NoDevice(key.clone())), shown)
        })
        .await
    }

    /// Returns the devices of an application whose ids come after `after`, ordered by id, `limit` at most.
    ///
    /// # Errors
    /// Fails if there is no such application.
    pub async fn devices(
        &self,
        app: &AppId,
        after: Option<&DeviceId>,
        limit: usize,
    ) -> Result<Vec<Device>, RegistryError> {
        let (app, after) = (app.clone(), after.map(ToString::to_string).unwrap_or_default());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.at_home(|shared| async move {
            let mut connection = shared.store.pool().acquire().await?;
            require(&mut connection, &app).await?;
            let statement = "SELECT name, enabled, labels FROM devices \
                 WHERE application = $1 AND name > $2 ORDER BY name LIMIT $3";
            let rows = sqlx::query(statement)
                .bind(app.as_str())
                .bind(after)
                .bind(limit)
                .fetch_all(&mut *connection)
                .await?;
            rows.iter().map(shown).collect()
        })
        .await
    }

    /// Deletes a device and its credentials, and ends its sessions.
    ///
    /// # Errors
    /// Fails if there is none of this id in that application.
    pub async fn delete_device(&self, key: &DeviceKey) -> Result<(), RegistryError> {
        let key = key.clone();
        self.at_home(|shared| async move { shared.delete_device(key).await }).await
    }

    /// Tells whether there is such a device, enabled or not. That there is one is remembered until it changes.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn device_exists(&self, key: &DeviceKey) -> Result<bool, RegistryError> {
        if self.shared.cache.is_device(key) {
            return Ok(true);
        }
        let key = key.clone();
        self.at_home(|shared| async move {
            let began = shared.cache.epoch(&key);
            let row = sqlx::query("SELECT 1 FROM devices WHERE application = $1 AND name = $2")
                .bind(key.application())
                .bind(key.device())
                .fetch_optional(shared.store.pool())
                .await?;
            if row.is_some() {
                shared.cache.remember_device(key, began);
            }
            Ok(row.is_some())
        })
        .await
    }
}

/// A device that is ready to be written: everything that takes time or can be refused is behind it.
#[derive(Debug)]
struct Ready {
    name: DeviceId,
    enabled: Option<bool>,
    labels: Option<Labels>,
    credentials: Option<Vec<Kept>>,
    tokens: Vec<Secret>,
}

impl Shared {
    /// Prepares devices, as many at a time as passwords are hashed, so that logins get their turn in between.
    async fn prepare(self: Arc<Self>, specs: Vec<DeviceSpec>) -> Vec<Result<Ready, RegistryError>> {
        let mut results = Vec::with_capacity(specs.len());
        let mut specs = specs.into_iter().peekable();
        while specs.peek().is_some() {
            let some = specs.by_ref().take(self.passwords.parallel());
            let tasks: Vec<_> = some.map(|spec| tokio::spawn(prepare(self.clone(), spec))).collect();
            for task in tasks {
                results.push(task.await.unwrap_or(Err(RegistryError::Unavailable)));
            }
        }
        results
    }

    /// Writes devices in one transaction. If it fails, none of them is written.
    async fn write_devices(
        &self,
        app: &AppId,
        ready: Vec<Result<Ready, RegistryError>>,
    ) -> Vec<Result<PutDevice, RegistryError>> {
        let failed: Vec<Option<RegistryError>> =
            ready.iter().map(|one| one.as_ref().err().cloned()).collect();
        store::in_time(self.try_write_devices(app, ready)).await.unwrap_or_else(|error| {
            failed.into_iter().map(|own| Err(own.unwrap_or_else(|| error.clone()))).collect()
        })
    }

    async fn try_write_devices(
        &self,
        app: &AppId,
        ready: Vec<Result<Ready, RegistryError>>,
    ) -> Result<Vec<Result<PutDevice, RegistryError>>, RegistryError> {
        let mut write = self.store.write().await?;
        require(write.connection(), app).await?;
        let mut results = Vec::with_capacity(ready.len());
        for one in ready {
            results.push(match one {
                Ok(ready) => Ok(put(&mut write, app, ready).await?),
                Err(error) => Err(error),
            });
        }
        self.announce(&write.commit().await?);
        Ok(results)
    }

    async fn delete_device(&self, key: DeviceKey) -> Result<(), RegistryError> {
        let mut write = self.store.write().await?;
        let deleted = sqlx::query("DELETE FROM devices WHERE application = $1 AND name = $2")
            .bind(key.application())
            .bind(key.device())
            .execute(write.connection())
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(RegistryError::NoDevice(key));
        }
        write.note(Change::Device(key)).await?;
        self.announce(&write.commit().await?);
        Ok(())
    }

    fn admit_password(&self) -> Result<OwnedSemaphorePermit, RegistryError> {
        self.logins.admit().ok_or(RegistryError::Busy)
    }
}

async fn prepare(shared: Arc<Shared>, spec: DeviceSpec) -> Result<Ready, RegistryError> {
    let name = spec.name.ok_or(InvalidSpec::NoName)?;
    check_labels(spec.labels.as_ref())?;
    let mut tokens = Vec::new();
    let credentials = match spec.credentials {
        None => None,
        Some(given) => {
            credential::check(&given)?;
            let mut kept = Vec::with_capacity(given.len());
            for credential in given {
                kept.push(keep(&shared, credential, &mut tokens).await?);
            }
            Some(kept)
        }
    };
    Ok(Ready { name, enabled: spec.enabled, labels: spec.labels, credentials, tokens })
}

/// Makes what is kept of a credential that was checked; a token that is made goes to `tokens` also.
async fn keep(
    shared: &Shared,
    credential: Credential,
    tokens: &mut Vec<Secret>,
) -> Result<Kept, RegistryError> {
    Ok(match credential {
        Credential::Password(password) => {
            let _permit = shared.admit_password()?;
            Kept::Password(shared.passwords.hash(password).await.map_err(|_| RegistryError::Unavailable)?)
        }
        Credential::Hash(hash) => Kept::Password(PasswordHashText::new(&hash)),
        Credential::Token(Some(token)) => Kept::Token(Digest::of(&token)),
        Credential::Token(None) => {
            let token = token::generate()?;
            let kept = Kept::Token(Digest::of(&token));
            tokens.push(token);
            kept
        }
    })
}

async fn put(write: &mut Write<'_>, app: &AppId, ready: Ready) -> Result<PutDevice, RegistryError> {
    let statement =
        "SELECT name, enabled, labels, credentials FROM devices WHERE application = $1 AND name = $2";
    let row = sqlx::query(statement)
        .bind(app.as_str())
        .bind(ready.name.as_str())
        .fetch_optional(write.connection())
        .await?;
    let old: Option<(Device, Vec<Kept>)> = match &row {
        Some(row) => Some((shown(row)?, store::from_json(row.try_get(3)?)?)),
        None => None,
    };
    let (enabled, labels, credentials) = match &old {
        Some((device, credentials)) => (device.enabled, device.labels.clone(), credentials.clone()),
        None => (true, Labels::new(), Vec::new()),
    };
    let new = Device {
        name: ready.name,
        enabled: ready.enabled.unwrap_or(enabled),
        labels: ready.labels.unwrap_or(labels),
    };
    let credentials = ready.credentials.unwrap_or(credentials);
    let put = match &old {
        None => {
            // A new device is no change: nobody has a session of it, and nobody remembers that it is not there.
            let insert = "INSERT INTO devices (enabled, labels, credentials, application, name) \
                 VALUES ($1, $2, $3, $4, $5)";
            execute(write, insert, app, &new, &credentials).await?;
            Put::Created
        }
        Some((device, kept)) => {
            if *device != new || *kept != credentials {
                let update = "UPDATE devices SET enabled = $1, labels = $2, credentials = $3 \
                     WHERE application = $4 AND name = $5";
                execute(write, update, app, &new, &credentials).await?;
                write.note(Change::Device(DeviceKey::new(app, &new.name))).await?;
            }
            Put::Changed
        }
    };
    Ok(PutDevice { put, device: new, tokens: ready.tokens })
}

async fn execute(
    write: &mut Write<'_>,
    statement: &'static str,
    app: &AppId,
    device: &Device,
    credentials: &[Kept],
) -> Result<(), RegistryError> {
    sqlx::query(statement)
        .bind(i64::from(device.enabled))
        .bind(store::to_json(&device.labels)?)
        .bind(store::to_json(&credentials)?)
        .bind(app.as_str())
        .bind(device.name.as_str())
        .execute(write.connection())
        .await?;
    Ok(())
}

fn shown(row: &AnyRow) -> Result<Device, RegistryError> {
    let enabled: i64 = row.try_get(1)?;
    Ok(Device {
        name: store::parse(row.try_get(0)?)?,
        enabled: enabled != 0,
        labels: store::from_json(row.try_get(2)?)?,
    })
}
