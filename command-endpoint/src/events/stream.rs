//! The response of a stream: messages as they come, signs of life in between, and the reasons to end.

use std::time::Duration;

use bytes::Bytes;
use common::channel::{Start, Subscription};
use common::id::AppId;
use common::registry::Scope;
use common::service::Shutdown;
use metrics::{Gauge, gauge};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::filter::Filter;
use super::frame;
use super::pipe::{Reader, pipe};
use super::tail::{PositionRequest, Tail};
use crate::Api;
use crate::access::Access;
use crate::reply::ApiError;

/// How often a client gets a sign of life; at least every 15 s is promised.
const BEAT: Duration = Duration::from_secs(10);
/// How often the token is looked at: a stream ends within 2 s of its revocation.
const CHECK: Duration = Duration::from_secs(1);
/// Bytes of messages that wait for a client that takes them slowly.
const CAPACITY: usize = 256 * 1024;

/// A client's stream of events. Dropping it ends its subscription.
pub(super) struct EventStream {
    // Dropped before the subscription: it frees a handler that waits for room.
    reader: Reader,
    _subscription: Subscription,
    first: Option<Bytes>,
    asked: PositionRequest,
    access: Access,
    application: AppId,
    beat: Interval,
    check: Interval,
    shutdown: Shutdown,
    has_ended: bool,
    _counted: Counted,
    _permit: OwnedSemaphorePermit,
}

impl EventStream {
    /// Opens a stream; its start is fixed when this resolves.
    pub(super) async fn open(
        api: &Api,
        access: Access,
        application: AppId,
        filter: Filter,
        start: Start,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, ApiError> {
        let (writer, reader) = pipe(CAPACITY);
        let asked = PositionRequest::default();
        let channels = filter.channels().to_vec();
        let tail = Tail::new(filter, writer, asked.clone());
        let subscription = api.backends.source.subscribe(&channels, start, Box::new(tail)).await?;
        Ok(Self {
            first: subscription.start().map(|start| frame::position(start).into()),
            reader,
            _subscription: subscription,
            asked,
            access,
            application,
            beat: every(BEAT),
            check: every(CHECK),
            shutdown: api.shutdown.clone(),
            has_ended: false,
            _counted: Counted::new(),
            _permit: permit,
        })
    }

    /// Waits for the next piece of the response.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            // In this order, so that a client which is behind gets nothing more after its token was revoked.
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Some(self.end("the server shuts down, come again")),
                _ = self.check.tick() => {
                    if let Err(error) = self.access.renew(&self.application, Scope::Events).await {
                        return Some(self.end(&error.to_string()));
                    }
                }
                _ = self.beat.tick() => {
                    self.asked.ask();
                    return Some(frame::comment("alive").into());
                }
                messages = self.reader.read() => return messages,
            }
        }
    }

    fn end(&mut self, reason: &str) -> Bytes {
        self.has_ended = true;
        frame::comment(&format!("the stream ends: {reason}")).into()
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Counts a stream for as long as it lives.
struct Counted(Gauge);

impl Counted {
    fn new() -> Self {
        let gauge = gauge!("drogue_event_streams");
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
