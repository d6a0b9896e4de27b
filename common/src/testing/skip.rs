//! What a test may need and a machine may lack. A test that is skipped says so.

use std::io::Write;

/// The variable that lists what a test may not do without: `kafka`, `postgres`, `kube`, `clients`, by commas.
const REQUIRE: &str = "DROGUE_TEST_REQUIRE";
/// The variable that names a PostgreSQL server, by a role that may create databases.
const DATABASE_URL: &str = "DATABASE_URL";

/// Says visibly that a test is skipped.
///
/// # Panics
/// Panics if `DROGUE_TEST_REQUIRE` lists `what`.
pub fn skip(test: &str, what: &str, because: &str) {
    assert!(!is_required(what), "{test}: {because}, and {REQUIRE} lists '{what}'");
    // Not by a macro: what the test runner captures is not visible.
    writeln!(std::io::stderr(), "skipped: {test} because {because}").expect("stderr is open");
}

/// Returns the address of the PostgreSQL server for tests. Says visibly that `test` is skipped if there is none.
///
/// # Panics
/// Panics if there is none and `DROGUE_TEST_REQUIRE` lists `postgres`.
pub fn postgres(test: &str) -> Option<String> {
    let address = variable(DATABASE_URL);
    if address.is_none() {
        skip(test, "postgres", &format!("{DATABASE_URL} names no PostgreSQL server"));
    }
    address
}

fn is_required(what: &str) -> bool {
    variable(REQUIRE).unwrap_or_default().split(',').any(|required| required.trim() == what)
}

#[expect(clippy::disallowed_methods, reason = "tests have no command line to take this from")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
