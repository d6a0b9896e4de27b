//! A device that is logged in.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::delivery::Delivery;
use super::devices::Protocol;
use super::error::ServiceError;
use super::meters::{self, Counting, TelemetryOutcome};
use super::shared::Shared;
use super::{new_event_id, publish};
use crate::auth::{AuthError, Login};
use crate::channel::{Channel, PublishError};
use crate::connections::{Capacity, Origin, Terms};
use crate::event::Event;
use crate::id::DeviceKey;
use crate::ingest::{Rejected, Telemetry, Ttd};
use crate::sessions::{End, Refused, SessionId};

/// A device that is logged in. Dropping it closes the session.
pub struct Session {
    shared: Arc<Shared>,
    protocol: Protocol,
    device: DeviceKey,
    id: SessionId,
    client: Option<Arc<str>>,
}

impl Session {
    pub(super) async fn log_in(
        shared: &Arc<Shared>,
        protocol: Protocol,
        login: &Login,
        client: Option<Arc<str>>,
    ) -> Result<Self, ServiceError> {
        let (device, id) = (login.device.clone(), SessionId(shared.next()));
        // Opened before the check, so that a change of the device between check and confirmation ends it.
        shared.sessions.of(device.as_str().as_bytes()).open(device.clone(), id, client.clone());
        let session = Self { shared: shared.clone(), protocol, device, id, client };
        shared.authenticator.authenticate(login).await?;
        let limit = shared.limits.max_device_connections;
        let confirmed =
            shared.sessions.of(session.device.as_str().as_bytes()).confirm(&session.device, id, limit);
        let taken_over = confirmed.map_err(|refused| match refused {
            Refused::Ended(End::Revoked) => AuthError::Denied.into(),
            Refused::Ended(end) => ServiceError::Ended(end),
            Refused::TooMany => ServiceError::TooManyConnections(limit),
        })?;
        taken_over.into_iter().for_each(Waker::wake);
        Ok(session)
    }

    /// Returns the device.
    pub fn device(&self) -> &DeviceKey {
        &self.device
    }

