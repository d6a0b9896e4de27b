//! The choice of the registry's store.

use std::fmt;
use std::path::Path;

use clap::Args;

use super::BadConfiguration;
use crate::auth::Secret;
use crate::error::ErrorKind;
use crate::registry::{self, Registry, check_address, sqlite_url};
use crate::service::Clock;

/// Where applications, devices and tokens are kept.
#[derive(Clone, Args)]
#[group(skip)]
#[command(next_help_heading = "Registry")]
pub struct RegistryOptions {
    /// The store of applications, devices and tokens: sqlite://PATH, made when missing, or
    /// postgres://USER:PASSWORD@HOST:PORT/DATABASE, which many processes share.
    ///
    /// A PostgreSQL database must exist, in UTF-8; its tables are made. What is special in a name or a password is
    /// percent-encoded. Parameters are libpq's: '?sslmode=verify-full' encrypts and checks the server's certificate and
    /// name, '&sslrootcert=FILE' adds an authority to the system's. A password on a command line can be read by others
    /// on the machine: give the address by its variable, or the password by PGPASSWORD or ~/.pgpass.
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

    /// Checks the form of the store's address. What may be a password is not repeated in the error.
    ///
    /// # Errors
    /// Says what an address looks like.
    pub fn check(&self) -> Result<(), BadConfiguration> {
        let checked = self.database_url.as_deref().map_or(Ok(()), check_address);
        checked.map_err(|error| BadConfiguration(format!("{error} (option --database-url)")))
    }
}

/// Leaves the store's address out: there may be a password in it.
impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryOptions")
            .field("max_pending_logins", &self.max_pending_logins)
            .finish_non_exhaustive()
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

    fn options(url: &str) -> RegistryOptions {
        RegistryOptions { database_url: Some(url.to_owned()), max_pending_logins: 1 }
    }

    #[test]
    fn a_store_is_a_file_of_sqlite_or_a_database_of_postgresql() {
        for good in [
            "sqlite://registry.sqlite",
            "sqlite:///data/registry.sqlite",
            "postgres://user@host/db",
            "postgresql://user:hunter2@host:5433/db?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        ] {
            assert_eq!(options(good).check(), Ok(()));
        }
        for bad in [
            "registry.sqlite",
            "sqlite://",
            "mysql://user:hunter2@host/db",
            "postgres://user:hunter2@host",
            "postgres://user:5/hunter2@host/db",
            "postgres://user@host/db?pass=hunter2",
        ] {
            let error = options(bad).check().unwrap_err().to_string();
            for part in ["--database-url", "sqlite://PATH", "postgres://USER:PASSWORD@HOST:PORT/DATABASE"] {
                assert!(error.contains(part), "{error}");
            }
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_password_is_not_shown_with_the_options() {
        let shown = format!("{:?}", options("postgres://user:hunter2@host/db"));
        assert!(shown.contains("max_pending_logins") && !shown.contains("hunter2"), "{shown}");
    }
}
