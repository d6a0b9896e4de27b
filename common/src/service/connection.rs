//! A way to hand commands to a device.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::delivery::Delivery;
use super::error::ServiceError;
use super::shared::Shared;
use crate::connections::{Handle, Origin, Taken, Terms};
use crate::id::DeviceKey;
use crate::outcome::Outcome;

/// A registered connection. Dropping it ends it, and what it held is given back.
pub struct Connection {
    shared: Arc<Shared>,
    device: DeviceKey,
    handle: Handle,
}

impl Connection {
    pub(super) fn open(
        shared: &Arc<Shared>,
        device: DeviceKey,
        terms: Terms,
        origin: Origin,
    ) -> Result<Self, ServiceError> {
        let (handle, limit) = (Handle(shared.next()), shared.limits.max_device_connections);
        let mut table = shared.connections.of(device.as_str().as_bytes());
        table
            .connect(device.clone(), handle, terms, origin, limit)
            .map_err(|_| ServiceError::TooManyConnections(limit))?;
        drop(table);
        Ok(Self { shared: shared.clone(), device, handle })
    }

    /// Returns what identifies it on this replica.
    pub(super) fn handle(&self) -> Handle {
        self.handle
    }

    /// Waits for the next command. Returns `None` when the connection is at its end.
    pub async fn receive(&self) -> Option<Delivery> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// Waits for the next command until `deadline`. A command that came before is returned even then.
    pub async fn receive_until(&self, deadline: Instant) -> Option<Delivery> {
        match tokio::time::timeout_at(deadline.into(), self.receive()).await {
            Ok(delivery) => delivery,
            Err(_) => self.received().await,
        }
    }

    /// Waits for commands until `deadline`, and returns all that came together, in order. None at all: none came.
    pub async fn receive_batch_until(&self, deadline: Instant) -> Vec<Delivery> {
        let mut batch: Vec<_> = self.receive_until(deadline).await.into_iter().collect();
        while let Some(delivery) = self.received().await {
            batch.push(delivery);
        }
        batch
    }

    /// Returns a command that has come, without waiting for one.
    async fn received(&self) -> Option<Delivery> {
        poll_fn(|context| match self.poll_receive(context) {
            Poll::Ready(delivery) => Poll::Ready(delivery),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Polls for the next command, like [`Connection::receive`].
    pub fn poll_receive(&self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            let look = self.shared.look(&self.device);
            let mut table = self.shared.connections.of(self.device.as_str().as_bytes());
            let taken = table.take(&self.device, self.handle, context.waker(), look);
            // Under the lock, so that a lapse that is read meanwhile concerns the command.
            let lapses = self.shared.pulse.lapses();
            drop(table);
            match taken {
                Taken::Command(assigned) => {
                    return Poll::Ready(Some(Delivery::new(self.shared.clone(), assigned, lapses)));
                }
                Taken::Expired(assigned) => self.shared.ended(assigned, Outcome::Expired),
                Taken::Withheld => {
                    self.shared.pulse.withhold();
                    return Poll::Pending;
                }
                Taken::Nothing => return Poll::Pending,
                Taken::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.disconnect(&self.device, self.handle);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("device", &self.device)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
