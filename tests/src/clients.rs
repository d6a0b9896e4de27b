//! Clients that nobody here wrote: whether this machine has them.

use std::process::{Command, Stdio};

pub use common::testing::skip;

/// Tells whether all `programs` are installed. Says visibly that `test` is skipped if one is not.
///
/// # Panics
/// Panics if one is missing and `DROGUE_TEST_REQUIRE` lists `clients`.
pub fn have(test: &str, programs: &[&str]) -> bool {
    match programs.iter().find(|program| !is_installed(program)) {
        None => true,
        Some(missing) => {
            skip(test, "clients", &format!("'{missing}' is not installed"));
            false
        }
    }
}

/// Tells whether a program is installed.
pub(crate) fn is_installed(program: &str) -> bool {
    let lookup = Command::new("sh")
        .args(["-c", "command -v \"$1\"", "sh", program])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    lookup.is_ok_and(|status| status.success())
}
