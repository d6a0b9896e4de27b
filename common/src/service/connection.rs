//! A way to hand commands to a device, and a command on its way.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::devices::Shared;
use super::error::ServiceError;
use super::meters;
use crate::command::Command;
use crate::connections::{Assigned, Effect, Taken, Terms};
use crate::id::{ConnectionId, DeviceKey};
use crate::outcome::{Outcome, Reason};

/// A registered connection. Dropping it ends it, and what it held goes to the device's next newest connection.
pub struct Connection {
    shared: Arc<Shared>,
    device: DeviceKey,
    id: ConnectionId,
}

impl Connection {
    pub(super) fn open(shared: &Arc<Shared>, device: DeviceKey, terms: Terms) -> Result<Self, ServiceError> {
        let limit = shared.limits.max_device_connections;
        let mut table = shared.connections.of(device.as_str().as_bytes());
        // Under the lock, so that ids rise within a device.
        let id = ConnectionId(shared.next());
        table
            .connect(device.clone(), id, terms, limit)
            .map_err(|_| ServiceError::TooManyConnections(limit))?;
        drop(table);
        Ok(Self { shared: shared.clone(), device, id })
    }

    /// Returns what identifies it on this replica.
    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Waits for the next command. Returns `None` when the connection is at its end.
    pub async fn receive(&self) -> Option<Delivery> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// Waits for the next command until `deadline`. A command that came before is returned even then.
    pub async fn receive_until(&self, deadline: Instant) -> Option<Delivery> {
        match tokio::time::timeout_at(deadline.into(), self.receive()).await {
            Ok(delivery) => delivery,
            Err(_) => {
                poll_fn(|context| match self.poll_receive(context) {
                    Poll::Ready(delivery) => Poll::Ready(delivery),
                    Poll::Pending => Poll::Ready(None),
                })
                .await
            }
        }
    }

    /// Polls for the next command, like [`Connection::receive`].
    pub fn poll_receive(&self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            let now = self.shared.clock.now();
            let mut table = self.shared.connections.of(self.device.as_str().as_bytes());
            let taken = table.take(&self.device, self.id, context.waker(), now);
            drop(table);
            match taken {
                Taken::Command(assigned) => {
                    let shared = self.shared.clone();
                    return Poll::Ready(Some(Delivery { shared, state: State::Held(assigned) }));
                }
                Taken::Expired(command) => {
                    self.shared.carry_out([Effect::Ended(command, Outcome::Expired)]);
                }
                Taken::Nothing => return Poll::Pending,
                Taken::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        let mut table = self.shared.connections.of(self.device.as_str().as_bytes());
        let effects = table.disconnect(&self.device, self.id, now);
        drop(table);
        self.shared.carry_out(effects);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("device", &self.device)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A command on its way to a device.
///
/// Until [`Delivery::begin`] nothing is written to the device, and dropping it gives the command back. From then on
/// dropping it says `connection-lost`, unless [`Delivery::finish`] says better.
pub struct Delivery {
    shared: Arc<Shared>,
    state: State,
}

enum State {
    Held(Assigned),
    Begun(Command),
    Done,
}

impl Delivery {
    /// Takes the last look before the command is written, and returns it. Returns `None` if it has lapsed.
    pub fn begin(&mut self) -> Option<Command> {
        let State::Held(assigned) = std::mem::replace(&mut self.state, State::Done) else { return None };
        if assigned.command.is_expired(self.shared.clock.wall()) {
            meters::outcome(&assigned.command, Outcome::Expired);
            return None;
        }
        let command = assigned.command.clone();
        // Before the first byte is written: the device may reply as soon as it has read the last.
        self.shared.replies.begun(&command, 1);
        self.state = State::Begun(assigned.command);
        Some(command)
    }

    /// Says what became of the command.
    pub fn finish(mut self, outcome: Outcome) {
        if let State::Begun(command) = std::mem::replace(&mut self.state, State::Done) {
            self.shared.replies.finished(&command, outcome);
            meters::outcome(&command, outcome);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Held(assigned) => {
                let now = self.shared.clock.now();
                let key = assigned.command.device.clone();
                let effect = self.shared.connections.of(key.as_str().as_bytes()).release(assigned, now);
                self.shared.carry_out([effect]);
            }
            State::Begun(command) => {
                let outcome = Outcome::Undelivered(Reason::ConnectionLost);
                self.shared.replies.finished(&command, outcome);
                meters::outcome(&command, outcome);
            }
            State::Done => {}
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}
