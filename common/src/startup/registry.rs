//! The choice of the registry's store.

use std::path::Path;

use anyhow::Context;
use clap::Args;

use super::BadConfiguration;
use crate::auth::Secret;
use crate::registry::{self, Registry, sqlite_url};
use crate::service::Clock;

/// Where applications, devices and tokens are kept.
#[derive(Debug, Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Registry")]
pub struct RegistryOptions {
    /// The store of applications, devices and tokens: sqlite://PATH, made when missing.
    #[arg(long, env = "DROGUE_DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = database_url)]
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

    /// Names the option that is missing for a choice, if one is.
    pub(super) fn missing(&self) -> Option<&'static str> {
        self.database_url.is_none().then_some("a registry (option --database-url)")
    }
}

fn database_url(text: &str) -> Result<String, String> {
    if text.strip_prefix("sqlite:").is_some_and(|path| !path.trim_start_matches('/').is_empty()) {
        Ok(text.to_owned())
    } else {
        Err("expected sqlite://PATH, as sqlite://registry.sqlite or sqlite:///var/lib/drogue/registry.sqlite"
            .to_owned())
    }
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
    let settings = registry::RegistryOptions {
        admin_token,
        max_pending_logins: options.max_pending_logins,
        clock,
        ..registry::RegistryOptions::default()
    };
    Registry::open(url, settings).await.context("option --database-url")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_file_of_sqlite() {
        for good in ["sqlite://registry.sqlite", "sqlite:///data/registry.sqlite", "sqlite::memory:"] {
            assert_eq!(database_url(good).as_deref(), Ok(good));
        }
        for bad in ["", "registry.sqlite", "sqlite://", "mysql://host/db"] {
            assert!(database_url(bad).unwrap_err().contains("sqlite://PATH"), "{bad}");
        }
    }
}
