//! What a device publishes, on its way to the channel.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::BoxFuture;
use common::error::ErrorKind;
use common::id::EventId;
use common::ingest::Telemetry;
use common::outcome::Reply;
use common::service::{MessageKind, ServiceError, Session};
use common::subject::Subject;
use ntex_mqtt::QoS;

use crate::packet::{Publish, Version};
use crate::reply::Goodbye;
use crate::topics::{Target, Topics};

/// The most bytes of one connection that wait for the channel before reading stops; one message may go beyond.
const MAX_BYTES_IN_FLIGHT: usize = 512 * 1024;

/// How long after the channel's queue was full it is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// The messages of a session between PUBLISH and PUBACK: telemetry, and replies to commands.
///
/// Messages are handed to the channel in the order in which they are decoded, and answered in that order. While the
/// channel's queue is full nothing more is read, and the message that was turned away is tried again until the time
/// limit of a publish. A channel that says so only later has taken what followed, and trying again would change the
/// order: then the device is told, or at QoS 0 the message is lost and counted.
pub(crate) struct MessageFlow {
    topics: Topics,
    in_flight: VecDeque<InFlight>,
    stalled: Option<Box<Stalled>>,
    bytes: usize,
    unacknowledged: u16,
    limit: u16,
}

/// A message that waits for the channel, or for the answers to those before it.
struct InFlight {
    receipt: Receipt,
    bytes: usize,
    state: State,
}

enum State {
    Waiting(BoxFuture<'static, Result<(), ServiceError>>),
    Done(Result<(), ErrorKind>),
}

/// What a device sent, and what it gets for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Receipt {
    /// Whether it is telemetry.
    pub(crate) kind: MessageKind,
    /// The quality of service that the device asked for.
    pub(crate) qos: QoS,
    /// The packet identifier, at QoS 1.
    pub(crate) id: Option<NonZeroU16>,
}

/// What a PUBLISH comes to.
#[derive(Clone)]
enum Message {
    Telemetry(Telemetry),
    Reply(EventId, Reply),
}

impl Message {
    fn of(target: Target, publish: Publish) -> Result<Self, ErrorKind> {
        match target {
            Target::Subject(subject) => Ok(Self::Telemetry(telemetry(subject, publish))),
            Target::Reply(topic) => topic.reply(publish).map(|(command, reply)| Self::Reply(command, reply)),
        }
    }

    /// Hands the message to the channel.
    fn offer(self, session: &Session) -> BoxFuture<'static, Result<(), ServiceError>> {
        match self {
            Self::Telemetry(telemetry) => Box::pin(session.offer(telemetry, None)),
            Self::Reply(command, reply) => Box::pin(session.offer_reply(command, reply)),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Telemetry(telemetry) => telemetry.payload.len(),
            Self::Reply(_, reply) => reply.payload.len(),
        }
    }
}

/// A message that the channel's full queue turned away.
struct Stalled {
    receipt: Receipt,
    message: Message,
    retry: Instant,
    deadline: Instant,
}

impl MessageFlow {
    /// Makes the flow of a session that may have `limit` messages in flight and set `aliases` topic aliases.
    pub(crate) fn new(limit: u16, aliases: u16) -> Self {
        Self {
            topics: Topics::new(aliases),
            in_flight: VecDeque::new(),
            stalled: None,
            bytes: 0,
            unacknowledged: 0,
            limit,
        }
    }

    /// Tells whether another packet may be read. MQTT 5 has Receive Maximum for what 3.1.1 leaves to back-pressure;
    /// there a device that exceeds it is told so, and QoS 0 has a window of its own size.
    pub(crate) fn has_room(&self, version: Version) -> bool {
        let limit = match version {
            Version::V3 => usize::from(self.limit),
            Version::V5 => 2 * usize::from(self.limit),
        };
        self.stalled.is_none() && self.in_flight.len() < limit && self.bytes < MAX_BYTES_IN_FLIGHT
    }

