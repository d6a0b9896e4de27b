//! Secrets and payloads that can be told in a log.

use base64::prelude::{BASE64_STANDARD, Engine as _};

/// Stands in every password, token and payload that the harness makes.
pub const MARK: &str = "s3cr3t";

/// Makes a password.
pub fn password() -> String {
    format!("pw-{MARK}-{}", unique())
}

/// Makes a token of the form that the system makes itself: `drogue_` and 43 base64url characters.
pub fn token() -> String {
    let random = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    // The last character of 43 carries four bits: 'A' is one of those that leave the rest zero.
    format!("drogue_{MARK}{}A", &random[..42 - MARK.len()])
}

/// Makes a payload of JSON that no other test sends.
pub fn payload() -> String {
    format!(r#"{{"{MARK}": "{}"}}"#, unique())
}

/// Makes a text that is unique and an id.
pub fn unique() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Returns the lines of a log that tell a secret: as it is, in base64 as Basic credentials are, or as bytes.
pub fn told_in(log: &str) -> Vec<&str> {
    let forms = forms();
    log.lines().filter(|line| forms.iter().any(|form| line.contains(form))).collect()
}

fn forms() -> Vec<String> {
    // Base64 shows a text in three ways, by what is before it; the ends depend on the neighbours and are cut off.
    let base64 = ["", "x", "xx"].into_iter().enumerate().map(|(shift, before)| {
        let encoded = BASE64_STANDARD.encode(format!("{before}{MARK}"));
        let start = [0, 2, 3][shift];
        encoded[start..start + 6].to_owned()
    });
    let bytes = format!("{:?}", MARK.as_bytes());
    base64.chain([MARK.to_owned(), bytes.trim_matches(['[', ']']).to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_in_every_form() {
        for before in ["", "a", "ab", "abc"] {
            let credentials = format!("{before}{MARK}-tail");
            assert_eq!(told_in(&BASE64_STANDARD.encode(&credentials)).len(), 1, "{before:?}");
            assert_eq!(told_in(&format!("{:?}", credentials.as_bytes())).len(), 1, "{before:?}");
            assert_eq!(told_in(&credentials).len(), 1, "{before:?}");
        }
        assert!(told_in("nothing of the kind\nhere").is_empty());
    }

    #[test]
    fn tokens_have_the_form_of_the_interface() {
        assert_eq!(token().len(), "drogue_".len() + 43);
        assert_ne!(token(), token());
    }
}
