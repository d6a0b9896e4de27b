//! Applications.

use std::sync::Arc;

use sqlx::{AnyConnection, Row};

use super::error::RegistryError;
use super::model::{Application, Labels, Put};
use super::spec::{ApplicationSpec, check_labels, check_name};
use super::{Registry, Shared, store};
use crate::auth::Change;
use crate::id::AppId;

impl Registry {
    /// Creates or changes an application.
    ///
    /// # Errors
    /// Fails if the spec has a wrong shape or names another application.
    pub async fn put_application(&self, app: &AppId, spec: ApplicationSpec) -> Result<Put, RegistryError> {
        self.write_application(app, spec, Over::Either).await
    }

    /// Creates an application, and changes none. Of many who try that at once, one succeeds.
    ///
    /// # Errors
    /// Fails if the spec has a wrong shape or names another application, or there is one of this id.
    pub async fn create_application(&self, app: &AppId, spec: ApplicationSpec) -> Result<(), RegistryError> {
        self.write_application(app, spec, Over::Nothing).await.map(drop)
    }

    async fn write_application(
        &self,
        app: &AppId,
        spec: ApplicationSpec,
        over: Over,
    ) -> Result<Put, RegistryError> {
        check_name(spec.name.as_ref().map(AppId::as_str), app.as_str())?;
        check_labels(spec.labels.as_ref())?;
        let app = app.clone();
        self.at_home(|shared| async move { shared.write_application(&app, spec.labels, over).await }).await
    }

    /// Returns an application.
    ///
    /// # Errors
    /// Fails if there is none of this id.
    pub async fn application(&self, app: &AppId) -> Result<Application, RegistryError> {
        let app = app.clone();
        self.at_home(|shared| async move {
            let row = sqlx::query("SELECT labels FROM applications WHERE name = $1")
                .bind(app.as_str())
                .fetch_optional(shared.store.pool())
                .await?;
            let row = row.ok_or_else(|| RegistryError::NoApplication(app.clone()))?;
            Ok(Application { labels: store::from_json(row.try_get(0)?)?, name: app })
        })
        .await
    }

    /// Returns all applications, ordered by id.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn applications(&self) -> Result<Vec<Application>, RegistryError> {
        self.at_home(|shared| async move {
            let rows = sqlx::query("SELECT name, labels FROM applications ORDER BY name")
                .fetch_all(shared.store.pool())
                .await?;
            let application = |row: sqlx::any::AnyRow| {
                let name = store::parse(row.try_get(0)?)?;
                Ok(Application { name, labels: store::from_json(row.try_get(1)?)? })
            };
            rows.into_iter().map(application).collect()
        })
        .await
    }

    /// Deletes an application with all its devices, their credentials, and its tokens.
    ///
    /// # Errors
    /// Fails if there is none of this id.
    pub async fn delete_application(&self, app: &AppId) -> Result<(), RegistryError> {
        let app = app.clone();
        self.at_home(|shared| async move { shared.delete_application(app).await }).await
    }
}

/// What may be there before a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Nothing,
    Either,
}

impl Shared {
    async fn write_application(
        self: &Arc<Self>,
        app: &AppId,
        labels: Option<Labels>,
        over: Over,
    ) -> Result<Put, RegistryError> {
        // Nobody else writes until it ends, in whichever process.
        let mut write = self.store.write().await?;
        let put = if exists(write.connection(), app).await? {
            if over == Over::Nothing {
                return Err(RegistryError::ApplicationExists(app.clone()));
            }
            if let Some(labels) = labels {
                sqlx::query("UPDATE applications SET labels = $1 WHERE name = $2")
                    .bind(store::to_json(&labels)?)
                    .bind(app.as_str())
                    .execute(write.connection())
                    .await?;
            }
            Put::Changed
        } else {
            sqlx::query("INSERT INTO applications (name, labels) VALUES ($1, $2)")
                .bind(app.as_str())
                .bind(store::to_json(&labels.unwrap_or_default())?)
                .execute(write.connection())
                .await?;
            Put::Created
        };
        self.announce(&write.commit().await?);
        Ok(put)
    }

    async fn delete_application(self: &Arc<Self>, app: AppId) -> Result<(), RegistryError> {
        let mut write = self.store.write().await?;
        // Devices and tokens go with it: the tables say so.
        let deleted = sqlx::query("DELETE FROM applications WHERE name = $1")
            .bind(app.as_str())
            .execute(write.connection())
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(RegistryError::NoApplication(app));
        }
        write.note(Change::Application(app)).await?;
        self.announce(&write.commit().await?);
        Ok(())
    }
}

/// Tells whether there is such an application.
pub(super) async fn exists(connection: &mut AnyConnection, app: &AppId) -> Result<bool, RegistryError> {
    let row = sqlx::query("SELECT 1 FROM applications WHERE name = $1")
        .bind(app.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

/// Fails unless there is such an application.
pub(super) async fn require(connection: &mut AnyConnection, app: &AppId) -> Result<(), RegistryError> {
    if exists(connection, app).await? { Ok(()) } else { Err(RegistryError::NoApplication(app.clone())) }
}
