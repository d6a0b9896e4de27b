//! What may be written: shapes and their limits.

use serde::{Deserialize, Serialize};

use super::model::Labels;
use crate::id::AppId;

/// The most labels of a device or an application.
pub const MAX_LABELS: usize = 64;
/// The longest key of a label, in bytes.
pub const MAX_LABEL_KEY: usize = 128;
/// The longest value of a label, in bytes.
pub const MAX_LABEL_VALUE: usize = 256;
/// The most credentials of a device.
pub const MAX_CREDENTIALS: usize = 8;
/// The longest password, in bytes.
pub const MAX_PASSWORD: usize = 1024;
/// The longest description of a token, in bytes.
pub const MAX_DESCRIPTION: usize = 256;
/// The most memory that a hash that is brought along may ask for, in KiB.
pub const MAX_HASH_MEMORY: u32 = 64 * 1024;
/// The most work that a hash that is brought along may ask for: KiB of memory times passes over it.
pub const MAX_HASH_WORK: u64 = 256 * 1024;
/// The most lanes that a hash that is brought along may ask for.
pub const MAX_HASH_LANES: u32 = 16;

/// An application as it is written. Every member is optional; what is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationSpec {
    /// The application's id: the path's, if it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<AppId>,
    /// Labels for the application's own use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// Says what is wrong with what was to be written. It tells places and limits, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// The name is not that of the path.
    #[error("'name' is '{given}' but the path names '{expected}'; leave it out or let them agree")]
    OtherName {
        /// The name in the body.
        given: String,
        /// The name in the path.
        expected: String,
    },
    /// Of many devices, this one has no name.
    #[error("'name' is missing")]
    NoName,
    /// There are too many labels.
    #[error("'labels' has {0} members, at most {MAX_LABELS} are allowed")]
    Labels(usize),
    /// A label's key has a wrong length.
    #[error("a key in 'labels' must have 1 to {MAX_LABEL_KEY} bytes, one has {0}")]
    LabelKey(usize),
    /// A label's value is too long.
    #[error("'labels.{key}' has {len} bytes, at most {MAX_LABEL_VALUE} are allowed")]
    LabelValue {
        /// Whose value it is.
        key: String,
        /// Its length in bytes.
        len: usize,
    },
    /// There are too many credentials.
    #[error("'credentials' has {0} members, at most {MAX_CREDENTIALS} are allowed")]
    Credentials(usize),
    /// One of the credentials is wrong.
    #[error("'credentials[{index}]': {reason}")]
    Credential {
        /// Its place, from 0.
        index: usize,
        /// What is wrong with it.
        reason: InvalidCredential,
    },
    /// A token of an application must be good for something.
    #[error("'scopes' must name one or more of 'command', 'events' and 'registry'")]
    NoScopes,
    /// The description of a token is too long.
    #[error("'description' has {0} bytes, at most {MAX_DESCRIPTION} are allowed")]
    Description(usize),
    /// The description of a token has a character that PostgreSQL cannot keep.
    #[error("'description' must not have the character U+0000")]
    DescriptionNul,
}

/// Says what is wrong with a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredential {
    /// The password is empty or too long.
    #[error("a password must have 1 to {MAX_PASSWORD} bytes, this one has {0}")]
    PasswordLength(usize),
    /// The hash is not an argon2id PHC string.
    #[error("a hash must be a PHC string '$argon2id$v=19$m=…,t=…,p=…$salt$hash'")]
    HashForm,
    /// To check the hash would cost too much.
    #[error(
        "a hash may ask for m={MAX_HASH_MEMORY} (KiB), m*t={MAX_HASH_WORK} and p={MAX_HASH_LANES} at most, this one \
         asks for m={memory}, t={passes}, p={lanes}"
    )]
    HashCost {
        /// KiB of memory.
        memory: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// The token is not one that the system could have made.
    #[error("a token is 'drogue_' and 43 base64url characters; null asks for a new one")]
    TokenForm,
}

/// Checks that a name in a body is that of the path.
pub(super) fn check_name(given: Option<&str>, expected: &str) -> Result<(), InvalidSpec> {
    match given {
        Some(given) if given != expected => {
            Err(InvalidSpec::OtherName { given: given.to_owned(), expected: expected.to_owned() })
        }
        Some(_) | None => Ok(()),
    }
}

/// Checks number and lengths of labels.
pub(super) fn check_labels(labels: Option<&Labels>) -> Result<(), InvalidSpec> {
    let Some(labels) = labels else { return Ok(()) };
    if labels.len() > MAX_LABELS {
        return Err(InvalidSpec::Labels(labels.len()));
    }
    for (key, value) in labels {
        if key.is_empty() || key.len() > MAX_LABEL_KEY {
            return Err(InvalidSpec::LabelKey(key.len()));
        }
        if value.len() > MAX_LABEL_VALUE {
            return Err(InvalidSpec::LabelValue { key: key.clone(), len: value.len() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(entries: impl IntoIterator<Item = (String, String)>) -> Result<(), InvalidSpec> {
        check_labels(Some(&entries.into_iter().collect()))
    }

    #[test]
    fn labels_have_limits_that_their_errors_name() {
        let many = |n: usize| (0..n).map(|i| (i.to_string(), String::new()));
        assert_eq!(labels(many(64)), Ok(()));
        assert_eq!(labels(many(65)), Err(InvalidSpec::Labels(65)));
        assert_eq!(labels([("k".repeat(128), "v".repeat(256))]), Ok(()));
        assert_eq!(labels([("k".repeat(129), String::new())]), Err(InvalidSpec::LabelKey(129)));
        assert_eq!(labels([(String::new(), String::new())]), Err(InvalidSpec::LabelKey(0)));
        let error = labels([("k".to_owned(), "v".repeat(257))]).unwrap_err().to_string();
        assert_eq!(error, "'labels.k' has 257 bytes, at most 256 are allowed");
    }

    #[test]
    fn a_name_is_left_out_or_that_of_the_path() {
        assert_eq!(check_name(None, "d"), Ok(()));
        assert_eq!(check_name(Some("d"), "d"), Ok(()));
        assert!(check_name(Some("D"), "d").is_err());
    }

    #[test]
    fn an_unknown_member_of_an_application_is_refused() {
        assert!(serde_json::from_str::<ApplicationSpec>(r#"{"label":{}}"#).is_err());
        assert_eq!(serde_json::from_str::<ApplicationSpec>("{}").unwrap(), ApplicationSpec::default());
    }
}
