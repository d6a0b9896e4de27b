//! Keeps the process on one core of the machine.

use std::fs;
use std::process::{self, Command};

use anyhow::{Context, ensure};

use crate::progress;

/// This process, with all its threads and those that they start, on one core until this is dropped.
///
/// It is done by `taskset` of util-linux: the call of the system needs unsafe code.
#[derive(Debug)]
pub(crate) struct Pinned {
    before: String,
}

impl Pinned {
    /// Keeps the process on a core.
    ///
    /// # Errors
    /// Fails if there is no `taskset`, or the process may not run on that core.
    pub(crate) fn to(core: usize) -> anyhow::Result<Self> {
        let pinned = Self { before: allowed()? };
        taskset(&core.to_string())?;
        Ok(pinned)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(error) = taskset(&self.before) {
            progress::say(&format!("the process stays on one core: {error:#}"));
        }
    }
}

fn taskset(cores: &str) -> anyhow::Result<()> {
    let mut command = Command::new("taskset");
    command.args(["--all-tasks", "--cpu-list", "--pid", cores, &process::id().to_string()]);
    let output = command.output().context("cannot start taskset (util-linux)")?;
    ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Returns the cores on which this thread may run, as `0-1`.
fn allowed() -> anyhow::Result<String> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    Ok(line.context("the system does not say on which cores this may run")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_kept_on_one_core_and_let_go() {
        let before = allowed().unwrap();
        let first = before.split([',', '-']).next().unwrap().to_owned();
        let pinned = Pinned::to(first.parse().unwrap()).unwrap();
        assert_eq!(allowed().unwrap(), first);
        drop(pinned);
        assert_eq!(allowed().unwrap(), before);
    }
}
