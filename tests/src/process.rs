//! What a process uses, as the kernel says it.

use std::process::Command;

/// A signal that a test sends.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    /// Asks to end.
    Terminate,
    /// Ends at once.
    Kill,
    /// As Ctrl-C does.
    Interrupt,
    /// Makes it stand still: connections stay open, and nothing answers.
    Stop,
    /// Lets it go on.
    Continue,
}

/// Sends a signal to a process.
///
/// # Panics
/// Panics if the process is not there.
pub fn signal(pid: u32, signal: Signal) {
    let name = match signal {
        Signal::Terminate => "-TERM",
        Signal::Kill => "-KILL",
        Signal::Interrupt => "-INT",
        Signal::Stop => "-STOP",
        Signal::Continue => "-CONT",
    };
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "no signal could be sent to process {pid}");
}

/// Returns the resident memory of a process, in bytes.
///
/// # Panics
/// Panics if the process is not there.
pub fn resident_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells VmRSS");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}

/// Returns the time that a process has computed, in clock ticks of 10 ms.
///
/// # Panics
/// Panics if the process is not there.
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name, in parentheses, may have spaces in it.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    let field = |index: usize| fields.split(' ').nth(index).and_then(|field| field.parse::<u64>().ok());
    field(11).zip(field(12)).map(|(user, system)| user + system).expect("utime and stime")
}

/// Counts the open descriptors of a process.
///
/// # Panics
/// Panics if the process is not there.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count()
}
