//! What can be read off a JSON Web Token (RFC 7519) without trusting it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::auth::Secret;
use common::time::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
}

/// Tells whether a token has the shape of a signed JWT: three parts of base64url (RFC 7515, section 7.1).
pub(super) fn is_jwt(token: &Secret) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let mut parts = token.expose().split('.');
    parts.by_ref().take(3).filter(|part| is_part(part)).count() == 3 && parts.next().is_none()
}

/// Returns when the token says that it expires. Only of a token that was found good this is true.
pub(super) fn expiry(token: &Secret) -> Option<Timestamp> {
    let claims = token.expose().split('.').nth(1)?;
    let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    // Seconds, which may have a fraction; what is beyond the end of time saturates.
    claims.exp.map(|seconds| Timestamp::from_millis((seconds * 1000.0) as i64))
}

/// Makes a token of claims, which nobody signed.
#[cfg(test)]
pub(crate) fn unsigned(claims: &serde_json::Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"none"}"#), part(&claims.to_string()), part("x"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn three_parts_of_base64url_are_a_jwt() {
        assert!(is_jwt(&Secret::new(unsigned(&json!({})))));
        for other in ["", "..", "a.b", "a.b.c.d", "a..c", "a.b.c=", "a.b.c d", "drogue_abc", "a.b.ä"] {
            assert!(!is_jwt(&Secret::new(other)), "{other}");
        }
    }

    #[test]
    fn a_token_says_when_it_expires() {
        let expiry = |claims: &serde_json::Value| expiry(&Secret::new(unsigned(claims)));
        assert_eq!(expiry(&json!({"exp": 12})), Some(Timestamp::from_millis(12_000)));
        assert_eq!(expiry(&json!({"exp": 1.5})), Some(Timestamp::from_millis(1_500)));
        assert_eq!(expiry(&json!({})), None);
        assert_eq!(expiry(&json!({"exp": "soon"})), None);
        assert_eq!(super::expiry(&Secret::new("a.b.c")), None);
    }
}