    /// Publishes telemetry, and counts what became of it; the future resolves once the channel has persisted it.
    ///
    /// Events take their place in the order when this is called. `ttd` is the wait that was granted.
    pub fn publish(
        &self,
        telemetry: Telemetry,
        ttd: Option<Ttd>,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send + use<> {
        self.publish_within(telemetry, ttd, self.shared.limits.publish_timeout)
    }

    fn publish_within(
        &self,
        telemetry: Telemetry,
        ttd: Option<Ttd>,
        limit: Duration,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send + use<> {
        let counting = Counting::new(self.protocol);
        let offered = self.offer_within(telemetry, ttd, limit);
        async move {
            let result = offered.await;
            counting.finish(result.as_ref().map(drop).map_err(ServiceError::kind).into());
            result
        }
    }

    /// Publishes telemetry like [`Session::publish`], uncounted: for an endpoint that tries again and says at the end,
    /// by [`Session::count`], what became of it.
    pub fn offer(
        &self,
        telemetry: Telemetry,
        ttd: Option<Ttd>,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send + use<> {
        self.offer_within(telemetry, ttd, self.shared.limits.publish_timeout)
    }

    fn offer_within(
        &self,
        telemetry: Telemetry,
        ttd: Option<Ttd>,
        limit: Duration,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send + use<> {
        let event = self.event_of(telemetry, ttd);
        let taken = event.map(|event| publish(&*self.shared.sink, Channel::Telemetry, event, limit));
        async move { Ok(taken?.await?) }
    }

    /// Counts what became of telemetry that did not go through [`Session::publish`].
    pub fn count(&self, outcome: TelemetryOutcome) {
        meters::telemetry(self.protocol, outcome);
    }

    /// Publishes telemetry and waits for a command until `ttd` has passed, the wait being registered first.
    ///
    /// Returns `None` if no command came. A command that comes before the channel's acknowledgement waits for it.
    ///
    /// # Errors
    /// Fails if the telemetry is not known to be persisted; a command that came meanwhile is then not delivered here.
    pub async fn exchange(&self, telemetry: Telemetry, ttd: Ttd) -> Result<Option<Delivery>, ServiceError> {
        let (connection, deadline) = self.begin_exchange(telemetry, ttd, Capacity::One).await?;
        tokio::select! {
            biased;
            delivery = connection.receive_until(deadline) => Ok(delivery),
            _ = self.ended() => Ok(None),
        }
    }

    /// Publishes telemetry and waits like [`Session::exchange`], but for as many commands as are pending, at most `most`.
    ///
    /// # Errors
    /// Fails like [`Session::exchange`].
    pub async fn exchange_batch(
        &self,
        telemetry: Telemetry,
        ttd: Ttd,
        most: u32,
    ) -> Result<Vec<Delivery>, ServiceError> {
        let (connection, deadline) = self.begin_exchange(telemetry, ttd, Capacity::Batch(most)).await?;
        tokio::select! {
            biased;
            deliveries = connection.receive_batch_until(deadline) => Ok(deliveries),
            _ = self.ended() => Ok(Vec::new()),
        }
    }

    /// Registers a wait, then publishes telemetry. Returns the wait and its end.
    async fn begin_exchange(
        &self,
        telemetry: Telemetry,
        ttd: Ttd,
        capacity: Capacity,
    ) -> Result<(Connection, Instant), ServiceError> {
        let start = self.shared.clock.instant();
        let deadline = start + ttd.duration();
        let terms = Terms { capacity, deadline: Some(deadline) };
        let refused = |error: &ServiceError| self.count(TelemetryOutcome::Failed(error.kind()));
        let connection = self.connect(terms).await.inspect_err(refused)?;
        // The record of the connection and the telemetry share the device's patience.
        let elapsed = self.shared.clock.instant().saturating_duration_since(start);
        let limit = self.shared.limits.publish_timeout.saturating_sub(elapsed);
        self.publish_within(telemetry, Some(ttd), limit).await?;
        Ok((connection, deadline))
    }

    /// Registers a connection, by which commands come from now on.
    ///
    /// It waits until the connection is recorded in the channel: from that place on the device's commands are for it, and
    /// a session of the same client on another replica has ended.
    ///
    /// # Errors
    /// Fails if the device has too many connections, or the channel does not take the record.
    pub async fn connect(&self, terms: Terms) -> Result<Connection, ServiceError> {
        let (shared, now) = (&self.shared, self.shared.clock.now());
        let left = terms.deadline.map(|deadline| deadline.saturating_duration_since(now.instant));
        let origin = Origin {
            session: self.id,
            client: self.client.clone(),
            protocol: self.protocol.as_str(),
            until: left.map(|left| now.wall.saturating_add(left)),
        };
        let connection = Connection::open(shared, self.device.clone(), terms, origin)?;
        // None: it is over already, and says so to whoever waits for commands.
        if let Some((_, acknowledged)) = shared.announce(&self.device, connection.handle()) {
            let limit = shared.limits.publish_timeout;
            let result = tokio::time::timeout(limit, acknowledged).await;
            result.unwrap_or(Err(PublishError::TimedOut(limit)))?;
        }
        Ok(connection)
    }

    /// Returns how an MQTT-like session takes commands: any number, with a bounded queue.
    pub fn queue(&self) -> Terms {
        Terms { capacity: Capacity::Queue(self.shared.limits.command_queue), deadline: None }
    }

    /// Resolves when the session must end, with the reason.
    pub async fn ended(&self) -> End {
        let key = self.device.as_str().as_bytes();
        poll_fn(|context| self.shared.sessions.of(key).poll_end(&self.device, self.id, context.waker())).await
    }

    fn event_of(&self, telemetry: Telemetry, ttd: Option<Ttd>) -> Result<Event, Rejected> {
        let received = self.shared.clock.wall();
        let max_payload = self.shared.limits.max_payload;
        let id = new_event_id(received);
        telemetry.into_event(id, self.device.clone(), received, ttd, max_payload)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.sessions.of(self.device.as_str().as_bytes()).close(&self.device, self.id);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("device", &self.device).field("id", &self.id).finish_non_exhaustive()
    }
}
