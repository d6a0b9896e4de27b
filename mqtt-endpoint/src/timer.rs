//! The one timer of a session.

use std::pin::Pin;
use std::task::Context;
use std::time::Instant;

/// Fires when the next thing is due by the clock, or before.
///
/// What is due moves with every packet (keep-alive), the timer does not: it fires, and is set anew.
pub(crate) struct Timer {
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Timer {
    /// Makes a timer that fires at `at`.
    pub(crate) fn new(at: Instant) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(at.into())) }
    }

    /// Tells whether it has fired; it stays so until it is set again.
    pub(crate) fn fired(&mut self, context: &mut Context<'_>) -> bool {
        self.sleep.as_mut().poll(context).is_ready()
    }

    /// Makes the timer fire at `at` or before.
    pub(crate) fn set(&mut self, at: Instant, context: &mut Context<'_>) {
        if self.sleep.is_elapsed() || at < self.sleep.deadline().into_std() {
            self.sleep.as_mut().reset(at.into());
            if self.fired(context) {
                context.waker().wake_by_ref();
            }
        }
    }
}
