//! Credentials of devices: from what is written to what is kept.

use argon2::password_hash::{Ident, PasswordHash};
use argon2::{ARGON2ID_IDENT, Params};
use serde::{Deserialize, Serialize};

use super::passwords::PasswordHashText;
use super::spec::{
    InvalidCredential, InvalidSpec, MAX_CREDENTIALS, MAX_HASH_LANES, MAX_HASH_MEMORY, MAX_HASH_WORK,
    MAX_PASSWORD,
};
use super::token::{self, Digest};
use crate::auth::Secret;
use crate::device::Credential;

/// The longest PHC string: what argon2id needs is below 200 bytes.
const MAX_HASH: usize = 512;
/// The version of argon2 that is known to be sound, 1.3.
const ARGON2_VERSION: u32 = 0x13;

/// What is kept of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kept {
    /// The digest of a token.
    Token(Digest),
    /// The argon2id hash of a password.
    Password(PasswordHashText),
}

/// Checks the number of credentials and the form of each.
pub(super) fn check(credentials: &[Credential]) -> Result<(), InvalidSpec> {
    if credentials.len() > MAX_CREDENTIALS {
        return Err(InvalidSpec::Credentials(credentials.len()));
    }
    for (index, credential) in credentials.iter().enumerate() {
        let checked = match credential {
            Credential::Password(password) => check_password(password),
            Credential::Hash(hash) => check_hash(hash),
            Credential::Token(Some(token)) if !token::is_token(token) => Err(InvalidCredential::TokenForm),
            Credential::Token(_) => Ok(()),
        };
        checked.map_err(|reason| InvalidSpec::Credential { index, reason })?;
    }
    Ok(())
}

fn check_password(password: &Secret) -> Result<(), InvalidCredential> {
    let len = password.expose().len();
    if (1..=MAX_PASSWORD).contains(&len) { Ok(()) } else { Err(InvalidCredential::PasswordLength(len)) }
}

/// Checks that a hash is one of argon2id, and that nobody is hurt by checking a password against it.
fn check_hash(hash: &Secret) -> Result<(), InvalidCredential> {
    let form = || InvalidCredential::HashForm;
    if hash.expose().len() > MAX_HASH {
        return Err(form());
    }
    let parsed = PasswordHash::new(hash.expose()).map_err(|_| form())?;
    let known = |name: &Ident<'_>| ["m", "t", "p"].contains(&name.as_str());
    let complete = parsed.salt.is_some() && parsed.hash.is_some();
    if parsed.algorithm != ARGON2ID_IDENT
        || parsed.version != Some(ARGON2_VERSION)
        || !complete
        || !parsed.params.iter().all(|(name, _)| known(&name))
    {
        return Err(form());
    }
    let params = Params::try_from(&parsed).map_err(|_| form())?;
    let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
    let work = u64::from(memory) * u64::from(passes);
    if memory > MAX_HASH_MEMORY || work > MAX_HASH_WORK || lanes > MAX_HASH_LANES {
        return Err(InvalidCredential::HashCost { memory, passes, lanes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT_AND_HASH: &str = "c2FsdHNhbHRzYWx0$X2sO8CE2DyIhXCQ1bGSUTLkP5Cl7nLxYKWyI1mLqGdA";

    fn hash(cost: &str) -> Result<(), InvalidCredential> {
        check_hash(&Secret::new(format!("$argon2id$v=19${cost}${SALT_AND_HASH}")))
    }

    #[test]
    fn a_hash_with_an_absurd_cost_is_refused() {
        assert_eq!(hash("m=19456,t=2,p=1"), Ok(()));
        assert_eq!(hash("m=65536,t=3,p=4"), Ok(()));
        for absurd in [
            "m=4194304,t=1,p=1",
            "m=65537,t=1,p=1",
            "m=65536,t=5,p=1",
            "m=8192,t=4294967295,p=1",
            "m=19456,t=2,p=17",
        ] {
            assert!(matches!(hash(absurd), Err(InvalidCredential::HashCost { .. })), "{absurd}");
        }
        let message = hash("m=4194304,t=1,p=1").unwrap_err().to_string();
        assert!(message.contains("m=65536") && message.contains("m=4194304"), "{message}");
    }

    #[test]
    fn a_hash_of_another_form_is_refused() {
        for bad in
            ["m=1,t=2,p=1", "m=19456,t=0,p=1", "m=99999999999,t=2,p=1", "m=19456,t=2,p=1,data=abcd", ""]
        {
            assert_eq!(hash(bad), Err(InvalidCredential::HashForm), "{bad}");
        }
        for bad in [
            "",
            "secret",
            "$argon2id$",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0",
            &format!("$argon2i$v=19$m=19456,t=2,p=1${SALT_AND_HASH}"),
            &format!("$argon2id$v=16$m=19456,t=2,p=1${SALT_AND_HASH}"),
            &format!("$argon2id$m=19456,t=2,p=1${SALT_AND_HASH}"),
            &format!("$2b$12${}", "a".repeat(53)),
            &"$".repeat(100_000),
        ] {
            assert_eq!(check_hash(&Secret::new(bad)), Err(InvalidCredential::HashForm), "{bad:.80}");
        }
    }

    #[test]
    fn the_error_names_the_place_and_no_secret() {
        let wrong = |bad: Credential| check(&[Credential::Token(None), bad]).unwrap_err().to_string();
        let token = wrong(Credential::Token(Some(Secret::new("hunter2"))));
        assert_eq!(
            token,
            "'credentials[1]': a token is 'drogue_' and 43 base64url characters; null asks for a new one"
        );
        let hash = wrong(Credential::Hash(Secret::new("hunter2")));
        assert!(hash.starts_with("'credentials[1]'") && !hash.contains("hunter2"), "{hash}");
        assert!(wrong(Credential::Password(Secret::new(""))).contains("1 to 1024 bytes"));
        let long = Credential::Password(Secret::new("p".repeat(1025)));
        assert!(wrong(long).contains("this one has 1025"));
        assert!(check(&[Credential::Password(Secret::new("p".repeat(1024)))]).is_ok());
        assert_eq!(check(&vec![Credential::Token(None); 9]), Err(InvalidSpec::Credentials(9)));
    }
}
