//! What every part of a process stands on: its clock, ids of its making, how it tries again, and its end.

mod retry;

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::connections::Now;
use crate::id::EventId;
use crate::time::Timestamp;

pub use retry::{Pauses, until_taken};
pub use tokio_util::sync::CancellationToken as Shutdown;

/// Makes a new event id: a UUIDv7 of the given time.
pub fn new_event_id(now: Timestamp) -> EventId {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    let time = uuid::Timestamp::from_unix(uuid::NoContext, millis / 1000, (millis % 1000) as u32 * 1_000_000);
    EventId::from_uuid(uuid::Uuid::new_v7(time))
}

/// Tells the time. Waits are measured on the monotonic clock, whatever the wall clock does.
#[derive(Clone)]
pub struct Clock {
    wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Clock {
    /// Makes a clock that reads the system's.
    pub fn system() -> Self {
        Self::with_wall(system_wall)
    }

    /// Makes a clock whose wall time is `wall`: for tests in which it jumps.
    pub fn with_wall(wall: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { wall: Arc::new(wall) }
    }

    /// Reads the wall clock.
    pub fn wall(&self) -> Timestamp {
        (self.wall)()
    }

    /// Reads the monotonic clock.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        Now { instant: self.instant(), wall: self.wall() }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn system_wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since_epoch.as_millis().try_into().unwrap_or(i64::MAX))
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
