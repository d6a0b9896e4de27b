//! Basic credentials, RFC 7617.

use actix_web::http::header::{self, HeaderMap};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use common::auth::{Login, Secret};

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads who sends a request.
///
/// Fails closed: credentials that are missing, given twice or malformed are none.
pub(crate) fn login(headers: &HeaderMap) -> Option<Login> {
    let mut fields = headers.get_all(header::AUTHORIZATION);
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    parse(field.as_bytes())
}

fn parse(field: &[u8]) -> Option<Login> {
    let (scheme, encoded) = str::from_utf8(field).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64.decode(encoded.trim_matches(' ')).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Login::parse(user, Secret::new(password)).ok()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn read(fields: &[&str]) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(field).unwrap());
        }
        let login = login(&headers)?;
        Some((login.device.to_string(), login.secret.expose().to_owned()))
    }

    #[test]
    fn user_and_password_are_read() {
        let expected = Some(("app/d1".to_owned(), "foo:bar".to_owned()));
        // d1@app:foo:bar
        assert_eq!(read(&["Basic ZDFAYXBwOmZvbzpiYXI="]), expected);
        assert_eq!(read(&["bAsIc  ZDFAYXBwOmZvbzpiYXI"]), expected);
        assert_eq!(read(&["Basic ZDE6"]), Some(("default/d1".to_owned(), String::new())));
    }

    #[test]
    fn whatever_is_malformed_is_wrong() {
        let twice = ["Basic ZDE6", "Basic ZDE6"];
        assert_eq!(read(&twice), None);
        for bad in [
            "",
            "Basic",
            "Basic ",
            "Basic ZDE=",     // d1
            "Basic OnB3",     // :pw
            "Basic Iy8rOnB3", // #/+:pw
            "Basic /zpwdw==", // \xff:pw
            "Basic ***",
            "Basic ZDE6 x",
            "Bearer ZDE6",
            "BasicZDE6",
        ] {
            assert_eq!(read(&[bad]), None, "{bad:?}");
        }
    }
}
