//! `drogue command`: sends commands to devices.

use std::time::Duration;

use clap::{Args, Subcommand};
use common::id::{AppId, CommandName, DEFAULT_APPLICATION, DeviceId};
use common::time::parse_duration;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::json;

use super::{ApiOptions, Client, body};
use crate::output;

/// Send commands to devices.
#[derive(Debug, Args)]
pub struct Commands {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Send a command to a device, and print the command's id
    Send(Send),
}

#[derive(Debug, Args)]
struct Send {
    /// The device
    device: DeviceId,
    /// The command's name
    name: CommandName,
    /// The payload: '-' is standard input, '@FILE' a file
    body: Option<String>,
    /// The application
    #[arg(long, default_value = DEFAULT_APPLICATION)]
    app: AppId,
    /// How long the command lives, as 30s or 10m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// The payload's content type; else JSON and text are recognised
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Accepted {
    id: String,
}

impl Commands {
    /// Sends the command.
    ///
    /// # Errors
    /// Fails unless the command was accepted.
    pub async fn run(self) -> anyhow::Result<()> {
        let Verb::Send(send) = self.verb;
        let client = Client::open(&self.api)?;
        let path = format!("v1/apps/{}/devices/{}/commands/{}", send.app, send.device, send.name);
        let mut request = client.request(Method::POST, &path);
        if let Some(ttl) = send.ttl {
            request = request.query(&[("ttl", format!("{}ms", ttl.as_millis()))]);
        }
        if let Some(argument) = &send.body {
            let payload = body::read(argument)?;
            let content_type = send.content_type.unwrap_or_else(|| body::content_type(&payload).to_owned());
            request = request.header(CONTENT_TYPE, content_type).body(payload);
        }
        let Accepted { id } = client.fetch(request).await?;
        if self.api.json {
            output::line(json!({ "id": id }))?
        } else {
            output::line(id)?
        }
        Ok(())
    }
}
