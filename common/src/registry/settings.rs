//! What can be chosen about a registry.

use std::time::Duration;

use super::error::RegistryError;
use crate::auth::Secret;
use crate::process::Clock;

/// The fewest characters of an operator's token.
pub const MIN_ADMIN_TOKEN: usize = 32;

/// What can be chosen about a registry. The defaults are safe.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// The operator's token, at least [`MIN_ADMIN_TOKEN`] characters; without one, nobody is the operator.
    pub admin_token: Option<Secret>,
    /// The most logins that are being checked or wait for it; one waiting takes about 2 KiB.
    pub max_pending_logins: usize,
    /// The most verified credentials, and the most devices known to exist, that are remembered.
    pub max_cached: u64,
    /// How much it costs to hash a new password. Existing ones keep the cost they were hashed with.
    pub password_cost: PasswordCost,
    /// How often to look for changes that other processes made.
    pub poll_interval: Duration,
    /// Tells the time.
    pub clock: Clock,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            admin_token: None,
            max_pending_logins: 10_000,
            max_cached: 200_000,
            password_cost: PasswordCost::default(),
            poll_interval: Duration::from_millis(500),
            clock: Clock::system(),
        }
    }
}

impl RegistrySettings {
    pub(super) fn check(&self) -> Result<(), RegistryError> {
        let len = self.admin_token.as_ref().map(|token| token.expose().chars().count());
        match len {
            Some(len) if len < MIN_ADMIN_TOKEN => {
                Err(RegistryError::WeakAdminToken { min: MIN_ADMIN_TOKEN, len })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The cost of argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    /// KiB of memory.
    pub memory: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for PasswordCost {
    /// Is what the argon2 crate recommends, which follows OWASP.
    fn default() -> Self {
        Self {
            memory: argon2::Params::DEFAULT_M_COST,
            passes: argon2::Params::DEFAULT_T_COST,
            lanes: argon2::Params::DEFAULT_P_COST,
        }
    }
}
