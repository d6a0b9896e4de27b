//! Publishing: an event is POSTed to its channel, again and again within a device's patience.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::counter;
use reqwest::{Client, StatusCode};
use tokio::sync::{Semaphore, oneshot};
use url::Url;

use super::binding::Outgoing;
use super::echoes::Echoes;
use super::lanes::Lanes;
use crate::BoxFuture;
use crate::channel::{Channel, PublishError};
use crate::event::Event;
use crate::id::DeviceKey;
use crate::process::{Clock, Pauses, until_taken};

/// Bytes that may wait for the channels.
const QUEUE: usize = 16 << 20;
/// Requests to a channel at once.
const IN_FLIGHT: usize = 256;
const PAUSES: Pauses = Pauses { first: Duration::from_millis(50), longest: Duration::from_secs(1) };
/// An attempt may take so small a part of the patience: one that hears nothing is made again, perhaps elsewhere.
const ATTEMPTS: u32 = 3;
/// After how long an event that a channel took and that did not come is posted again.
const ECHO: Duration = Duration::from_secs(1);
/// For how long a token that was read from its file is used.
pub(super) const TOKEN_LIFETIME: Duration = Duration::from_secs(30);

/// Where a channel takes events.
#[derive(Debug, Clone)]
pub struct Target {
    /// The address that events are POSTed to.
    pub url: Url,
    /// A file with a bearer token for that address, renewed by somebody else.
    pub token_file: Option<PathBuf>,
}

/// How events leave.
pub(super) struct SinkSettings {
    pub(super) client: Client,
    pub(super) targets: HashMap<Channel, Target>,
    /// What comes back to this replica.
    pub(super) echoes: Arc<Echoes>,
    /// Extension attributes that every event gets.
    pub(super) overrides: BTreeMap<String, String>,
    /// How long a device waits for an acknowledgement.
    pub(super) publish_timeout: Duration,
    /// How long of that the channel may take.
    pub(super) patience: Duration,
    /// The largest event in bytes, attributes included.
    pub(super) max_event: usize,
    /// For how long a bearer token that was read from its file is used.
    pub(super) token_lifetime: Duration,
}

/// The way of events to the channels. Events of one device and channel leave one after another.
pub(super) struct Sink {
    lanes: Lanes<(Channel, DeviceKey)>,
    queue: Arc<Semaphore>,
    out: Arc<Out>,
}

impl Sink {
    pub(super) fn new(settings: SinkSettings, clock: Clock) -> Self {
        let in_flight = Channel::ALL.map(|_| Semaphore::new(IN_FLIGHT));
        let out = Out { settings, in_flight, tokens: Mutex::default(), clock };
        Self { lanes: Lanes::new(), queue: Arc::new(Semaphore::new(QUEUE)), out: Arc::new(out) }
    }

    /// See [`EventSink::publish`](crate::channel::EventSink::publish).
    pub(super) fn publish(
        &self,
        channel: Channel,
        event: Event,
    ) -> BoxFuture<'static, Result<(), PublishError>> {
        let acknowledged = self.enqueue(channel, event);
        Box::pin(async move {
            let ended = || Err(PublishError::Unavailable("the publisher has ended".to_owned()));
            acknowledged?.await.unwrap_or_else(|_| ended())
        })
    }

    fn enqueue(
        &self,
        channel: Channel,
        event: Event,
    ) -> Result<oneshot::Receiver<Result<(), PublishError>>, PublishError> {
        let outgoing = self.out.outgoing(&event)?;
        let size = u32::try_from(outgoing.size()).map_err(|_| PublishError::TooLarge)?;
        let room = self.queue.clone().try_acquire_many_owned(size);
        let room = room.map_err(|_| PublishError::Overloaded)?;
        let (acknowledge, acknowledged) = oneshot::channel();
        let (out, deadline) = (self.out.clone(), self.out.clock.instant() + self.out.settings.patience);
        let lane = (channel, event.device.clone());
        let job = async move {
            let result = out.deliver(channel, &event, outgoing, deadline).await;
            drop(room);
            // Nobody may be waiting for it.
            acknowledge.send(result).ok();
        };
        self.lanes.push(lane, Box::pin(job));
        Ok(acknowledged)
    }
}

/// What all lanes share.
struct Out {
    settings: SinkSettings,
    /// One for each channel: a broken one holds up no other.
    in_flight: [Semaphore; Channel::ALL.len()],
    /// Bearer tokens by their files, and when each was read.
    tokens: Mutex<HashMap<PathBuf, (Arc<str>, Instant)>>,
    clock: Clock,
}

impl Out {
    fn outgoing(&self, event: &Event) -> Result<Outgoing, PublishError> {
        let unfit = |error: cloudevents::message::Error| {
            PublishError::Unavailable(format!("the event cannot be written: {error}"))
        };
        let mut outgoing = Outgoing::of(event).map_err(unfit)?;
        for (name, value) in &self.settings.overrides {
            outgoing.set(name, value).map_err(unfit)?;
        }
        if outgoing.size() > self.settings.max_event { Err(PublishError::TooLarge) } else { Ok(outgoing) }
    }

