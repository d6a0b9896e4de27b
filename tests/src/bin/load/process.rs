//! The processes that are measured: found, read, started and ended.

use std::collections::HashSet;
use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::address::Loopback;
use crate::pace::now;

/// How long a server may take to start.
const STARTUP: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// Returns the resident memory of a process in KiB.
///
/// # Errors
/// Fails if there is no such process.
pub(crate) fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("there is no process {pid} to be measured"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.with_context(|| format!("/proc/{pid}/status has no VmRSS"))
}

/// Returns how long a process has been on a processor, all its threads together, to 10 ms.
///
/// # Errors
/// Fails if there is no such process.
pub(crate) fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    /// What Linux counts in, wherever it shows the time to programs.
    const TICK: Duration = Duration::from_millis(10);
    let file = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&file).with_context(|| format!("there is no process {pid}"))?;
    // Behind the name, which may have anything in it, user and system time are the twelfth and the thirteenth.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace().skip(11).take(2));
    let ticks = fields.and_then(|fields| fields.map(|field| field.parse::<u32>().ok()).sum::<Option<u32>>());
    Ok(TICK * ticks.with_context(|| format!("{file} does not say how long the process ran"))?)
}

/// Returns how long this process has been on a processor.
///
/// # Errors
/// Fails if the system does not say.
pub(crate) fn own_processor_time() -> anyhow::Result<Duration> {
    processor_time(std::process::id())
}

/// Finds the process that listens on an address.
///
/// # Errors
/// Fails if there is none, or it belongs to somebody else.
pub(crate) fn listening_on(address: Loopback) -> anyhow::Result<u32> {
    let sockets = listening_sockets(address.socket().port())?;
    for process in fs::read_dir("/proc")?.filter_map(Result::ok) {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Of other users' processes, and of those that end just now, nothing is seen.
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        if links.any(|link| sockets.contains(link.to_string_lossy().as_ref())) {
            return Ok(pid);
        }
    }
    bail!("no process of this user listens on {address}; say --pid")
}

/// Returns the listening sockets of a port, as links of a process name them.
fn listening_sockets(port: u16) -> anyhow::Result<HashSet<String>> {
    const LISTEN: &str = "0A";
    let tables =
        [fs::read_to_string("/proc/net/tcp")?, fs::read_to_string("/proc/net/tcp6").unwrap_or_default()];
    let suffix = format!(":{port:04X}");
    let sockets = tables.iter().flat_map(|table| table.lines()).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let matches = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == LISTEN;
        matches.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
    });
    Ok(sockets.collect())
}

/// A server that was started for a measurement and ends with it.
#[derive(Debug)]
pub(crate) struct Server {
    command: Command,
    child: Child,
    listens: Loopback,
}

impl Server {
    /// Starts a server and waits until it listens on `listens`.
    ///
    /// # Errors
    /// Fails if it does not.
    pub(crate) fn start(mut command: Command, listens: Loopback) -> anyhow::Result<Self> {
        if TcpStream::connect(listens.socket()).is_ok() {
            bail!("{listens} is in use");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let mut server = Self { command, child, listens };
        server.wait()?;
        Ok(server)
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the server without a warning, and starts it again without waiting for it.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = self.command.spawn()?;
        Ok(())
    }

    /// Waits until the server listens.
    ///
    /// # Errors
    /// Fails if it ends, or takes too long.
    fn wait(&mut self) -> anyhow::Result<()> {
        let deadline = now() + STARTUP;
        while TcpStream::connect(self.listens.socket()).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{:?} ended with {status} before it listened on {}", self.command, self.listens);
            }
            if now() > deadline {
                bail!("{:?} did not listen on {} within {STARTUP:?}", self.command, self.listens);
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to be done about a failure.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_processor_time() {
        let (before, start) = (own_processor_time().unwrap(), now());
        while own_processor_time().unwrap() < before + Duration::from_millis(20) {
            assert!(now() - start < Duration::from_secs(60), "this loop takes no time");
        }
    }

    #[test]
    fn a_listener_is_found_and_its_memory_read() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        assert_eq!(listening_on(address).unwrap(), std::process::id());
        assert!(resident_kib(std::process::id()).unwrap() > 100);
        drop(listener);
        assert!(listening_on(address).is_err());
    }
}
