//! Tokens that the system makes: 256 bits each, so that a plain digest of one tells nothing about it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::error::RegistryError;
use crate::auth::Secret;

/// How each token begins, so that a leaked one is recognised.
const PREFIX: &str = "drogue_";
const TOKEN_BYTES: usize = 32;
/// The length of so many bytes in base64url without padding.
const ENCODED_LEN: usize = 43;

/// Makes a token of 256 bits from the system's generator.
///
/// # Errors
/// Fails if the generator does.
pub fn generate() -> Result<Secret, RegistryError> {
    let mut bytes = [0; TOKEN_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| {
        tracing::error!("the system's random generator failed");
        RegistryError::Unavailable
    })?;
    Ok(Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
}

/// Tells whether a secret has the form of a token.
pub(super) fn is_token(secret: &Secret) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let encoded = secret.expose().strip_prefix(PREFIX);
    encoded.is_some_and(|text| text.len() == ENCODED_LEN && text.bytes().all(is_digit))
}

/// What is kept of a token: its SHA-256, as base64url.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Digest(String);

impl Digest {
    pub(super) fn of(token: &Secret) -> Self {
        let digest = digest(&SHA256, token.expose().as_bytes());
        debug_assert_eq!(digest.as_ref().len(), SHA256_OUTPUT_LEN);
        Self(URL_SAFE_NO_PAD.encode(digest))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares without telling by its time where the two differ.
    pub(super) fn matches(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_form_of_the_interface_and_differ() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert!(one != other);
        let encoded = one.expose().strip_prefix("drogue_").unwrap();
        assert_eq!(encoded.len(), 43);
        assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert!(is_token(&one));
    }

    #[test]
    fn what_is_not_a_token_is_told_apart() {
        let right = format!("drogue_{}", "A".repeat(43));
        assert!(is_token(&Secret::new(right.clone())));
        for bad in [&right[1..], &right[..49], &format!("{right}A"), "drogue_", "", &right.replace("A", "+")]
        {
            assert!(!is_token(&Secret::new(bad)), "{bad}");
        }
        // Whoever brings a token along need not know that the last character holds 4 bits only.
        assert!(is_token(&Secret::new(format!("drogue_{}2", "A".repeat(42)))));
    }

    #[test]
    fn a_digest_is_the_sha_256_of_the_whole_token() {
        let digest = Digest::of(&Secret::new("abc"));
        assert_eq!(digest.as_str(), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
        assert!(digest.matches(&Digest::of(&Secret::new("abc"))));
        assert!(!digest.matches(&Digest::of(&Secret::new("abd"))));
    }
}
