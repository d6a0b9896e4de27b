//! The stream of events, as an application follows it: server-sent events.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::api::{Answer, Api};
use crate::wait::within;

/// What to ask for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// `from`, if it is said.
    pub from: Option<&'static str>,
    /// The channels; none is all.
    pub channels: Vec<&'static str>,
    /// The device, if only one.
    pub device: Option<String>,
    /// `Last-Event-ID`.
    pub after: Option<String>,
}

impl Query {
    /// Asks for telemetry from now on.
    pub fn telemetry() -> Self {
        Self { channels: vec!["telemetry"], ..Self::default() }
    }

    /// Asks for what becomes of commands, from now on.
    pub fn outcomes() -> Self {
        Self { channels: vec!["outcomes"], ..Self::default() }
    }

    /// Asks for all that is kept.
    #[must_use]
    pub fn from_earliest(self) -> Self {
        Self { from: Some("earliest"), ..self }
    }

    /// Asks for what is behind a position.
    #[must_use]
    pub fn after(self, position: impl Into<String>) -> Self {
        Self { after: Some(position.into()), ..self }
    }

    /// Asks for one device.
    #[must_use]
    pub fn of(self, device: impl Into<String>) -> Self {
        Self { device: Some(device.into()), ..self }
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs: Vec<_> = self.channels.iter().map(|channel| ("channel", *channel)).collect();
        pairs.extend(self.from.map(|from| ("from", from)));
        pairs.extend(self.device.as_deref().map(|device| ("device", device)));
        pairs
    }
}

/// An event that was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its position: what to resume after.
    pub position: String,
    /// The CloudEvent.
    pub event: Value,
    /// The CloudEvent as it was sent.
    pub text: String,
}

impl Received {
    /// Returns an attribute.
    pub fn attribute(&self, name: &str) -> &str {
        self.event[name].as_str().unwrap_or_default()
    }
}

/// An open stream of events.
pub struct EventStream {
    bytes: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: Vec<u8>,
}

impl EventStream {
    /// Opens a stream. When this resolves, the start is fixed.
    ///
    /// # Errors
    /// Returns the answer if the API refuses.
    ///
    /// # Panics
    /// Panics if there is no answer.
    pub async fn open(api: &Api, app: &str, query: &Query) -> Result<Self, Answer> {
        let request = Self::request(api, app, query);
        let response = within("the head of the stream", request.send()).await.expect("the API answers");
        let status = response.status().as_u16();
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        if status != 200 {
            let headers = response.headers().clone();
            let body = response.bytes().await.expect("the answer is whole");
            return Err(Answer { status, content_type, headers, body });
        }
        assert_eq!(content_type.split(';').next(), Some("text/event-stream"));
        Ok(Self { bytes: response.bytes_stream().boxed(), buffer: Vec::new() })
    }

    /// Opens a stream, or returns `None` if nobody answers or the API refuses.
    pub async fn try_open(api: &Api, app: &str, query: &Query) -> Option<Self> {
        let response = Self::request(api, app, query).send().await.ok()?;
        let bytes = (response.status() == 200).then(|| response.bytes_stream().boxed())?;
        Some(Self { bytes, buffer: Vec::new() })
    }

    fn request(api: &Api, app: &str, query: &Query) -> RequestBuilder {
        let request = api.request(Method::GET, &format!("apps/{app}/events")).query(&query.pairs());
        match &query.after {
            Some(after) => request.header("last-event-id", after),
            None => request,
        }
    }

    /// Returns the next event.
    ///
    /// # Panics
    /// Panics if there is none in time, or the stream ends.
    pub async fn next(&mut self) -> Received {
        within("the next event", self.try_next()).await.expect("the stream goes on")
    }

    /// Returns the next `count` events.
    ///
    /// # Panics
    /// Panics if there are fewer in time.
    pub async fn take(&mut self, count: usize) -> Vec<Received> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            events.push(self.next().await);
        }
        events
    }

    /// Returns the next event, or `None` when the stream has ended.
    pub async fn try_next(&mut self) -> Option<Received> {
        loop {
            let block = self.next_block().await?;
            // A comment, or a position alone, is no event.
            if block.lines().any(|line| line.starts_with("data:")) {
                return Some(parse(&block));
            }
        }
    }

    /// Returns the next comment, as the server sends them to keep the stream alive, passing over events.
    ///
    /// # Panics
    /// Panics if the stream ends.
    pub async fn comment(&mut self) -> String {
        loop {
            let block = within("a comment", self.next_block()).await.expect("the stream goes on");
            if let Some(comment) = block.lines().find(|line| line.starts_with(':')) {
                return comment.to_owned();
            }
        }
    }

    /// Returns what is before the next empty line.
    async fn next_block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(String::from_utf8(block).expect("the stream is UTF-8").trim_end().to_owned());
            }
            let chunk = self.bytes.next().await?.ok()?;
            self.buffer.extend_from_slice(&chunk);
        }
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

fn parse(block: &str) -> Received {
    let field = |name: &str| {
        let values = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>().join("\n")
    };
    let text = field("data");
    let event = serde_json::from_str(&text).expect("each data is one CloudEvent as JSON");
    Received { position: field("id"), event, text }
}