    /// Returns the messages for which the channel has yet to answer.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = MessageKind> {
        let stalled = self.stalled.iter().map(|stalled| stalled.receipt.kind);
        self.in_flight.iter().map(|message| message.receipt.kind).chain(stalled)
    }

    /// Tells whether the channel has yet to answer for messages that it was handed.
    pub(crate) fn awaits_answers(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Hands a message to the channel. What is known at once comes out of [`MessageFlow::poll_answer`] too.
    ///
    /// Breaks off if the message breaks the protocol.
    pub(crate) fn publish(
        &mut self,
        session: &Session,
        publish: Publish,
        now: Instant,
        timeout: Duration,
        context: &mut Context<'_>,
    ) -> ControlFlow<Goodbye> {
        let (qos, id) = (publish.qos, publish.id);
        match qos {
            QoS::ExactlyOnce => return ControlFlow::Break(Goodbye::QosNotSupported),
            QoS::AtLeastOnce if self.unacknowledged >= self.limit => {
                return ControlFlow::Break(Goodbye::ReceiveMaximumExceeded);
            }
            QoS::AtLeastOnce => self.unacknowledged += 1,
            QoS::AtMostOnce => {}
        }
        let (kind, message) = match self.topics.target(&publish.topic, publish.alias)? {
            Ok(target) => (target.kind(), Message::of(target, publish)),
            Err(invalid) => (invalid.kind, Err(invalid.error)),
        };
        let receipt = Receipt { kind, qos, id };
        match message {
            Ok(message) => self.submit(session, receipt, message, now, now + timeout, context),
            Err(error) => self.enqueue(receipt, 0, State::Done(Err(error))),
        }
        ControlFlow::Continue(())
    }

    fn submit(
        &mut self,
        session: &Session,
        receipt: Receipt,
        message: Message,
        now: Instant,
        deadline: Instant,
        context: &mut Context<'_>,
    ) {
        let bytes = message.bytes();
        let mut acknowledged = message.clone().offer(session);
        // Polled once, which starts its time limit; afterwards only the oldest is, since answers go out in order.
        let state = match acknowledged.as_mut().poll(context) {
            Poll::Pending => State::Waiting(acknowledged),
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::Overloaded && now < deadline => {
                let retry = deadline.min(now + RETRY);
                self.stalled = Some(Box::new(Stalled { receipt, message, retry, deadline }));
                return;
            }
            Poll::Ready(result) => State::Done(result.map_err(|error| error.kind())),
        };
        self.enqueue(receipt, bytes, state);
    }

    fn enqueue(&mut self, receipt: Receipt, bytes: usize, state: State) {
        self.bytes += bytes;
        self.in_flight.push_back(InFlight { receipt, bytes, state });
    }

    /// Tries the message again that the channel's full queue turned away, if it is time.
    pub(crate) fn retry(&mut self, session: &Session, now: Instant, context: &mut Context<'_>) {
        if let Some(stalled) = self.stalled.take_if(|stalled| stalled.retry <= now) {
            let Stalled { receipt, message, deadline, .. } = *stalled;
            self.submit(session, receipt, message, now, deadline, context);
        }
    }

    /// Returns when [`MessageFlow::retry`] has something to do.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.stalled.as_ref().map(|stalled| stalled.retry)
    }

    /// Returns what became of the oldest message.
    pub(crate) fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<(Receipt, Result<(), ErrorKind>)> {
        let Some(oldest) = self.in_flight.front_mut() else { return Poll::Pending };
        let result = match &mut oldest.state {
            State::Done(result) => *result,
            State::Waiting(acknowledged) => {
                let result = std::task::ready!(acknowledged.as_mut().poll(context));
                result.map_err(|error| error.kind())
            }
        };
        let receipt = oldest.receipt;
        self.bytes -= oldest.bytes;
        self.in_flight.pop_front();
        if receipt.id.is_some() {
            self.unacknowledged -= 1;
        }
        Poll::Ready((receipt, result))
    }
}

/// Makes telemetry of a PUBLISH or a will.
pub(crate) fn telemetry(subject: Subject, publish: Publish) -> Telemetry {
    let Publish { content_type, traceparent, payload, .. } = publish;
    Telemetry { subject, content_type, traceparent, payload }
}
