//! A device's session: one task that reads its packets, publishes its messages and writes its commands.

use std::future::poll_fn;
use std::num::NonZeroU16;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use common::BoxFuture;
use common::ingest::Telemetry;
use common::service::{self, Connection, MessageOutcome, ServiceError};
use common::sessions::End;
use ntex::io::{IoBoxed, RecvError};

use crate::closing::hang_up;
use crate::connection::{CommandFlow, Filters, Window, subscribe};
use crate::messages::MessageFlow;
use crate::packet::{Inbound, Outbound, Subscribe, Unsubscribe};
use crate::reply::{AfterFailure, Goodbye, Granted, after_failure};
use crate::server::Endpoint;
use crate::signal::Signal;
use crate::timer::Timer;
use crate::wire::Wire;

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The device sent DISCONNECT.
    Disconnected { will: bool },
    /// The connection is gone.
    Lost,
    /// The server ends it.
    Ended(Goodbye),
}

impl From<Goodbye> for Ending {
    fn from(goodbye: Goodbye) -> Self {
        Self::Ended(goodbye)
    }
}

/// What CONNECT settled.
pub(crate) struct Agreed {
    /// How long the device may be silent: one and a half times the keep-alive.
    pub(crate) silence: Duration,
    /// How many commands may be unacknowledged.
    pub(crate) window: usize,
    /// What is published when the connection is lost.
    pub(crate) will: Option<Box<Telemetry>>,
}

/// A session, from CONNACK to the end of its connection.
pub(crate) struct Session {
    endpoint: Arc<Endpoint>,
    device: Rc<service::Session>,
    io: IoBoxed,
    wire: Wire,
    messages: MessageFlow,
    /// Made with the first SUBSCRIBE: most devices only send.
    commands: Option<Box<CommandFlow>>,
    subscribing: Option<Box<Subscribing>>,
    signal: Arc<Signal>,
    timer: Timer,
    heard: Instant,
    agreed: Agreed,
}

/// A SUBSCRIBE whose connection is being registered. Nothing more is read meanwhile.
struct Subscribing {
    filters: Filters,
    id: NonZeroU16,
    granted: Vec<Granted>,
    connection: Pin<Box<dyn Future<Output = Result<Connection, ServiceError>>>>,
}

impl Session {
    pub(crate) fn new(
        endpoint: Arc<Endpoint>,
        device: service::Session,
        io: IoBoxed,
        wire: Wire,
        agreed: Agreed,
    ) -> Self {
        let heard = endpoint.service.clock().instant();
        let config = &endpoint.config;
        Self {
            device: Rc::new(device),
            messages: MessageFlow::new(config.mqtt_max_in_flight, config.mqtt_max_topic_aliases),
            commands: None,
            subscribing: None,
            signal: Signal::new(Waker::noop().clone()),
            timer: Timer::new(heard + agreed.silence),
            endpoint,
            io,
            wire,
            heard,
            agreed,
        }
    }

    /// Serves the device until its connection ends.
    pub(crate) async fn run(mut self: Box<Self>) {
        let ending = poll_fn(|context| match self.turn(context) {
            ControlFlow::Break(ending) => Poll::Ready(ending),
            ControlFlow::Continue(()) => Poll::Pending,
        })
        .await;
        self.close(ending).await;
    }

    /// Does whatever can be done now.
    fn turn(&mut self, context: &mut Context<'_>) -> ControlFlow<Ending> {
        if !self.signal.wakes(context.waker()) {
            self.signal = Signal::new(context.waker().clone());
        }
        if self.signal.take() {
            self.heed_end()?;
            if let Some(commands) = &mut self.commands {
                commands.notice();
            }
        }
        self.heed_time(context)?;
        self.answer(context)?;
        self.finish_subscribe(context)?;
        self.read(context)?;
        self.pump_commands(context)?;
        self.set_timer(context);
        ControlFlow::Continue(())
    }

