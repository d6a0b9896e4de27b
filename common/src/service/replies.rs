//! Replies of devices: this replica's memory of the commands that it wrote to them, and the way of a reply.
//!
//! Most devices reply where they got the command, and at once: then it is known here. Else who keeps track of commands
//! is asked. Of replies to the same command at the same time each waits for its turn, and the first that the channel
//! takes counts; one whose device has gone, or that failed, leaves its turn to the next.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use moka::ops::compute::Op;
use moka::sync::Cache;
use tokio::sync::Semaphore;

use super::error::ServiceError;
use super::meters::{Counting, MessageKind};
use super::session::Session;
use super::shared::Shared;
use crate::channel::{Channel, PublishError};
use crate::command::Command;
use crate::id::{CommandName, DeviceKey, EventId};
use crate::outcome::{Outcome, Reply, State, Transition};
use crate::replies::{ReplyRefused, Sent, SentCommands};

/// How many commands are remembered.
const CAPACITY: u64 = 100_000;

/// The longest time for which they are.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The pauses, in milliseconds, after which a command that is not known is asked for again: whoever keeps track may lag
/// behind the device, by a second at most.
const PAUSES: [u64; 5] = [50, 100, 200, 300, 350];

/// The commands that devices may reply to, as far as this replica remembers.
pub(super) struct Replies {
    known: Cache<(DeviceKey, EventId), Arc<Known>>,
    window: Duration,
    sent: Arc<dyn SentCommands>,
}

/// A command that a device was sent.
struct Known {
    name: CommandName,
    attempt: AtomicU32,
    /// Has one permit, which a reply holds while it is under way; closed once no reply may follow.
    turn: Semaphore,
    end: OnceLock<State>,
}

impl Known {
    fn new(name: CommandName, attempt: u32) -> Arc<Self> {
        let (attempt, end) = (AtomicU32::new(attempt), OnceLock::new());
        Arc::new(Self { name, attempt, turn: Semaphore::new(1), end })
    }

    /// Notes the state on which no reply follows. Of two the first counts.
    fn end(&self, state: State) {
        self.end.get_or_init(|| state);
        self.turn.close();
    }

    fn refusal(&self) -> ReplyRefused {
        ReplyRefused::Settled(*self.end.get().unwrap_or(&State::Replied))
    }
}

impl Replies {
    /// Remembers nothing yet. To what was delivered a reply may come for as long as `window`.
    pub(super) fn new(sent: Arc<dyn SentCommands>, window: Duration) -> Self {
        let known = Cache::builder().max_capacity(CAPACITY).time_to_live(window.min(LONGEST)).build();
        Self { known, window, sent }
    }

    /// Notes that a command is about to be written to its device. One that is given to it again keeps its end.
    pub(super) fn begun(&self, command: &Command, attempt: u32) {
        let entry = self.known.entry((command.device.clone(), command.id.clone()));
        entry.and_compute_with(|known| match known {
            Some(known) => {
                known.value().attempt.fetch_max(attempt, Ordering::Relaxed);
                // Put anew, so that its time begins again.
                Op::Put(known.into_value())
            }
            None => Op::Put(Known::new(command.name.clone(), attempt)),
        });
    }

    /// Notes what became of a command that had begun. One that is kept waits again, whatever became of an attempt.
    pub(super) fn finished(&self, command: &Command, outcome: Outcome) {
        match outcome {
            Outcome::Undelivered(_) if !command.kept => {
                if let Some(known) = self.known.get(&(command.device.clone(), command.id.clone())) {
                    known.end(State::Undelivered);
                }
            }
            Outcome::Undelivered(_) | Outcome::Delivered(_) | Outcome::Expired => {}
        }
    }

    /// Finds a command that this device was sent.
    async fn find(
        &self,
        shared: &Shared,
        device: &DeviceKey,
        id: &EventId,
    ) -> Result<Arc<Known>, ReplyRefused> {
        let key = (device.clone(), id.clone());
        if let Some(known) = self.known.get(&key) {
            return Ok(known);
        }
        let sent = self.ask(device, id).await?;
        sent.admit(shared.clock.wall(), self.window)?;
        Ok(self.known.get_with(key, || Known::new(sent.name, sent.attempt)))
    }

    /// Asks for a command until it is known. Another device's is as unknown, and takes as long.
    async fn ask(&self, device: &DeviceKey, id: &EventId) -> Result<Sent, ReplyRefused> {
        let mut pauses = PAUSES.into_iter().map(Duration::from_millis);
        loop {
            match self.sent.sent(id).await?.filter(|sent| sent.device == *device) {
                Some(sent) => return Ok(sent),
                None => tokio::time::sleep(pauses.next().ok_or(ReplyRefused::NotSent)?).await,
            }
        }
    }
}

impl Session {
    /// Publishes the reply of the device to a command, and counts what became of it; the future resolves once the channel
    /// has persisted it.
    pub fn reply(
        &self,
        command: EventId,
        reply: Reply,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send + use<> {
        Counting::new(self.protocol, MessageKind::Reply).over(self.offer_reply(command, reply))
    }

    /// Publishes a reply like [`Session::reply`], uncounted: for an endpoint that tries again and says at the end, by
    /// [`Session::count`], what became of it.
    pub fn offer_reply(
        &self,
        command: EventId,
        reply: Reply,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send + use<> {
        let (shared, device) = (self.shared.clone(), self.device.clone());
        let limit = shared.limits.publish_timeout;
        async move {
            let taken = tokio::time::timeout(limit, take(&shared, device, command, reply)).await;
            taken.unwrap_or(Err(PublishError::TimedOut(limit).into()))
        }
    }
}

async fn take(
    shared: &Shared,
    device: DeviceKey,
    command: EventId,
    reply: Reply,
) -> Result<(), ServiceError> {
    reply.check(shared.limits.max_payload)?;
    let known = shared.replies.find(shared, &device, &command).await?;
    // Given back when it is dropped, whatever becomes of this reply.
    let _turn = known.turn.acquire().await.map_err(|_closed| known.refusal())?;
    let transition = Transition {
        cause: command.clone(),
        command,
        device,
        name: known.name.clone(),
        attempt: known.attempt.load(Ordering::Relaxed),
        state: State::Replied,
        reason: None,
        confirmation: None,
        time: shared.clock.wall(),
        reply: Some(reply),
    };
    shared.sink.publish(Channel::Outcomes, transition.into_event()).await?;
    known.end(State::Replied);
    Ok(())
}
