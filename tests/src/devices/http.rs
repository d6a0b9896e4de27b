//! A device that speaks HTTP.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;

use super::{Command, DeviceDriver, Refused};
use crate::api::http_client;
use crate::cloud::Gate;
use crate::tenant::Device;
use crate::wait::within;

/// A device that speaks HTTP, on a connection for each request.
#[derive(Debug, Clone, Copy)]
pub struct HttpDevice;

impl DeviceDriver for HttpDevice {
    const NAME: &'static str = "HTTP";

    async fn publish(
        self,
        gate: Gate,
        device: &Device,
        subject: &str,
        payload: &[u8],
    ) -> Result<(), Refused> {
        let response = within("the answer to telemetry", post(gate, device, subject, "", payload)).await;
        accepted(&response)
    }

    async fn exchange(
        self,
        gate: Gate,
        device: &Device,
        subject: &str,
        payload: &[u8],
        wait: Duration,
    ) -> Result<Option<Command>, Refused> {
        let query = format!("?ttd={}", wait.as_secs_f64());
        let response = within("the end of the wait", post(gate, device, subject, &query, payload)).await;
        accepted(&response)?;
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().expect("names and ids are ASCII").to_owned())
        };
        let (name, id) = (header("command"), header("command-id"));
        let payload = within("the body", response.bytes()).await.expect("the body is whole");
        let command = name.map(|name| Command { name, id: id.expect("a command has an id"), payload });
        Ok(command)
    }

    async fn reply(
        self,
        gate: Gate,
        device: &Device,
        command: &str,
        status: u16,
        payload: &[u8],
    ) -> Result<(), Refused> {
        let (subject, query) = (format!("commands/{command}/reply"), format!("?status={status}"));
        let response = within("the answer to a reply", post(gate, device, &subject, &query, payload)).await;
        accepted(&response)
    }
}

async fn post(gate: Gate, device: &Device, subject: &str, query: &str, payload: &[u8]) -> Response {
    let url = format!("http://{}/v1/{subject}{query}", gate.http);
    let request = http_client().post(url);
    let request =
        request.basic_auth(device.user(), Some(&device.secret)).header("content-type", "application/json");
    request.body(Bytes::copy_from_slice(payload)).send().await.expect("the endpoint answers")
}

fn accepted(response: &Response) -> Result<(), Refused> {
    match response.status().as_u16() {
        202 => Ok(()),
        401 => Err(Refused::Login),
        status => Err(Refused::Message(status.to_string())),
    }
}