    /// Ends the session if it was ended from elsewhere: taken over, revoked, or by the shutdown.
    fn heed_end(&mut self) -> ControlFlow<Ending> {
        let waker = Waker::from(self.signal.clone());
        let ended = pin!(self.device.ended());
        match ended.poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(end) => ControlFlow::Break(Goodbye::Session(end).into()),
            Poll::Pending => ControlFlow::Continue(()),
        }
    }

    /// Does what is due by the clock.
    fn heed_time(&mut self, context: &mut Context<'_>) -> ControlFlow<Ending> {
        if !self.timer.fired(context) {
            return ControlFlow::Continue(());
        }
        let now = self.endpoint.service.clock().instant();
        self.messages.retry(&self.device, now, context);
        if let Some(commands) = &mut self.commands {
            commands.expire(now).map_break(Ending::Ended)?;
        }
        // While the channel holds up reading, the device cannot be heard.
        if !self.messages.has_room(self.wire.version()) {
            self.heard = now;
        }
        if self.heard + self.agreed.silence <= now {
            return ControlFlow::Break(Goodbye::KeepAliveTimeout.into());
        }
        ControlFlow::Continue(())
    }

    /// Sets the timer for what is due next. It may fire too early: keep-alive moves with every packet, the timer not.
    fn set_timer(&mut self, context: &mut Context<'_>) {
        let commands = self.commands.as_ref().and_then(|commands| commands.next_deadline());
        let due = [self.messages.next_retry(), commands].into_iter().flatten();
        let due = due.fold(self.heard + self.agreed.silence, Instant::min);
        self.timer.set(due, context);
    }

    /// Answers the messages that the channel has taken, or not.
    fn answer(&mut self, context: &mut Context<'_>) -> ControlFlow<Ending> {
        while let Poll::Ready((receipt, result)) = self.messages.poll_answer(context) {
            self.device.count(receipt.kind, result.into());
            if let Err(kind) = result {
                match after_failure(self.wire.version(), receipt, kind) {
                    AfterFailure::Acknowledge => {}
                    AfterFailure::Nothing => continue,
                    AfterFailure::End(goodbye) => return ControlFlow::Break(goodbye.into()),
                }
            }
            if let Some(id) = receipt.id {
                self.send(Outbound::Acknowledge { id, kind: receipt.kind, result })?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Reads packets while there is room for what they bring.
    fn read(&mut self, context: &mut Context<'_>) -> ControlFlow<Ending> {
        let mut heard = false;
        while self.may_read() {
            match self.io.poll_recv_decode(&self.wire, context) {
                Ok(decoded) => {
                    let Some(packet) = decoded.item else { break };
                    if !heard {
                        heard = true;
                        self.heard = self.endpoint.service.clock().instant();
                    }
                    self.take(packet, context)?;
                }
                Err(RecvError::Decoder(goodbye)) => return ControlFlow::Break(goodbye.into()),
                Err(RecvError::PeerGone(_)) => return ControlFlow::Break(Ending::Lost),
                Err(RecvError::WriteBackpressure | RecvError::KeepAlive) => break,
            }
        }
        if !self.may_read() {
            // Woken when the connection closes, or when what was written has left.
            self.io.poll_dispatch(context);
            if self.io.is_closed() && !self.messages.awaits_answers() {
                return ControlFlow::Break(Ending::Lost);
            }
        }
        if self.io.is_wr_backpressure() && self.io.poll_flush(context, false).is_ready() {
            context.waker().wake_by_ref();
        }
        ControlFlow::Continue(())
    }

    fn may_read(&self) -> bool {
        self.messages.has_room(self.wire.version())
            && self.subscribing.is_none()
            && !self.io.is_wr_backpressure()
    }

    /// Takes one packet.
    fn take(&mut self, packet: Inbound, context: &mut Context<'_>) -> ControlFlow<Ending> {
        match packet {
            Inbound::Publish(publish) => {
                let timeout = self.endpoint.service.limits().publish_timeout;
                let taken = self.messages.publish(&self.device, publish, self.heard, timeout, context);
                taken.map_break(Ending::Ended)?;
                self.answer(context)
            }
            Inbound::Acknowledge { id, accepted } => {
                if let Some(commands) = &mut self.commands {
                    commands.acknowledge(id, accepted);
                }
                ControlFlow::Continue(())
            }
            Inbound::Subscribe(request) => self.subscribe(request, context),
            Inbound::Unsubscribe(request) => self.unsubscribe(request),
            Inbound::Ping => self.send(Outbound::Pong),
            Inbound::Disconnect { will } => ControlFlow::Break(Ending::Disconnected { will }),
            Inbound::Connect(_) => ControlFlow::Break(Goodbye::ProtocolError.into()),
            Inbound::Violation(goodbye) => ControlFlow::Break(goodbye.into()),
        }
    }

    fn subscribe(&mut self, request: Subscribe, context: &mut Context<'_>) -> ControlFlow<Ending> {
        if request.filters.is_empty() {
            return ControlFlow::Break(Goodbye::ProtocolError.into());
        }
        let held = self.commands.as_ref().map_or(Filters::default(), |commands| commands.filters());
        let (filters, granted) = subscribe(held, &request.filters, request.identified);
        let id = request.id;
        let connected = self.commands.as_ref().is_some_and(|commands| commands.is_connected());
        if connected || filters.is_empty() {
            if let Some(commands) = &mut self.commands {
                commands.set_filters(filters);
            }
            return self.send(Outbound::SubAck { id, granted });
        }
        let device = self.device.clone();
        let connection = Box::pin(async move { device.connect(device.queue()).await });
        self.subscribing = Some(Box::new(Subscribing { filters, id, granted, connection }));
        self.finish_subscribe(context)
    }

    /// Answers SUBSCRIBE once the connection is registered: from SUBACK on no command is missed.
    fn finish_subscribe(&mut self, context: &mut Context<'_>) -> ControlFlow<Ending> {
        let Some(subscribing) = &mut self.subscribing else { return ControlFlow::Continue(()) };
        let Poll::Ready(connected) = subscribing.connection.as_mut().poll(context) else {
            return ControlFlow::Continue(());
        };
        let Some(subscribing) = self.subscribing.take() else { return ControlFlow::Continue(()) };
        let Subscribing { filters, id, mut granted, .. } = *subscribing;
        match connected {
            Ok(connection) => {
                let window = self.window();
                let commands = self.commands.get_or_insert_with(|| Box::new(CommandFlow::new(window)));
                commands.set_filters(filters);
                commands.connect(connection);
            }
            Err(error) => {
                tracing::debug!(device = self.device.device().as_str(), %error, "subscription failed");
                let failed = Granted::Failed(error.kind());
                granted.iter_mut().filter(|code| matches!(code, Granted::At(_))).for_each(|c| *c = failed);
            }
        }
        self.send(Outbound::SubAck { id, granted })
    }

    fn unsubscribe(&mut self, request: Unsubscribe) -> ControlFlow<Ending> {
        if request.filters.is_empty() {
            return ControlFlow::Break(Goodbye::ProtocolError.into());
        }
        let mut filters = self.commands.as_ref().map_or(Filters::default(), |commands| commands.filters());
        let existed = request.filters.iter().map(|filter| filters.remove(filter)).collect();
        if let Some(commands) = &mut self.commands {
            commands.set_filters(filters);
        }
        self.send(Outbound::UnsubAck { id: request.id, existed })
    }

    fn window(&self) -> Window {
        Window { size: self.agreed.window, ack_timeout: self.endpoint.config.mqtt_ack_timeout }
    }

    fn pump_commands(&mut self, context: &mut Context<'_>) -> ControlFlow<Ending> {
        let Some(commands) = &mut self.commands else { return ControlFlow::Continue(()) };
        let waker = Waker::from(self.signal.clone());
        let clock = self.endpoint.service.clock();
        let mut on_command = Context::from_waker(&waker);
        commands.pump(&self.io, &self.wire, clock, context, &mut on_command).map_break(|()| Ending::Lost)
    }

    /// Writes a packet to the connection's buffer. Breaks off if the device takes no packet of that size.
    fn send(&self, packet: Outbound) -> ControlFlow<Ending> {
        match self.io.encode(packet, &self.wire) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(Goodbye::AnswerTooLarge.into()),
        }
    }

    /// Ends the session: gives commands back, says why, publishes the will.
    async fn close(mut self: Box<Self>, ending: Ending) {
        tracing::trace!(device = self.device.device().as_str(), ?ending, "session ends");
        self.commands = None;
        self.subscribing = None;
        if ending == Ending::Ended(Goodbye::Session(End::Shutdown)) {
            self.drain().await;
        }
        for kind in self.messages.unanswered() {
            self.device.count(kind, MessageOutcome::Abandoned);
        }
        let will = self.will(ending);
        let Self { endpoint, device, io, wire, .. } = *self;
        // From here on the device may have another session in the place of this one.
        drop(device);
        match ending {
            Ending::Lost => {}
            Ending::Disconnected { .. } => hang_up(&io, &wire, None).await,
            Ending::Ended(goodbye) => hang_up(&io, &wire, Some(Outbound::Disconnect(goodbye))).await,
        }
        drop(io);
        if let Some(published) = will
            && let Err(error) = published.await
        {
            tracing::debug!(%error, "will not published");
        }
        drop(endpoint);
    }

    /// Waits for the answers to the messages in flight, and sends them.
    async fn drain(&mut self) {
        // The rest of the grace time is for closing.
        let limit = self.endpoint.config.grace.mul_f64(0.8);
        let drained = poll_fn(|context| match self.answer(context) {
            ControlFlow::Continue(()) if self.messages.awaits_answers() => Poll::Pending,
            ControlFlow::Continue(()) | ControlFlow::Break(_) => Poll::Ready(()),
        });
        if tokio::time::timeout(limit, drained).await.is_err() {
            tracing::debug!("the channel did not acknowledge in time to tell the device");
        }
    }

    /// Publishes the will if the ending asks for it. A device that was shut out publishes nothing more.
    fn will(&mut self, ending: Ending) -> Option<BoxFuture<'static, Result<(), ServiceError>>> {
        let wanted = match ending {
            Ending::Disconnected { will } => will,
            Ending::Lost | Ending::Ended(_) => true,
        };
        let will = self.agreed.will.take().filter(|_| wanted)?;
        let ended = pin!(self.device.ended()).poll(&mut Context::from_waker(Waker::noop()));
        match ended {
            Poll::Ready(End::Revoked) => None,
            Poll::Ready(End::TakenOver | End::Shutdown | End::Interrupted) | Poll::Pending => {
                Some(Box::pin(self.device.publish(*will, None)))
            }
        }
    }
}
