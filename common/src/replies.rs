//! Replies of devices to commands: who may reply to which, and the seam to whoever knows what was sent to whom.

use std::time::Duration;

use bytes::Bytes;

use crate::BoxFuture;
use crate::error::ErrorKind;
use crate::event::OCTET_STREAM;
use crate::id::{CommandName, DeviceKey, EventId};
use crate::ingest::{Rejected, check_message};
use crate::outcome::{Reply, State, parse_status};
use crate::time::Timestamp;

/// The status of a reply that names none.
const OK: u16 = 200;

/// Knows which command was sent to which device, beyond the memory of one replica.
pub trait SentCommands: Send + Sync {
    /// Looks a command up. `None`: it is not known, or not known to have been given to a connection, be it that who
    /// keeps track has not yet read of it.
    ///
    /// # Errors
    /// Fails if that cannot be found out just now.
    fn sent(&self, command: &EventId) -> BoxFuture<'_, Result<Option<Sent>, StoreUnavailable>>;
}

/// Says that what was sent cannot be looked up just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store of commands is not available")]
pub struct StoreUnavailable;

/// A command that was given to a connection of its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The device.
    pub device: DeviceKey,
    /// What the command asks for.
    pub name: CommandName,
    /// How often it was given to a connection: 1 or more.
    pub attempt: u32,
    /// What became of it.
    pub state: State,
    /// Since when it is in that state.
    pub since: Timestamp,
}

impl Sent {
    /// Judges a reply that comes now. To what was delivered one may come for as long as `window`.
    ///
    /// # Errors
    /// Says why it comes too late.
    pub fn admit(&self, now: Timestamp, window: Duration) -> Result<(), ReplyRefused> {
        if !self.state.admits(State::Replied) {
            return Err(ReplyRefused::Settled(self.state));
        }
        if self.state == State::Delivered && now.saturating_since(self.since) > window {
            return Err(ReplyRefused::Late(window));
        }
        Ok(())
    }
}

/// Says why a device may not reply to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyRefused {
    /// The command is unknown, or another device's: whether it exists is not told.
    #[error("no such command was sent to this device")]
    NotSent,
    /// The command is in a state on which no reply follows.
    #[error("{}", settled(*.0))]
    Settled(State),
    /// The command was delivered too long ago.
    #[error("the command was delivered more than {0:?} ago (option --reply-window)")]
    Late(Duration),
    /// It cannot be found out whether the command was sent to this device.
    #[error("the command cannot be looked up, try again later: {0}")]
    Unavailable(#[from] StoreUnavailable),
}

fn settled(state: State) -> String {
    match state {
        State::Replied => "the command has a reply already".to_owned(),
        State::Accepted
        | State::Pending
        | State::Delivered
        | State::Undelivered
        | State::Expired
        | State::Cancelled
        | State::Superseded => format!("the command is {state}, no reply follows on that"),
    }
}

impl ReplyRefused {
    /// Returns the kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotSent => ErrorKind::NotFound,
            Self::Settled(_) | Self::Late(_) => ErrorKind::Conflict,
            Self::Unavailable(_) => ErrorKind::Unavailable,
        }
    }
}

impl Reply {
    /// Makes a reply of what a device sent. A status that was left out is 200.
    pub fn received(status: Option<u16>, content_type: Option<String>, payload: Bytes) -> Self {
        let content_type = content_type.unwrap_or_else(|| OCTET_STREAM.to_owned());
        Self { status: status.unwrap_or(OK), content_type, payload }
    }

    /// Checks the parts that devices fill in freely.
    ///
    /// # Errors
    /// Fails if the payload is longer than `max_payload` bytes or the content type cannot be carried.
    pub fn check(&self, max_payload: usize) -> Result<(), Rejected> {
        check_message(Some(&self.content_type), &self.payload, max_payload)
    }
}

/// Parses the status that a device gives its reply.
///
/// # Errors
/// Fails for anything but three digits, 100 to 599.
pub fn read_status(text: &str) -> Result<u16, Rejected> {
    parse_status(text).ok_or(Rejected::Status)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn judge(state: State, age: Duration) -> Result<(), ReplyRefused> {
        let since = Timestamp::from_millis(1_700_000_000_000);
        let sent = Sent {
            device: DeviceKey::from_bytes(b"default/d1").unwrap(),
            name: "set-temp".parse().unwrap(),
            attempt: 1,
            state,
            since,
        };
        sent.admit(since.saturating_add(age), DAY)
    }

    #[test]
    fn a_reply_follows_on_what_is_not_settled_or_delivered() {
        for open in [State::Accepted, State::Pending, State::Delivered] {
            assert_eq!(judge(open, DAY), Ok(()));
        }
        for end in [State::Replied, State::Undelivered, State::Expired, State::Cancelled, State::Superseded] {
            let refused = judge(end, Duration::ZERO).unwrap_err();
            assert_eq!((refused, refused.kind()), (ReplyRefused::Settled(end), ErrorKind::Conflict));
            let named = if end == State::Replied { "a reply already" } else { end.as_str() };
            assert!(refused.to_string().contains(named), "{refused}");
        }
    }

    #[test]
    fn only_so_long_after_delivery() {
        let later = DAY + Duration::from_millis(1);
        assert_eq!(judge(State::Delivered, later), Err(ReplyRefused::Late(DAY)));
        // What waits again has been sent, and may be answered as long as it waits.
        assert_eq!(judge(State::Pending, later), Ok(()));
    }

    #[test]
    fn what_a_device_leaves_out_is_filled_in() {
        let reply = Reply::received(None, None, Bytes::from_static(b"42"));
        assert_eq!((reply.status, reply.content_type.as_str()), (200, OCTET_STREAM));
        assert_eq!(reply.check(1), Err(Rejected::TooLarge { limit: 1 }));
        let broken = Reply::received(Some(500), Some("a\r\nb".to_owned()), Bytes::new());
        assert_eq!((broken.status, broken.check(1)), (500, Err(Rejected::ContentType)));
        assert_eq!((read_status("403"), read_status("99")), (Ok(403), Err(Rejected::Status)));
    }
}
