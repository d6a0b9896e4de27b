//! Clients that nobody here wrote: whether this machine has them.

use std::io::Write;
use std::process::{Command, Stdio};

/// The variable that lists what a test may not do without: `kafka`, `postgres`, `kube`, `clients`, by commas.
const REQUIRE: &str = "DROGUE_TEST_REQUIRE";

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

/// Says visibly that a test is skipped.
///
/// # Panics
/// Panics if `DROGUE_TEST_REQUIRE` lists `what`.
pub fn skip(test: &str, what: &str, because: &str) {
    assert!(!is_required(what), "{test}: {because}, and {REQUIRE} lists '{what}'");
    // Not by a macro: what the test runner captures is not visible.
    writeln!(std::io::stderr(), "skipped: {test} because {because}").expect("stderr is open");
}

#[expect(clippy::disallowed_methods, reason = "tests have no command line to take this from")]
fn is_required(what: &str) -> bool {
    std::env::var(REQUIRE).unwrap_or_default().split(',').any(|required| required.trim() == what)
}

fn is_installed(program: &str) -> bool {
    let lookup = Command::new("sh")
        .args(["-c", "command -v \"$1\"", "sh", program])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    lookup.is_ok_and(|status| status.success())
}
