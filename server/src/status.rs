//! `drogue status`: what is up, and how to send a first command.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::Args;
use common::auth::Secret;
use common::id::DEFAULT_APPLICATION;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::addresses::{Addresses, reachable};
use crate::cli::DataDirOption;
use crate::client::{Client, Refused, Trust, http_client};
use crate::data_dir::DataDir;
use crate::first_start::DEFAULT_TOKEN;
use crate::output;
use crate::quickstart::{EXAMPLE_DEVICE, EXAMPLE_PASSWORD, Quickstart, quote};

/// A part that does not answer for so long is not up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Show what of the server is up, and how to send a first command.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    data_dir: DataDirOption,
    /// Print JSON, for scripts.
    #[arg(long)]
    json: bool,
}

/// A part of the server.
#[derive(Debug, Serialize)]
struct Part {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    up: bool,
}

impl Status {
    /// Prints the state of each part, then the section of start-up.
    ///
    /// # Errors
    /// Fails if a part is not up.
    pub async fn run(self) -> anyhow::Result<()> {
        let data = self.data_dir.open()?;
        let start = start_command(&data);
        let Some(addresses) = Addresses::load(&data)? else {
            bail!(
                "no server was started with the data directory {}; start one with {start}",
                data.path().display()
            );
        };
        let http = http_client(Trust::Only(&addresses.ca))?;
        let mut parts = Vec::new();
        for (name, scheme, listener) in addresses.listeners() {
            if let Some(listener) = listener {
                let address = Some(format!("{scheme}://{listener}"));
                parts.push(Part { name: name.to_owned(), address, up: accepts(listener).await });
            }
        }
        parts.extend(ready_parts(&http, &addresses).await);
        let up = parts.iter().all(|part| part.up);
        if self.json {
            output::line(serde_json::json!({ "up": up, "parts": parts }))?;
        } else {
            print(&parts)?;
            let token = valid_token(&http, &data, &addresses).await?;
            let password = known_password(&http, &addresses).await;
            let quickstart =
                Quickstart { addresses: &addresses, token: token.as_ref().map(Secret::expose), password };
            output::line(format!("\n{}", quickstart.section().trim_end()))?;
        }
        ensure!(up, "not everything is up; start the server with {start}");
        Ok(())
    }
}

fn print(parts: &[Part]) -> anyhow::Result<()> {
    let rows: Vec<_> = parts
        .iter()
        .map(|part| {
            let state = if part.up { "up" } else { "DOWN" };
            [part.name.clone(), state.to_owned(), part.address.clone().unwrap_or_default()]
        })
        .collect();
    Ok(output::table(&rows)?)
}

/// Returns the command that starts the server of a data directory.
pub fn start_command(data: &DataDir) -> String {
    format!("`drogue --data-dir {}`", quote(&data.path().to_string_lossy()))
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

async fn ready_parts(http: &reqwest::Client, addresses: &Addresses) -> Vec<Part> {
    let Some(admin) = addresses.admin else { return Vec::new() };
    let request = http.get(format!("http://{}/readyz", reachable(admin))).timeout(PATIENCE);
    let Ok(response) = request.send().await else { return Vec::new() };
    let Ok(readiness) = response.json::<Readiness>().await else { return Vec::new() };
    readiness.parts.into_iter().map(|part| Part { name: part.name, address: None, up: part.ready }).collect()
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
    let answer = client.send(request).await;
    let revoked = answer.is_err_and(|error| {
        error.downcast_ref::<Refused>().is_some_and(|refused| refused.status.is_client_error())
    });
    Ok(Some(token).filter(|_| !revoked))
}

/// Returns the example device's password unless the server refuses it.
///
/// Nothing is published: the server looks at the credentials first, and then refuses the request for its subject, which
/// is reserved, and its `ttd`.
async fn known_password(http: &reqwest::Client, addresses: &Addresses) -> Option<&'static str> {
    let url = format!("{}/v1/cmd?ttd=none", addresses.http_url()?);
    let request = http.post(url).basic_auth(EXAMPLE_DEVICE, Some(EXAMPLE_PASSWORD)).timeout(PATIENCE);
    let refused = request.send().await.is_ok_and(|answer| answer.status() == StatusCode::UNAUTHORIZED);
    Some(EXAMPLE_PASSWORD).filter(|_| !refused)
}
