//! The state of the server that the data directory belongs to.

use std::net::SocketAddr;

use anyhow::ensure;
use common::auth::Secret;
use common::id::DEFAULT_APPLICATION;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{COMMANDS, PATIENCE, Part, State, Status, start_command};
use crate::addresses::{Addresses, Listener, reachable};
use crate::client::{Client, Refused, Trust, http_client};
use crate::data_dir::DataDir;
use crate::first_start::DEFAULT_TOKEN;
use crate::output;
use crate::quickstart::{EXAMPLE_DEVICE, EXAMPLE_PASSWORD, Example, Quickstart};

impl Status {
    /// Prints the state of each part, then the section of start-up.
    ///
    /// # Errors
    /// Fails if a part is not up.
    pub(super) async fn here(&self, data: &DataDir, addresses: &Addresses) -> anyhow::Result<()> {
        let http = http_client(Trust::Only(self.api.ca_cert.as_ref().unwrap_or(&addresses.ca)))?;
        let up = self.print(&parts(&http, addresses).await)?;
        if !self.api.json {
            let token = valid_token(&http, data, addresses).await?;
            // The default application's own token is the one that surely sees its devices.
            let asks_with = match &token {
                Some(token) => Some(token.clone()),
                None => self.api.token(data)?,
            };
            let example = example(&http, asks_with, addresses).await;
            let token = token.as_ref().map(Secret::expose);
            let quickstart = Quickstart { addresses, data: data.path(), token, example };
            output::line(format!("\n{}", quickstart.section().trim_end()))?;
        }
        ensure!(up, "not everything is up; start the server with {}", start_command(data));
        Ok(())
    }
}

async fn parts(http: &reqwest::Client, addresses: &Addresses) -> Vec<Part> {
    let readiness = readiness(http, addresses).await;
    let mut parts = Vec::new();
    for listener in addresses.listeners() {
        let accepts = match listener.address {
            Some(address) => accepts(address).await,
            None => false,
        };
        parts.push(part(&listener, accepts, readiness.as_ref()));
    }
    let state = match &readiness {
        Some(readiness) if readiness.is_ready(COMMANDS) => State::Up,
        Some(_) => State::Down,
        None => State::Unknown,
    };
    parts.push(Part { name: COMMANDS, state, address: None });
    parts
}

/// Judges a listener: it is up if it accepts connections and its server does not say that it has ended.
fn part(listener: &Listener, accepts: bool, readiness: Option<&Readiness>) -> Part {
    let ready = match (listener.part, readiness) {
        (Some(name), Some(readiness)) => readiness.is_ready(name),
        (None, _) | (_, None) => true,
    };
    let state = match listener.address {
        None => State::Off,
        Some(_) if accepts && ready => State::Up,
        Some(_) => State::Down,
    };
    Part { name: listener.name, state, address: listener.url() }
}

async fn accepts(listener: SocketAddr) -> bool {
    let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(reachable(listener))).await;
    matches!(connected, Ok(Ok(_)))
}

/// What `/readyz` answers.
#[derive(Debug, Deserialize)]
struct Readiness {
    parts: Vec<ReadyPart>,
}

#[derive(Debug, Deserialize)]
struct ReadyPart {
    name: String,
    ready: bool,
}

impl Readiness {
    fn is_ready(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part.name == name && part.ready)
    }
}

/// Asks what is ready; `None` if nobody says.
async fn readiness(http: &reqwest::Client, addresses: &Addresses) -> Option<Readiness> {
    let admin = addresses.admin?;
    let request = http.get(format!("http://{}/readyz", reachable(admin))).timeout(PATIENCE);
    request.send().await.ok()?.json().await.ok()
}

/// Reads the default application's token; `None` if it is gone or does not open the application any more.
async fn valid_token(
    http: &reqwest::Client,
    data: &DataDir,
    addresses: &Addresses,
) -> anyhow::Result<Option<Secret>> {
    let Some(token) = data.read_token(DEFAULT_TOKEN)? else { return Ok(None) };
    let Some(api) = addresses.api_url() else { return Ok(Some(token)) };
    let client = Client::new(http.clone(), api, token.clone());
    let request = client.request(Method::GET, &format!("v1/apps/{DEFAULT_APPLICATION}")).timeout(PATIENCE);
    let revoked = client.send(request).await.is_err_and(|error| {
        error.downcast_ref::<Refused>().is_some_and(|refused| refused.status.is_client_error())
    });
    Ok(Some(token).filter(|_| !revoked))
}

/// Finds out what there is of the example device. Where nobody says, it is taken to be as the first start made it.
async fn example(http: &reqwest::Client, token: Option<Secret>, addresses: &Addresses) -> Example {
    if let (Some(token), Some(api)) = (token, addresses.api_url()) {
        let client = Client::new(http.clone(), api, token);
        let path = format!("v1/apps/{DEFAULT_APPLICATION}/devices/{EXAMPLE_DEVICE}");
        match client.fetch::<Value>(client.request(Method::GET, &path).timeout(PATIENCE)).await {
            Ok(device) if device["enabled"] == false => return Example::Disabled,
            Err(error) if is_missing(&error) && sees_application(&client).await => return Example::Missing,
            Ok(_) | Err(_) => {}
        }
    }
    if refuses_password(http, addresses).await { Example::Private } else { Example::Public }
}

/// Tells whether a token sees the default application. To the others, what there is of it is missing too.
async fn sees_application(client: &Client) -> bool {
    let request = client.request(Method::GET, &format!("v1/apps/{DEFAULT_APPLICATION}"));
    client.send(request.timeout(PATIENCE)).await.is_ok()
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == StatusCode::NOT_FOUND)
}

/// Tells whether the server refuses the example device's public password.
///
/// Nothing is published: the server looks at the credentials first, and then refuses the request for its subject, which
/// is reserved, and its `ttd`.
async fn refuses_password(http: &reqwest::Client, addresses: &Addresses) -> bool {
    let Some(base) = addresses.http_url() else { return false };
    let url = format!("{base}/v1/cmd?ttd=none");
    let request = http.post(url).basic_auth(EXAMPLE_DEVICE, Some(EXAMPLE_PASSWORD)).timeout(PATIENCE);
    request.send().await.is_ok_and(|answer| answer.status() == StatusCode::UNAUTHORIZED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_up_if_it_accepts_and_its_server_runs() {
        let addresses = Addresses { mqtts: "127.0.0.1:8883".parse().ok(), ..Addresses::default() };
        let [_, _, mqtt, mqtts, ..] = addresses.listeners();
        let says = |ready| Readiness { parts: vec![ReadyPart { name: "mqtt".to_owned(), ready }] };
        for (accepts, readiness, expected) in [
            (true, Some(says(true)), State::Up),
            (true, None, State::Up),
            (true, Some(says(false)), State::Down),
            (false, Some(says(true)), State::Down),
        ] {
            assert_eq!(part(&mqtts, accepts, readiness.as_ref()).state, expected, "{accepts} {readiness:?}");
        }
        assert_eq!(part(&mqtt, false, None).state, State::Off);
        assert_eq!(part(&mqtts, true, None).address.as_deref(), Some("mqtts://127.0.0.1:8883"));
    }
}
