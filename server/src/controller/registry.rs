//! The registry, through the application interface of the cloud.

use std::time::Duration;

use common::device::DeviceSpec;
use common::id::{AppId, DeviceKey};
use common::registry::{Application, ApplicationSpec, Labels};
use reqwest::header::IF_NONE_MATCH;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::ControllerError;
use super::link::Answer;
use crate::client::Client;

/// How long the interface may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The registry, as the operator sees it.
#[derive(Debug, Clone)]
pub(super) struct Registry {
    client: Client,
    patience: Duration,
}

impl Registry {
    pub(super) fn new(client: Client) -> Self {
        Self { client, patience: PATIENCE }
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

    /// Opens the stream of the channel in which connections are recorded, which may last as long as it likes.
    pub(super) async fn records(&self, app: &AppId) -> Result<Response, ControllerError> {
        let request = self.client.request(Method::GET, &format!("v1/apps/{app}/events"));
        let answer = timeout(self.patience, self.send(request.query(&[("channel", "commands")]))).await;
        answer.unwrap_or_else(|_| {
            let waited = self.patience.as_secs();
            Err(ControllerError::Unreachable(format!("no stream of records within {waited} s")))
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, path).timeout(self.patience)
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

#[cfg(test)]
mod tests {
    use common::auth::Secret;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::client::{Trust, http_client};

    /// Starts a listener, and a registry that takes it for the interface.
    async fn start(patience: Duration) -> (TcpListener, Registry) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::new(http_client(Trust::System).unwrap(), base, Secret::new("t"));
        (listener, Registry { client, patience })
    }

    /// Takes a connection, and reads the head of a request.
    async fn head(listener: &TcpListener) -> (TcpStream, String) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(head).unwrap())
    }

    #[tokio::test]
    async fn a_stream_that_does_not_begin_is_given_up() {
        let (listener, registry) = start(Duration::from_millis(100)).await;
        let app = "a".parse().unwrap();
        let (error, _open) = tokio::join!(registry.records(&app), head(&listener));
        assert_eq!(error.unwrap_err().to_string(), "no stream of records within 0 s");
    }

    #[tokio::test]
    async fn an_application_is_made_on_the_condition_that_there_is_none() {
        let (listener, registry) = start(PATIENCE).await;
        let app = "a".parse().unwrap();
        for (answer, made) in [("201 Created", Some(true)), ("412 x", Some(false)), ("500 x", None)] {
            let server = async {
                let (mut stream, head) = head(&listener).await;
                assert!(head.starts_with("PUT /v1/apps/a HTTP/1.1\r\n"), "{head}");
                assert!(head.contains("if-none-match: *\r\n"), "{head}");
                let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream
            };
            let (result, _open) = tokio::join!(registry.make_application(&app, Labels::new()), server);
            assert_eq!(result.ok(), made);
        }
    }
}
