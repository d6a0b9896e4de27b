//! Passwords of devices: the registry gets their argon2id hashes, each made with a salt that is always the same for the
//! same device.
//!
//! So to write a device again, after a restart too, is no change, and ends no session; and nothing that came of a
//! password is kept in the cluster. The salt is the digest of the resource's uid, which no two devices share. It must not
//! come of the password, as it stands beside the hash and could be tried faster than that.

use common::auth::Secret;
use common::device::Credential;
use common::registry::hash_password;
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use super::error::ControllerError;
use super::plan::Resolved;
use super::resources::CredentialSource;

/// How many passwords are hashed at a time.
const PARALLEL: usize = 2;

/// Hashes passwords on blocking threads.
#[derive(Debug)]
pub(super) struct Passwords {
    permits: Semaphore,
    /// By which passwords are told apart without being remembered.
    key: hmac::Key,
}

/// The hashes that were made for a device.
#[derive(Debug, Default, Clone)]
pub(super) struct Hashes(Vec<Hashed>);

#[derive(Debug, Clone)]
struct Hashed {
    /// Of the password.
    tag: hmac::Tag,
    hash: Secret,
}

impl Passwords {
    /// # Errors
    /// Fails if the system has no random numbers.
    pub(super) fn new() -> Result<Self, ControllerError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| ControllerError::Hash)?;
        Ok(Self { permits: Semaphore::new(PARALLEL), key })
    }

    /// Makes the credentials of the device with the uid. What is in `known` is not hashed again; it then has the hashes
    /// of these credentials.
    pub(super) async fn credentials(
        &self,
        uid: &str,
        resolved: Vec<Resolved>,
        known: &mut Hashes,
    ) -> Result<Vec<Credential>, ControllerError> {
        let before = std::mem::take(known);
        let mut credentials = Vec::with_capacity(resolved.len());
        for Resolved { source, secret } in resolved {
            credentials.push(match source {
                CredentialSource::TokenSecret(_) => Credential::Token(Some(secret)),
                CredentialSource::HashSecret(_) => Credential::Hash(secret),
                CredentialSource::PasswordSecret(_) => {
                    let hashed = self.hashed(uid, secret, &before).await?;
                    known.0.push(hashed.clone());
                    Credential::Hash(hashed.hash)
                }
            });
        }
        Ok(credentials)
    }

    async fn hashed(&self, uid: &str, password: Secret, before: &Hashes) -> Result<Hashed, ControllerError> {
        let tag = hmac::sign(&self.key, password.expose().as_bytes());
        if let Some(known) = before.0.iter().find(|hashed| hashed.tag.as_ref() == tag.as_ref()) {
            return Ok(known.clone());
        }
        let _permit = self.permits.acquire().await.map_err(|_| ControllerError::Hash)?;
        let salt = salt(uid);
        let hashing = tokio::task::spawn_blocking(move || hash_password(&password, &salt));
        let hash = hashing.await.ok().flatten().ok_or(ControllerError::Hash)?;
        Ok(Hashed { tag, hash })
    }
}

fn salt(uid: &str) -> [u8; 16] {
    let digest = digest(&SHA256, format!("iot.drogue.io/device/{uid}").as_bytes());
    let mut salt = [0; 16];
    salt.copy_from_slice(&digest.as_ref()[..16]);
    salt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::resources::SecretKey;

    fn password(text: &str) -> Vec<Resolved> {
        let key = SecretKey { name: "s".to_owned(), key: "k".to_owned() };
        vec![Resolved { source: CredentialSource::PasswordSecret(key), secret: Secret::new(text) }]
    }

    async fn made(uid: &str, text: &str) -> Vec<Credential> {
        let passwords = Passwords::new().unwrap();
        passwords.credentials(uid, password(text), &mut Hashes::default()).await.unwrap()
    }

    #[tokio::test]
    async fn a_password_of_a_device_has_one_hash_whoever_makes_it() {
        let hash = made("u1", "p").await;
        assert!(matches!(&hash[0], Credential::Hash(hash) if hash.expose().starts_with("$argon2id$v=19$")));
        assert_eq!(made("u1", "p").await, hash);
        assert_ne!(made("u1", "q").await, hash);
        assert_ne!(made("u2", "p").await, hash);
    }

    #[tokio::test]
    async fn what_was_hashed_is_remembered_as_long_as_it_is_used() {
        let (passwords, mut known) = (Passwords::new().unwrap(), Hashes::default());
        passwords.credentials("u", password("p"), &mut known).await.unwrap();
        // Another uid would have another hash, so this one is remembered.
        let again = passwords.credentials("v", password("p"), &mut known).await.unwrap();
        assert_eq!(again, made("u", "p").await);
        passwords.credentials("v", Vec::new(), &mut known).await.unwrap();
        assert!(known.0.is_empty());
    }
}
