//! `drogue command send`: a command, and the wait for what becomes of it.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use common::id::{AppId, CommandName, DeviceId};
use common::time::parse_duration;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Client, body, read_json};
use crate::output;

#[derive(Debug, Args)]
pub(super) struct Send {
    /// The device
    device: DeviceId,
    /// The command's name
    name: CommandName,
    /// The payload: '-' is standard input, '@FILE' a file
    body: Option<String>,
    /// Keep the command while the device is away, at most so long, as 10m; else it is for a device that is connected now
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Wait until the device has the command, or for its reply, which is then printed
    #[arg(long, value_name = "WHAT")]
    wait: Option<Wait>,
    /// How long to wait, at most 60s
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration, requires = "wait")]
    timeout: Duration,
    /// Do it once: the same key and request within 24 hours is the same command
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Take the place of a pending command with the same key
    #[arg(long, value_name = "KEY")]
    supersede: Option<String>,
    /// The payload's content type; else JSON and text are recognised
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wait {
    Delivered,
    Reply,
}

#[derive(Debug, Deserialize)]
struct Accepted {
    id: String,
}

impl Send {
    /// Sends the command, and waits if that was asked for.
    pub(super) async fn run(&self, client: &Client, app: &AppId, as_json: bool) -> anyhow::Result<()> {
        let path = format!("v1/apps/{app}/devices/{}/commands/{}", self.device, self.name);
        let request = self.with_body(client.request(Method::POST, &path).query(&self.query()))?;
        let progress = self.wait.map(|wait| waiting(wait, self.timeout));
        let answer = client.send(request).await;
        if let Some(progress) = progress {
            progress.finish_and_clear();
        }
        let answer = answer?;
        match (self.wait, answer.status()) {
            (None, _) => accepted(answer, as_json).await,
            (Some(_), StatusCode::ACCEPTED) => {
                let Accepted { id } = read_json(answer).await?;
                let device = &self.device;
                bail!(
                    "not known within {:?}; the command is under way: `drogue command show {device} {id} --app {app}`",
                    self.timeout
                )
            }
            (Some(Wait::Delivered), _) => delivered(answer, as_json).await,
            (Some(Wait::Reply), _) => replied(answer).await,
        }
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        let millis = |duration: Duration| format!("{}ms", duration.as_millis());
        let mut query = Vec::new();
        query.extend(self.ttl.map(|ttl| ("ttl", millis(ttl))));
        query.extend(self.supersede.clone().map(|key| ("supersede", key)));
        if let Some(wait) = self.wait {
            let wait = match wait {
                Wait::Delivered => "delivered",
                Wait::Reply => "reply",
            };
            query.extend([("wait", wait.to_owned()), ("timeout", millis(self.timeout))]);
        }
        query
    }

    fn with_body(&self, mut request: RequestBuilder) -> anyhow::Result<RequestBuilder> {
        if let Some(key) = &self.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let Some(argument) = &self.body else { return Ok(request) };
        let payload = body::read(argument)?;
        let content_type =
            self.content_type.clone().unwrap_or_else(|| body::content_type(&payload).to_owned());
        Ok(request.header(CONTENT_TYPE, content_type).body(payload))
    }
}

async fn accepted(answer: Response, as_json: bool) -> anyhow::Result<()> {
    let Accepted { id } = read_json(answer).await?;
    if as_json {
        output::line(json!({ "id": id }))?
    } else {
        output::line(id)?
    }
    Ok(())
}

async fn delivered(answer: Response, as_json: bool) -> anyhow::Result<()> {
    let command: Value = read_json(answer).await?;
    if as_json {
        output::line(command)?;
    } else {
        let text = |member: &str| command[member].as_str().unwrap_or_default().to_owned();
        output::line(format!("{} {}", text("id"), text("state")))?;
    }
    Ok(())
}

/// Prints the reply as it is. What is not a success of the device is no success here.
async fn replied(answer: Response) -> anyhow::Result<()> {
    let status = answer.headers().get("command-status").and_then(|status| status.to_str().ok());
    let status = status.unwrap_or("200").to_owned();
    let reply = answer.bytes().await?;
    let mut out = io::stdout().lock();
    out.write_all(&reply)?;
    if out.is_terminal() && !reply.is_empty() && !reply.ends_with(b"\n") {
        writeln!(out)?;
    }
    out.flush()?;
    if !status.starts_with('2') {
        bail!("the device replied with status {status}");
    }
    Ok(())
}

/// Shows on a terminal for how long what is waited for.
fn waiting(wait: Wait, timeout: Duration) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let what = match wait {
        Wait::Delivered => "for the device to take the command",
        Wait::Reply => "for the device's reply",
    };
    let style = ProgressStyle::with_template("{spinner} waiting {msg}: {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.set_message(format!("{what} (at most {timeout:?})"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
