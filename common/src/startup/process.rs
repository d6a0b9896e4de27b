//! The process around a server: signals, descriptors, exit codes.

use std::future::Future;
use std::process::{self, ExitCode};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use super::{LimitOptions, LogOptions};
use crate::service::Shutdown;

/// The exit code of a bad configuration: `EX_USAGE` of `sysexits.h`.
pub const EXIT_BAD_CONFIGURATION: u8 = 64;

/// The exit code of a second interrupt: 128 and the number of SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Says what in the configuration is bad.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadConfiguration(pub String);

/// Parses the options of the process. If they are bad, says so and exits with [`EXIT_BAD_CONFIGURATION`].
pub fn parse<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| {
        let code = if error.use_stderr() { i32::from(EXIT_BAD_CONFIGURATION) } else { 0 };
        if error.print().is_err() {
            process::exit(1);
        }
        process::exit(code)
    })
}

/// Says on standard error why the process ends, if there is a reason, and returns its exit code.
pub fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", explain(&error));
            if error.is::<BadConfiguration>() {
                ExitCode::from(EXIT_BAD_CONFIGURATION)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Writes an error and its causes, each unless what came before tells it already.
fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Runs a server until it ends, in a process that is set up for it.
///
/// `server` gets a token that is cancelled by the first SIGTERM or Ctrl-C, and then has the grace time of `limits` to
/// end; a second Ctrl-C ends the process at once.
pub fn serve<F>(logs: &LogOptions, limits: &LimitOptions, server: impl FnOnce(Shutdown) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    serve_within(logs, limits.shutdown_grace, server)
}

/// Runs a server as [`serve`] does; it has `grace` to end.
pub fn serve_within<F>(logs: &LogOptions, grace: Duration, server: impl FnOnce(Shutdown) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    report(set_up_and_run(logs, grace, server))
}

fn set_up_and_run<F>(
    logs: &LogOptions,
    grace: Duration,
    server: impl FnOnce(Shutdown) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    logs.init()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let result = runtime.block_on(async {
        let shutdown = cancelled_by_signals().context("cannot listen for signals")?;
        let mut server = std::pin::pin!(server(shutdown.clone()));
        tokio::select! {
            result = &mut server => return result,
            () = shutdown.cancelled() => {}
        }
        tokio::time::timeout(grace, server).await.unwrap_or_else(|_| {
            anyhow::bail!("the shutdown took longer than {grace:?} (option --shutdown-grace)")
        })
    });
    // What still runs on other threads is past its grace time.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Raises the soft limit of descriptors, one for each connection, to the hard one, and says what it got.
///
/// A server does this once its options are known to be good: nothing stands above what is said about bad ones.
pub fn raise_descriptor_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::info!(limit, "raised the limit of open files and connections"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files and connections"),
    }
}

fn cancelled_by_signals() -> std::io::Result<Shutdown> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = Shutdown::new();
    let first = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down; Ctrl-C once more ends at once");
        first.cancel();
        interrupt.recv().await;
        process::exit(EXIT_INTERRUPTED);
    });
    Ok(shutdown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let root = || anyhow::anyhow!("no such file");
        assert_eq!(explain(&root().context("cannot read x")), "cannot read x: no such file");
        assert_eq!(
            explain(&root().context("cannot read x: no such file; make it")),
            "cannot read x: no such file; make it"
        );
    }
}
