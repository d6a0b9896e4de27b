//! Stopping and starting parts of a cluster that a test was given.

use std::process::Command;

use common::testing::skip;
use tokio::sync::{Mutex, MutexGuard};

/// The variable that names a program, which is called with `stop` or `start` and the part: `dispatcher` or `apiserver`.
const VARIABLE: &str = "DROGUE_TEST_CONTROL";

/// Stops and starts parts of the cluster. While one test does, others that want to wait.
#[derive(Debug)]
pub struct Control {
    program: String,
    stopped: std::cell::Cell<Option<&'static str>>,
    _turn: MutexGuard<'static, ()>,
}

impl Control {
    /// Returns the control of the cluster that the environment names. Says visibly that `test` is skipped if it names none.
    ///
    /// # Panics
    /// Panics if it names none and `DROGUE_TEST_REQUIRE` lists `kube`.
    pub async fn given(test: &str) -> Option<Self> {
        static TURN: Mutex<()> = Mutex::const_new(());
        let Some(program) = variable() else {
            skip(
                test,
                "kube",
                &format!("{VARIABLE} names no program that stops and starts parts of the cluster"),
            );
            return None;
        };
        Some(Self { program, stopped: std::cell::Cell::default(), _turn: TURN.lock().await })
    }

    /// Stops a part, as a crash does.
    ///
    /// # Panics
    /// Panics if that fails.
    pub fn stop(&self, part: &'static str) {
        self.call("stop", part);
        self.stopped.set(Some(part));
    }

    /// Starts a part again, and returns when it serves.
    ///
    /// # Panics
    /// Panics if that fails.
    pub fn start(&self, part: &'static str) {
        self.stopped.set(None);
        self.call("start", part);
    }

    fn call(&self, what: &str, part: &str) {
        let status = Command::new(&self.program).args([what, part]).status();
        assert!(status.is_ok_and(|status| status.success()), "{VARIABLE} cannot {what} {part}");
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no command line to take this from")]
fn variable() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|value| !value.is_empty())
}

impl Drop for Control {
    /// Leaves no part stopped behind a test that failed.
    fn drop(&mut self) {
        if let Some(part) = self.stopped.take() {
            drop(Command::new(&self.program).args(["start", part]).status());
        }
    }
}
