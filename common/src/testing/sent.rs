//! What was sent to devices, in memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::BoxFuture;
use crate::command::Command;
use crate::id::EventId;
use crate::outcome::State;
use crate::replies::{Sent, SentCommands, StoreUnavailable};
use crate::service::Clock;

/// Knows the commands that it was told of. Clones share one state.
#[derive(Clone, Default)]
pub struct MemorySentCommands {
    state: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    commands: HashMap<EventId, Sent>,
    asked: usize,
    failing: bool,
}

impl MemorySentCommands {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a command that its device was given once, or changes its state, now.
    pub fn set(&self, command: &Command, state: State) {
        let sent = Sent {
            device: command.device.clone(),
            name: command.name.clone(),
            attempt: 1,
            state,
            since: Clock::system().wall(),
        };
        self.lock().commands.insert(command.id.clone(), sent);
    }

    /// Fails whatever is asked from now on, or no more.
    pub fn set_failing(&self, failing: bool) {
        self.lock().failing = failing;
    }

    /// Returns how often it was asked.
    pub fn asked(&self) -> usize {
        self.lock().asked
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SentCommands for MemorySentCommands {
    fn sent(&self, command: &EventId) -> BoxFuture<'_, Result<Option<Sent>, StoreUnavailable>> {
        let mut told = self.lock();
        told.asked += 1;
        let found =
            if told.failing { Err(StoreUnavailable) } else { Ok(told.commands.get(command).cloned()) };
        drop(told);
        Box::pin(async { found })
    }
}

impl fmt::Debug for MemorySentCommands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemorySentCommands")
    }
}