    /// Posts an event until the channel has it, and has pushed it here if it is to; at most until the deadline.
    async fn deliver(
        &self,
        channel: Channel,
        event: &Event,
        outgoing: Outgoing,
        deadline: Instant,
    ) -> Result<(), PublishError> {
        let Some(target) = self.settings.targets.get(&channel) else {
            let unknown =
                format!("where {channel} takes events is not known (options --channel, --channel-url)");
            return Err(PublishError::Unavailable(unknown));
        };
        let latest = Mutex::new(None);
        let is_worth_another = |refusal: &Refusal| {
            if refusal.is_passing && !matches!(refusal.reason, PublishError::TimedOut(_)) {
                *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal.reason.clone());
            }
            if refusal.is_passing {
                counter!("drogue_knative_retries_total", "channel" => channel.as_str()).increment(1);
            }
            refusal.is_passing
        };
        let post = || self.post(channel, target, &outgoing);
        let posted = async {
            let mut echo = self.settings.echoes.expect(channel, event);
            loop {
                until_taken(post(), post, PAUSES, is_worth_another).await?;
                let Some(echo) = &mut echo else { return Ok(()) };
                if tokio::time::timeout(ECHO, echo.wait()).await.is_ok() {
                    return Ok(());
                }
                is_worth_another(&Refusal::silent(channel));
            }
        };
        match tokio::time::timeout_at(deadline.into(), posted).await {
            Ok(result) => result.map_err(|refusal: Refusal| refusal.reason),
            Err(_) => Err(latest
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner)
                .unwrap_or(PublishError::TimedOut(self.settings.publish_timeout))),
        }
    }

    async fn post(&self, channel: Channel, target: &Target, outgoing: &Outgoing) -> Result<(), Refusal> {
        let _permit = self.in_flight[channel as usize].acquire().await;
        let request =
            self.settings.client.post(target.url.clone()).timeout(self.settings.patience / ATTEMPTS);
        let mut request = request.headers(outgoing.headers.clone()).body(outgoing.body.clone());
        if let Some(file) = &target.token_file {
            let token = self.token(file).await.map_err(|error| {
                let reason = format!("the token in {} cannot be read: {error}", file.display());
                Refusal { is_passing: true, reason: PublishError::Unavailable(reason) }
            })?;
            request = request.bearer_auth(token);
        }
        match request.send().await {
            Ok(response) => judge(channel, response.status()),
            Err(error) if error.is_timeout() => {
                let reason = PublishError::TimedOut(self.settings.publish_timeout);
                Err(Refusal { is_passing: true, reason })
            }
            Err(error) => Err(Refusal {
                is_passing: !error.is_builder(),
                reason: PublishError::Unavailable(format!("{channel}: {}", cause(&error))),
            }),
        }
    }

    async fn token(&self, file: &PathBuf) -> std::io::Result<Arc<str>> {
        let now = self.clock.instant();
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(file).cloned();
        if let Some((token, read)) = known
            && now.duration_since(read) < self.settings.token_lifetime
        {
            return Ok(token);
        }
        let token: Arc<str> = tokio::fs::read_to_string(file).await?.trim().into();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(file.clone(), (token.clone(), now));
        Ok(token)
    }
}

/// Says why a channel did not take an event.
#[derive(Debug)]
struct Refusal {
    /// The same request may succeed in a moment.
    is_passing: bool,
    reason: PublishError,
}

impl Refusal {
    fn silent(channel: Channel) -> Self {
        let reason = format!("{channel} took the event, and it does not arrive at this replica");
        Self { is_passing: true, reason: PublishError::Unavailable(reason) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

/// Judges a channel's answer. What is worth another try is what Knative's own senders try again.
fn judge(channel: Channel, status: StatusCode) -> Result<(), Refusal> {
    if status.is_success() {
        return Ok(());
    }
    let reason = match status {
        StatusCode::PAYLOAD_TOO_LARGE => PublishError::TooLarge,
        status => PublishError::Unavailable(format!("{channel} answered {status}")),
    };
    let is_passing = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || matches!(
            status,
            StatusCode::NOT_FOUND | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        );
    Err(Refusal { is_passing, reason })
}

/// Says what is at the bottom of an error, without the address: that may have a secret in it.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_refusals_are_told_from_others() {
        let refused = |code: u16| judge(Channel::Commands, StatusCode::from_u16(code).unwrap()).unwrap_err();
        for code in [404, 408, 429, 500, 502, 503, 504] {
            assert!(refused(code).is_passing, "{code}");
        }
        for code in [301, 400, 401, 403, 405, 413, 415, 501] {
            assert!(!refused(code).is_passing, "{code}");
        }
        assert_eq!(refused(413).reason, PublishError::TooLarge);
        for code in [200, 202, 204] {
            assert!(judge(Channel::Commands, StatusCode::from_u16(code).unwrap()).is_ok());
        }
    }
}
