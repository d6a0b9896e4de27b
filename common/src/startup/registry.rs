//! The choice of the registry's store.

use std::path::Path;

use clap::Args;

use super::BadConfiguration;
use crate::auth::Secret;
use crate::error::ErrorKind;
use crate::registry::{self, Registry, sqlite_url};
use crate::service::Clock;

/// Where applications, devices and tokens are kept.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Registry")]
pub struct RegistryOptions {
    /// The store of applications, devices and tokens: sqlite://PATH, made when missing.
    #[arg(long, env = "DROGUE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// How many logins may wait for the check of their password; further ones are told to try again later.
    #[arg(
        long,
        env = "DROGUE_MAX_PENDING_LOGINS",
        value_name = "COUNT",
        default_value = "10000",
        value_parser = super::limits::at_least_1
    )]
    pub max_pending_logins: usize,
}

impl RegistryOptions {
    /// Chooses the file, unless a store was chosen already.
    pub fn or_file(&self, file: &Path) -> Self {
        let url = self.database_url.clone().unwrap_or_else(|| sqlite_url(file));
        Self { database_url: Some(url), ..self.clone() }
    }

    /// Checks the form of the store's address. It is not repeated in the error: there may be a password in it.
    ///
    /// # Errors
    /// Says what an address looks like.
    pub fn check(&self) -> Result<(), BadConfiguration> {
        if self.database_url.as_deref().is_none_or(is_sqlite) {
            return Ok(());
        }
        let reason =
            "the registry's address must be sqlite://PATH, as sqlite:///var/lib/drogue/registry.sqlite";
        Err(BadConfiguration(format!("{reason} (option --database-url)")))
    }
}

fn is_sqlite(url: &str) -> bool {
    url.strip_prefix("sqlite:").is_some_and(|path| !path.trim_start_matches('/').is_empty())
}

/// Opens the chosen registry.
///
/// # Errors
/// Fails if none was chosen, or says why it cannot be opened.
pub async fn open_registry(
    options: &RegistryOptions,
    admin_token: Option<Secret>,
    clock: Clock,
) -> anyhow::Result<Registry> {
    let Some(url) = &options.database_url else {
        return Err(BadConfiguration("no registry was chosen (option --database-url)".to_owned()).into());
    };
    let settings = registry::RegistrySettings {
        admin_token,
        max_pending_logins: options.max_pending_logins,
        clock,
        ..registry::RegistrySettings::default()
    };
    let opened = Registry::open(url, settings).await;
    opened.map_err(|error| {
        let is_bad = error.kind() == ErrorKind::Invalid;
        if is_bad { BadConfiguration(error.to_string()).into() } else { error.into() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_file_of_sqlite() {
        let check =
            |url: &str| RegistryOptions { database_url: Some(url.to_owned()), max_pending_logins: 1 }.check();
        for good in ["sqlite://registry.sqlite", "sqlite:///data/registry.sqlite"] {
            assert_eq!(check(good), Ok(()));
        }
        for bad in ["registry.sqlite", "sqlite://", "mysql://user:hunter2@host/db"] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.contains("--database-url") && !error.contains("hunter2"), "{error}");
        }
    }
}
