//! A process that a test owns.

use std::process::{Child, Command, ExitStatus, Stdio};

use crate::process::{self, Signal};
use crate::wait::eventually;

/// A process that a test owns. It is killed when this is dropped, and when the test process is gone, however it went.
#[derive(Debug)]
pub struct Daemon {
    process: Child,
    reaper: Child,
}

impl Daemon {
    /// Starts a process without standard input.
    ///
    /// # Panics
    /// Panics if it cannot be started.
    pub fn spawn(command: &mut Command) -> Self {
        let process = command.stdin(Stdio::null()).spawn().expect("the program can be run");
        let reaper = reaper_of(&process);
        Self { process, reaper }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// Panics if the process is not there.
    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Returns the status of the process if it has ended.
    ///
    /// # Panics
    /// Panics if the system does not tell.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("it is a child")
    }

    /// Ends the process at once, as a crash does.
    pub fn kill(&mut self) {
        // It may have ended by itself: then there is nothing to kill, and its status is kept.
        drop(self.process.kill());
        drop(self.process.wait());
        drop(self.reaper.kill());
        drop(self.reaper.wait());
    }

    /// Waits until the process has ended by itself and returns its status.
    ///
    /// # Panics
    /// Panics if it does not end.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the process ends", || {
            let status = self.status();
            async move { status }
        })
        .await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a process that kills the other when this test process is gone.
fn reaper_of(process: &Child) -> Child {
    let script = format!("read -r _; kill -9 {} 2>/dev/null", process.id());
    Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().expect("sh starts")
}
