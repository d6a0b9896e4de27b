//! The operator's token.

use std::path::PathBuf;

use clap::Args;

use super::{BadConfiguration, secret};
use crate::auth::Secret;
use crate::registry::MIN_ADMIN_TOKEN;

const OPTION: &str = "--admin-token-file";
/// The environment variable of the token itself.
const VARIABLE: &str = "DROGUE_ADMIN_TOKEN";

/// Where the operator's token comes from.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Operator")]
pub struct AdminTokenOptions {
    /// A file with the operator's token, 32 characters or more; or give the token itself in DROGUE_ADMIN_TOKEN.
    #[arg(long, env = "DROGUE_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
}

impl AdminTokenOptions {
    /// Reads the token; `None` if none was given.
    ///
    /// # Errors
    /// Fails if the token is too short or its file cannot be read.
    pub fn read(&self) -> Result<Option<Secret>, BadConfiguration> {
        let origin = if self.admin_token_file.is_some() { OPTION } else { VARIABLE };
        let token = secret::read(self.admin_token_file.as_deref(), OPTION, VARIABLE)?;
        token.map(|token| check(token.expose(), origin)).transpose()
    }
}

fn check(text: &str, origin: &str) -> Result<Secret, BadConfiguration> {
    if text.chars().count() < MIN_ADMIN_TOKEN {
        return Err(BadConfiguration(format!(
            "the operator's token must have {MIN_ADMIN_TOKEN} or more characters ({origin})"
        )));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let reason = "the operator's token must be printable ASCII without spaces";
        return Err(BadConfiguration(format!("{reason} ({origin})")));
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_token_is_read_from_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let read = || AdminTokenOptions { admin_token_file: Some(path.clone()) }.read();
        assert!(read().unwrap_err().to_string().contains("--admin-token-file"));
        fs::write(&path, format!("{}\n", "x".repeat(32))).unwrap();
        assert_eq!(read().unwrap(), Some(Secret::new("x".repeat(32))));
        for bad in ["x".repeat(31), format!("{} {}", "x".repeat(20), "x".repeat(20))] {
            fs::write(&path, &bad).unwrap();
            let error = read().unwrap_err().to_string();
            assert!(error.contains("--admin-token-file") && !error.contains(&bad), "{error}");
        }
    }
}
