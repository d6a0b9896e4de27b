//! Telemetry on its way to the channel.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::BoxFuture;
use common::error::ErrorKind;
use common::ingest::{Rejected, Telemetry};
use common::service::{ServiceError, Session};
use common::subject::Subject;
use ntex::util::ByteString;
use ntex_mqtt::QoS;

use crate::packet::{Publish, Version};
use crate::reply::Goodbye;

/// The most bytes of one connection that wait for the channel before reading stops; one message may go beyond.
const MAX_BYTES_IN_FLIGHT: usize = 512 * 1024;

/// How long after the channel's queue was full it is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// The telemetry of a session between PUBLISH and PUBACK.
///
/// Messages are handed to the channel in the order in which they are decoded, and answered in that order. While the
/// channel's queue is full nothing more is read, and the message that was turned away is tried again until the time
/// limit of a publish. A channel that says so only later has taken what followed, and trying again would change the
/// order: then the device is told, or at QoS 0 the message is lost and counted.
pub(crate) struct TelemetryFlow {
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

/// What a device gets for a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Receipt {
    /// The quality of service that the device asked for.
    pub(crate) qos: QoS,
    /// The packet identifier, at QoS 1.
    pub(crate) id: Option<NonZeroU16>,
}

/// A message that the channel's full queue turned away.
struct Stalled {
    receipt: Receipt,
    telemetry: Telemetry,
    retry: Instant,
    deadline: Instant,
}

impl TelemetryFlow {
    /// Makes the flow of a session that may have `limit` messages in flight and set `aliases` topic aliases.
    pub(crate) fn new(limit: u16, aliases: u16) -> Self {
        Self {
            topics: Topics { last: None, aliases: Vec::new(), limit: aliases },
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

    /// Returns for how many messages the channel has yet to answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.in_flight.len() + usize::from(self.stalled.is_some())
    }

    /// Tells whether the channel has yet to answer for messages that it was handed.
    pub(crate) fn awaits_answers(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Hands a message to the channel. What is known at once comes out of [`TelemetryFlow::poll_answer`] too.
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
        let receipt = Receipt { qos: publish.qos, id: publish.id };
        match receipt.qos {
            QoS::ExactlyOnce => return ControlFlow::Break(Goodbye::QosNotSupported),
            QoS::AtLeastOnce if self.unacknowledged >= self.limit => {
                return ControlFlow::Break(Goodbye::ReceiveMaximumExceeded);
            }
            QoS::AtLeastOnce => self.unacknowledged += 1,
            QoS::AtMostOnce => {}
        }
        match self.topics.subject(&publish.topic, publish.alias)? {
            Ok(subject) => {
                let telemetry = telemetry(subject, publish);
                self.submit(session, receipt, telemetry, now, now + timeout, context);
            }
            Err(rejected) => self.enqueue(receipt, 0, State::Done(Err(rejected.kind()))),
        }
        ControlFlow::Continue(())
    }

    fn submit(
        &mut self,
        session: &Session,
        receipt: Receipt,
        telemetry: Telemetry,
        now: Instant,
        deadline: Instant,
        context: &mut Context<'_>,
    ) {
        let bytes = telemetry.payload.len();
        let mut acknowledged: BoxFuture<'static, _> = Box::pin(session.offer(telemetry.clone(), None));
        // Polled once, which starts its time limit; afterwards only the oldest is, since answers go out in order.
        let state = match acknowledged.as_mut().poll(context) {
            Poll::Pending => State::Waiting(acknowledged),
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::Overloaded && now < deadline => {
                let retry = deadline.min(now + RETRY);
                self.stalled = Some(Box::new(Stalled { receipt, telemetry, retry, deadline }));
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
            let Stalled { receipt, telemetry, deadline, .. } = *stalled;
            self.submit(session, receipt, telemetry, now, deadline, context);
        }
    }

    /// Returns when [`TelemetryFlow::retry`] has something to do.
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

/// The topics of a session, parsed.
struct Topics {
    /// The subject of the last message: devices repeat themselves.
    last: Option<Subject>,
    /// What each alias stands for. A topic that is no subject sets its alias too, so it is remembered as refused.
    aliases: Vec<(NonZeroU16, Result<Subject, Rejected>)>,
    limit: u16,
}

impl Topics {
    /// Returns the subject that a topic or its alias names (MQTT 5, section 3.3.2.3.4).
    fn subject(
        &mut self,
        topic: &ByteString,
        alias: Option<NonZeroU16>,
    ) -> ControlFlow<Goodbye, Result<Subject, Rejected>> {
        if alias.is_some_and(|alias| alias.get() > self.limit) {
            return ControlFlow::Break(Goodbye::TopicAliasInvalid);
        }
        if topic.is_empty()
            && let Some(alias) = alias
        {
            return match self.aliases.iter().find(|(known, _)| *known == alias) {
                Some((_, subject)) => ControlFlow::Continue(subject.clone()),
                None => ControlFlow::Break(Goodbye::TopicAliasInvalid),
            };
        }
        let subject = match &self.last {
            Some(last) if last.as_str() == topic.as_str() => Ok(last.clone()),
            _ => match topic.as_str().parse::<Subject>() {
                Ok(subject) => Ok(self.last.insert(subject).clone()),
                Err(invalid) => Err(invalid.into()),
            },
        };
        if let Some(alias) = alias {
            self.aliases.retain(|(known, _)| *known != alias);
            self.aliases.push((alias, subject.clone()));
        }
        ControlFlow::Continue(subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(number: u16) -> Option<NonZeroU16> {
        NonZeroU16::new(number)
    }

    #[test]
    fn an_alias_stands_for_the_topic_that_set_it_last() {
        let mut topics = Topics { last: None, aliases: Vec::new(), limit: 2 };
        let mut subject = |topic: &'static str, alias| match topics.subject(&topic.into(), alias) {
            ControlFlow::Continue(Ok(subject)) => Ok(subject.as_str().to_owned()),
            ControlFlow::Continue(Err(_)) => Ok("invalid".to_owned()),
            ControlFlow::Break(goodbye) => Err(goodbye),
        };
        assert_eq!(subject("", alias(1)), Err(Goodbye::TopicAliasInvalid));
        assert_eq!(subject("a", alias(1)), Ok("a".into()));
        assert_eq!(subject("b", None), Ok("b".into()));
        assert_eq!(subject("", alias(1)), Ok("a".into()));
        assert_eq!(subject("c", alias(1)), Ok("c".into()));
        assert_eq!(subject("", alias(1)), Ok("c".into()));
        assert_eq!(subject("d", alias(3)), Err(Goodbye::TopicAliasInvalid));
        assert_eq!(subject("", None), Ok("invalid".into()));
        assert_eq!(subject("", alias(2)), Err(Goodbye::TopicAliasInvalid));
        // A topic that is refused sets its alias all the same.
        for refused in ["#", "cmd/x"] {
            assert_eq!(subject(refused, alias(1)), Ok("invalid".into()), "{refused}");
            assert_eq!(subject("", alias(1)), Ok("invalid".into()), "{refused}");
        }
        assert_eq!(subject("c", alias(1)), Ok("c".into()));
        assert_eq!(subject("", alias(1)), Ok("c".into()));
    }
}
