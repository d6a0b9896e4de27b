//! Secrets that a process is given: by a file or by the environment, never on the command line, which others can see.

use std::fs;
use std::path::Path;

use super::BadConfiguration;
use crate::auth::Secret;

/// Reads a secret from its file, or else from the environment variable; `None` if neither was given.
///
/// White space around it is cut off. `option` names the file in errors.
///
/// # Errors
/// Fails if the file cannot be read.
pub(super) fn read(
    file: Option<&Path>,
    option: &str,
    variable: &str,
) -> Result<Option<Secret>, BadConfiguration> {
    let Some(path) = file else { return Ok(from_environment(variable)) };
    let text = fs::read_to_string(path).map_err(|error| {
        BadConfiguration(format!("cannot read {} (option {option}): {error}", path.display()))
    })?;
    Ok(Some(Secret::new(text.trim())))
}

#[expect(
    clippy::disallowed_methods,
    reason = "as an option of clap it could be given on the command line too"
)]
fn from_environment(variable: &str) -> Option<Secret> {
    std::env::var(variable).ok().map(|text| Secret::new(text.trim()))
}
