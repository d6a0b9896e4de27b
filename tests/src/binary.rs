//! The binaries under test.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

/// Returns the path of `drogue`; see [`endpoint`].
pub fn drogue() -> &'static Path {
    found("drogue", "server")
}

/// Returns the path of an endpoint's own binary, built if it is missing or older than its sources.
///
/// `cargo test --workspace` builds it along; `cargo test -p tests` does not, hence the second look.
///
/// # Panics
/// Panics if it cannot be built.
pub fn endpoint(name: &'static str) -> &'static Path {
    found(name, name)
}

fn found(name: &'static str, package: &str) -> &'static Path {
    static FOUND: OnceLock<Mutex<HashMap<&str, &Path>>> = OnceLock::new();
    let mut found = FOUND.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    found.entry(name).or_insert_with(|| {
        let path = profile_directory().join(name);
        if !is_fresh(&path) {
            build(name, package);
        }
        Box::leak(path.into_boxed_path())
    })
}

/// Returns a directory of this run, under the target directory, for what tests leave behind.
pub fn run_directory() -> &'static Path {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    RUN.get_or_init(|| {
        let runs = profile_directory().join("system-tests");
        remove_old(&runs);
        let path = runs.join(std::process::id().to_string());
        std::fs::create_dir_all(&path).expect("the target directory can be written");
        path
    })
}

/// Removes the directories of runs that are over: a failed one can be looked at until the next run.
fn remove_old(runs: &Path) {
    let entries = std::fs::read_dir(runs).into_iter().flatten().filter_map(Result::ok);
    let is_over = |entry: &std::fs::DirEntry| !Path::new("/proc").join(entry.file_name()).exists();
    for entry in entries.filter(is_over) {
        // Another run may be removing it, too.
        drop(std::fs::remove_dir_all(entry.path()));
    }
}

/// Programs are in `target/{profile}`, tests in `deps` below it.
fn profile_directory() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    let directory = program.parent().expect("a program is in a directory");
    let is_test = directory.ends_with("deps");
    directory.parent().filter(|_| is_test).unwrap_or(directory).to_owned()
}

/// Looks at the sources that Cargo noted beside the binary.
fn is_fresh(binary: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let Ok(built) = modified(binary) else { return false };
    let Ok(noted) = std::fs::read_to_string(binary.with_extension("d")) else { return false };
    let Some((_, sources)) = noted.split_once(": ") else { return false };
    let unchanged = |source: &str| modified(Path::new(source)).is_ok_and(|time: SystemTime| time <= built);
    sources.split_whitespace().all(unchanged)
}

fn build(name: &str, package: &str) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", package, "--bin", name]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile_directory().ends_with("release") {
        cargo.arg("--release");
    }
    if cfg!(feature = "kafka-tls") {
        cargo.arg(format!("--features={package}/kafka-tls"));
    }
    let status = cargo.status().expect("cargo can be run");
    assert!(status.success(), "{name} does not build");
}
