//! `drogue status`: what is up, and how to send a first command.
//!
//! Of the server of the data directory everything is known; of one that is named by `--api`, or only by a token, its
//! application interface; of one in a Kubernetes cluster, with `--kube`, what the API server knows.

mod elsewhere;
mod here;
mod kube;

use std::fmt;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use crate::addresses::Addresses;
use crate::client::{ApiOptions, DEFAULT_API};
use crate::data_dir::DataDir;
use crate::output;
use crate::quickstart::quote;

/// A part that does not answer for so long is not up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The part that is no listener: whether commands reach the devices' endpoints.
const COMMANDS: &str = "commands";

/// Show what of the server is up, and how to send a first command.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    kube: kube::KubeOptions,

    #[command(flatten)]
    api: ApiOptions,
}

/// How a part of the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Up,
    Down,
    Off,
    Unknown,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "DOWN",
            Self::Off => "off",
            Self::Unknown => "unknown",
        })
    }
}

/// A part of the server.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Part {
    name: &'static str,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

impl Status {
    /// Prints the state of each part, then the section of start-up.
    ///
    /// # Errors
    /// Fails if a part is not up.
    pub async fn run(self) -> anyhow::Result<()> {
        if self.kube.kube {
            return self.kube().await;
        }
        let data = self.api.data()?;
        let started = Addresses::load(&data)?;
        match (&self.api.api, started) {
            (None, Some(addresses)) => self.here(&data, &addresses).await,
            (Some(api), Some(addresses)) if addresses.has_api(api) => self.here(&data, &addresses).await,
            (Some(api), _) => self.elsewhere(api).await,
            // Who has a token means a server, if not one of this directory.
            (None, None) if self.api.token.is_some() => self.elsewhere(DEFAULT_API).await,
            (None, None) => bail!(
                "no server was started with the data directory {}; start one with {}, or name one elsewhere with --api",
                data.path().display(),
                start_command(&data)
            ),
        }
    }

    /// Prints the parts, and returns whether none is down.
    fn print(&self, parts: &[Part]) -> anyhow::Result<bool> {
        let up = parts.iter().all(|part| part.state != State::Down);
        if self.api.json {
            output::line(serde_json::json!({ "up": up, "parts": parts }))?;
        } else {
            let row = |part: &Part| {
                [part.name.to_owned(), part.state.to_string(), part.address.clone().unwrap_or_default()]
            };
            output::table(&parts.iter().map(row).collect::<Vec<_>>())?;
        }
        Ok(up)
    }
}

/// Returns the command that starts the server of a data directory.
fn start_command(data: &DataDir) -> String {
    format!("`drogue --data-dir {}`", quote(&data.path().to_string_lossy()))
}
