//! `drogue events`: follows an application's stream, across interruptions.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context;
use base64::prelude::{BASE64_STANDARD, Engine};
use clap::{Args, ValueEnum};
use common::id::{AppId, DEFAULT_APPLICATION};
use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::sse::{Decoder, Message, SILENCE};
use super::{ApiOptions, Client, Refused};
use crate::output;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Follow what devices send, until Ctrl-C. A lost connection is taken up again where it was lost.
#[derive(Debug, Args)]
pub struct Events {
    /// The application.
    #[arg(long, default_value = DEFAULT_APPLICATION)]
    app: AppId,
    /// Only this channel; give it again for more.
    #[arg(long, value_enum, default_value = "telemetry")]
    channel: Vec<ChannelName>,
    /// Only this device.
    #[arg(long)]
    device: Option<String>,
    /// Where to start.
    #[arg(long, value_enum, default_value = "latest")]
    from: From,
    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ChannelName {
    Telemetry,
    Commands,
    Outcomes,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    /// With what is accepted from now on
    Latest,
    /// With the oldest event that is kept
    Earliest,
}

impl Events {
    /// Prints events until it is interrupted or the server refuses.
    ///
    /// # Errors
    /// Fails if the server cannot be reached at first, or refuses for good.
    pub async fn run(self) -> anyhow::Result<()> {
        let client = Client::open(&self.api)?;
        let mut follower = Follower { client, options: self, position: None, state: State::Never };
        let mut pause = FIRST_PAUSE;
        loop {
            let before = follower.position.clone();
            let Err(lost) = follower.follow().await else { continue };
            if follower.state == State::Never || is_final(&lost) {
                return Err(lost);
            }
            if follower.state == State::Connected {
                eprintln!("the connection was lost ({lost:#}); trying again");
                follower.state = State::Lost;
            }
            if follower.position != before {
                pause = FIRST_PAUSE;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        let name =
            |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_owned());
        let channels = self.channel.iter().filter_map(|channel| name(channel.to_possible_value()));
        let mut query: Vec<_> = channels.map(|channel| ("channel", channel)).collect();
        query.extend(self.device.clone().map(|device| ("device", device)));
        query.extend(name(self.from.to_possible_value()).map(|from| ("from", from)));
        query
    }
}

/// Refusals that do not pass by themselves, and output that nobody reads.
fn is_final(error: &anyhow::Error) -> bool {
    let passing = |status: StatusCode| status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    output::is_unread(error)
        || error.downcast_ref::<Refused>().is_some_and(|refused| !passing(refused.status))
}

struct Follower {
    client: Client,
    options: Events,
    /// Behind the last event that was printed, or where the stream began.
    position: Option<String>,
    state: State,
}

/// Whether the server was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Never,
    Connected,
    Lost,
}

impl Follower {
    /// Prints events until the connection is lost.
    async fn follow(&mut self) -> anyhow::Result<()> {
        let path = format!("v1/apps/{}/events", self.options.app);
        let mut request = self.client.request(Method::GET, &path).query(&self.options.query());
        if let Some(position) = &self.position {
            request = request.header("last-event-id", position);
        }
        let mut pieces = self.client.send(request).await?.bytes_stream();
        if self.state == State::Lost {
            eprintln!("connected again; nothing was missed");
        }
        self.state = State::Connected;
        let mut decoder = Decoder::default();
        loop {
            let piece = tokio::time::timeout(SILENCE, pieces.next()).await.context("the server is silent")?;
            let piece = piece.context("the server closed it")?.context("reading failed")?;
            for message in decoder.push(&piece) {
                self.print(&message)?;
            }
            self.position = decoder.last_id().map(str::to_owned).or_else(|| self.position.take());
        }
    }

    fn print(&self, message: &Message) -> anyhow::Result<()> {
        if self.options.api.json {
            // A line break in JSON is a space between two tokens, and one event is to be one line.
            output::line(message.data.replace(['\n', '\r'], " "))?;
        } else {
            output::line(readable(&message.data)?)?;
        }
        Ok(())
    }
}

/// What of an event is shown to a reader.
#[derive(Debug, Deserialize)]
struct Shown<'a> {
    #[serde(rename = "type")]
    kind: String,
    device: String,
    subject: String,
    time: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
}

/// Writes an event as one line: its time, device, subject and data.
fn readable(event: &str) -> anyhow::Result<String> {
    let event: Shown<'_> =
        serde_json::from_str(event).context("the server sent something that is no event")?;
    let mut line = format!("{}  {}  ", event.time, event.device);
    if event.kind == common::event::COMMAND_TYPE {
        line += "command ";
    }
    line += &event.subject;
    let bytes = event.data_base64.map(|text| BASE64_STANDARD.decode(text)).transpose()?;
    match (event.data, bytes.map(String::from_utf8)) {
        (Some(json), _) => write!(line, "  {}", json.get().replace(['\n', '\r'], " "))?,
        (None, Some(Ok(text))) => write!(line, "  {text}")?,
        (None, Some(Err(binary))) => write!(line, "  ({} bytes)", binary.as_bytes().len())?,
        (None, None) => {}
    }
    Ok(output::printable(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"1","type":"io.drogue.telemetry.v1","device":"d1","subject":"temp/in",
            "time":"2026-01-02T03:04:05.678Z"{data}}}"#
        )
    }

    #[test]
    fn an_event_is_one_line() {
        let start = "2026-01-02T03:04:05.678Z  d1  temp/in";
        for (data, shown) in [
            ("", ""),
            (",\"data\":{\"a\":\n1}", "  {\"a\": 1}"),
            (r#","data_base64":"aGk=""#, "  hi"),
            (r#","data_base64":"GwA=""#, r"  \u{1b}\u{0}"),
            (r#","data_base64":"//8=""#, "  (2 bytes)"),
        ] {
            assert_eq!(readable(&event(data)).unwrap(), format!("{start}{shown}"));
        }
    }

    #[test]
    fn a_command_is_told_from_telemetry() {
        let line = readable(&event("").replace("io.drogue.telemetry.v1", "io.drogue.command.v1")).unwrap();
        assert!(line.ends_with("d1  command temp/in"), "{line}");
    }
}
