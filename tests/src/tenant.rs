//! An application of a test's own, with its devices.

use serde_json::json;

use crate::api::Api;
use crate::cloud::{Cloud, Gate};
use crate::events::{EventStream, Query};
use crate::secrets;

/// An application that one test uses, so that tests do not meet.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its name.
    pub app: String,
    /// The cloud that it is in.
    pub cloud: Cloud,
    /// The API, with a token of this application that has all scopes.
    pub api: Api,
    gate: Gate,
}

/// A device and what it logs in with.
#[derive(Debug, Clone)]
pub struct Device {
    /// The application.
    pub app: String,
    /// The device's name.
    pub name: String,
    /// Its password or token.
    pub secret: String,
}

impl Device {
    /// Returns the user name: `device@application`.
    pub fn user(&self) -> String {
        format!("{}@{}", self.name, self.app)
    }

    /// Returns the same device with another secret.
    #[must_use]
    pub fn with_secret(&self, secret: impl Into<String>) -> Self {
        Self { secret: secret.into(), ..self.clone() }
    }
}

impl Tenant {
    pub(crate) async fn create(cloud: &Cloud) -> Self {
        let app = format!("t-{}", secrets::unique());
        cloud.operator.put(&format!("apps/{app}"), &json!({})).await.expect_status(201);
        let api = cloud.operator.with_token_for(&app, &["command", "events", "registry"]).await;
        Self { app, cloud: cloud.clone(), api, gate: cloud.gate() }
    }

    /// Returns this application in a cloud that has started anew on the same data.
    #[must_use]
    pub fn moved_to(&self, cloud: &Cloud) -> Self {
        let api = cloud.operator.with_token(self.api.token());
        Self { app: self.app.clone(), cloud: cloud.clone(), api, gate: cloud.gate() }
    }

    /// Returns this application with its devices at another gate.
    #[must_use]
    pub fn through(&self, gate: Gate) -> Self {
        Self { gate, ..self.clone() }
    }

    /// Returns where devices connect: all of this application at the same place.
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// Makes a device with a token that costs no argon2.
    ///
    /// # Panics
    /// Panics if the API refuses.
    pub async fn device(&self) -> Device {
        let device = self.stranger();
        self.register(&device, &json!({"token": device.secret})).await;
        device
    }

    /// Makes a device with a password.
    ///
    /// # Panics
    /// Panics if the API refuses.
    pub async fn device_with_password(&self) -> Device {
        let device = self.stranger().with_secret(secrets::password());
        self.register(&device, &json!({"password": device.secret})).await;
        device
    }

    /// Thinks up a device that is not registered.
    pub fn stranger(&self) -> Device {
        Device { app: self.app.clone(), name: format!("d-{}", secrets::unique()), secret: secrets::token() }
    }

    /// Registers a device under its name with one credential.
    ///
    /// # Panics
    /// Panics if the API refuses.
    pub async fn register(&self, device: &Device, credential: &serde_json::Value) {
        let body = json!({"credentials": [credential]});
        self.api.put(&self.path(device), &body).await.expect_status(201);
    }

    /// Returns the device's path in the API, without the version.
    pub fn path(&self, device: &Device) -> String {
        format!("apps/{}/devices/{}", self.app, device.name)
    }

    /// Sends a command without a `ttl` and returns its id.
    ///
    /// # Panics
    /// Panics if the API refuses.
    pub async fn command(&self, device: &Device, name: &str, payload: &str) -> String {
        self.command_with(device, &format!("{name}?"), payload).await
    }

    /// Sends a command that lapses after `ttl` and returns its id.
    ///
    /// # Panics
    /// Panics if the API refuses.
    pub async fn command_with_ttl(&self, device: &Device, name: &str, ttl: &str) -> String {
        self.command_with(device, &format!("{name}?ttl={ttl}"), &secrets::payload()).await
    }

    async fn command_with(&self, device: &Device, name_and_query: &str, payload: &str) -> String {
        let path = format!("{}/commands/{name_and_query}", self.path(device));
        let answer = self.api.post(&path, "application/json", payload.to_owned()).await;
        let body = answer.expect_status(202).json();
        body["id"].as_str().expect("the answer has an id").to_owned()
    }

    /// Follows the telemetry of this application from now on.
    ///
    /// # Panics
    /// Panics if the API refuses.
    pub async fn telemetry(&self) -> EventStream {
        self.events(&Query::telemetry()).await
    }

    /// Opens a stream of events.
    ///
    /// # Panics
    /// Panics if the API refuses.
    pub async fn events(&self, query: &Query) -> EventStream {
        EventStream::open(&self.api, &self.app, query).await.expect("the API opens the stream")
    }
}
