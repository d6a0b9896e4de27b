//! The registry, through the application interface of the cloud.

use std::time::Duration;

use common::device::DeviceSpec;
use common::id::{AppId, DeviceKey};
use common::registry::{Application, ApplicationSpec, Labels};
use reqwest::header::IF_NONE_MATCH;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use super::error::ControllerError;
use super::link::Answer;
use crate::client::Client;

/// How long the interface may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The registry, as the operator sees it.
#[derive(Debug, Clone)]
pub(super) struct Registry {
    client: Client,
}

impl Registry {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Returns an application, if it is there.
    pub(super) async fn application(&self, app: &AppId) -> Result<Option<Application>, ControllerError> {
        found(self.fetch(self.request(Method::GET, &format!("v1/apps/{app}"))).await)
    }

    /// Makes an application, and tells whether it did: one that is there is left alone.
    pub(super) async fn make_application(
        &self,
        app: &AppId,
        labels: Labels,
    ) -> Result<bool, ControllerError> {
        match self.send(self.put(app, labels).header(IF_NONE_MATCH, "*")).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(StatusCode::PRECONDITION_FAILED) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes an application, and tells whether it was made.
    pub(super) async fn put_application(&self, app: &AppId, labels: Labels) -> Result<bool, ControllerError> {
        Ok(self.send(self.put(app, labels)).await?.status() == StatusCode::CREATED)
    }

    fn put(&self, app: &AppId, labels: Labels) -> RequestBuilder {
        let spec = ApplicationSpec { name: None, labels: Some(labels) };
        self.request(Method::PUT, &format!("v1/apps/{app}")).json(&spec)
    }

    /// Deletes an application. One that is gone already is as good.
    pub(super) async fn delete_application(&self, app: &AppId) -> Result<(), ControllerError> {
        found(self.send(self.request(Method::DELETE, &format!("v1/apps/{app}"))).await).map(drop)
    }

    /// Writes a device.
    pub(super) async fn put_device(&self, key: &DeviceKey, spec: &DeviceSpec) -> Result<(), ControllerError> {
        self.send(self.request(Method::PUT, &path(key)).json(spec)).await.map(drop)
    }

    /// Deletes a device. One that is gone already is as good.
    pub(super) async fn delete_device(&self, key: &DeviceKey) -> Result<(), ControllerError> {
        found(self.send(self.request(Method::DELETE, &path(key))).await).map(drop)
    }

    /// Asks how a device can be reached; `None` if there is no such device.
    pub(super) async fn connection(&self, key: &DeviceKey) -> Result<Option<Answer>, ControllerError> {
        found(self.fetch(self.request(Method::GET, &format!("{}/connection", path(key)))).await)
    }

    /// Opens the stream of the channel in which connections are recorded.
    pub(super) async fn records(&self, app: &AppId) -> Result<Response, ControllerError> {
        let request = self.client.request(Method::GET, &format!("v1/apps/{app}/events"));
        self.send(request.query(&[("channel", "commands")])).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, path).timeout(PATIENCE)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ControllerError> {
        self.client.send(request).await.map_err(|error| ControllerError::of_registry(&error))
    }

    async fn fetch<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ControllerError> {
        self.client.fetch(request).await.map_err(|error| ControllerError::of_registry(&error))
    }
}

fn path(key: &DeviceKey) -> String {
    format!("v1/apps/{}/devices/{}", key.application(), key.device())
}

/// Makes of the answer that something is not there, nothing.
fn found<T>(result: Result<T, ControllerError>) -> Result<Option<T>, ControllerError> {
    match result {
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
        result => result.map(Some),
    }
}
