//! The address of the store: its form, and what of it may be shown.
//!
//! There may be a password anywhere in an address of PostgreSQL, also where its author did not mean it to be: a `/`,
//! `?` or `#` in a password that is not encoded ends it early. So an address that is not wholly understood is not
//! shown at all, and what is said about it repeats nothing of it.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use url::Url;

use super::error::RegistryError;

/// What an address looks like.
pub(super) const FORMS: &str = "sqlite://PATH, as sqlite:///var/lib/drogue/registry.sqlite, or \
                                postgres://USER:PASSWORD@HOST:PORT/DATABASE, as \
                                postgres://drogue@db.example/drogue?sslmode=verify-full&sslrootcert=/etc/drogue/ca.pem";

/// What may follow the '?', as libpq has it.
const PARAMETERS: [&str; 12] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];
const UNVERIFIED: [&str; 4] = ["disable", "allow", "prefer", "require"];
const VERIFIED: [&str; 2] = ["verify-ca", "verify-full"];

/// An address of a well-formed kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address<'a> {
    /// A file: what follows `sqlite://`.
    Sqlite(&'a str),
    /// A database of a PostgreSQL server.
    Postgres(Url),
}

/// Checks the form of a registry's address. Nothing is opened.
///
/// # Errors
/// Says what is wrong and what an address looks like, without repeating what may be a password.
pub fn check_address(address: &str) -> Result<(), RegistryError> {
    parse(address).map(drop)
}

/// Reads an address.
///
/// # Errors
/// As [`check_address`].
pub(super) fn parse(address: &str) -> Result<Address<'_>, RegistryError> {
    understand(address).map_err(|reason| RegistryError::Address { url: shown(address), reason })
}

/// Returns what may be shown of an address: where the store is, and nothing else.
pub(super) fn shown(address: &str) -> String {
    match (understand(address), address.split_once("://")) {
        (Ok(Address::Sqlite(_)), _) | (Err(_), Some(("sqlite", _))) => address.to_owned(),
        (Ok(Address::Postgres(url)), _) => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
        }
        (Err(_), Some((scheme @ ("postgres" | "postgresql"), _))) => format!("{scheme}://…"),
        (Err(_), _) => "…".to_owned(),
    }
}

fn understand(address: &str) -> Result<Address<'_>, String> {
    match address.split_once("://") {
        Some(("sqlite", path)) if !path.is_empty() => Ok(Address::Sqlite(path)),
        Some(("sqlite", _)) => Err("the path of the file is missing".to_owned()),
        Some(("postgres" | "postgresql", rest)) => postgres(address, rest).map(Address::Postgres),
        Some(_) | None => Err("it is neither SQLite's nor PostgreSQL's".to_owned()),
    }
}

fn postgres(address: &str, rest: &str) -> Result<Url, String> {
    let after_authority = rest.find(['/', '?']).map_or("", |end| &rest[end..]);
    if address.contains('#') || after_authority.contains('@') {
        return Err("'#', '@', '/' and '?' in a user's name or a password must be percent-encoded".to_owned());
    }
    if address.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err("white space must be percent-encoded".to_owned());
    }
    // What the parser says is one of a few texts, without any of the address.
    let url = Url::parse(address).map_err(|error| error.to_string())?;
    for text in [url.username(), url.password().unwrap_or_default()] {
        decode(text)?;
    }
    if !is_host(&decode(url.host_str().unwrap_or_default())?) {
        return Err("the host is a name, an IP address or the directory of a socket".to_owned());
    }
    if decode(url.path().trim_start_matches('/'))?.contains(['/', ':', '@']) {
        return Err("the path is the name of a database, without '/', ':' and '@'".to_owned());
    }
    parameters(&url)?;
    Ok(url)
}

fn parameters(url: &Url) -> Result<(), String> {
    let value = |name: &str| url.query_pairs().filter(|(key, _)| key == name).last().map(|(_, value)| value);
    if url.query_pairs().any(|(key, _)| !PARAMETERS.contains(&&*key)) {
        return Err(format!("there is a parameter other than {}", PARAMETERS.join(", ")));
    }
    if url.path().trim_start_matches('/').is_empty() && value("dbname").is_none_or(|name| name.is_empty()) {
        return Err("the name of the database is missing".to_owned());
    }
    if value("port").is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("port is a number".to_owned());
    }
    if value("hostaddr").is_some_and(|address| address.parse::<IpAddr>().is_err()) {
        return Err("hostaddr is an IP address".to_owned());
    }
    if value("sslcert").is_some() != value("sslkey").is_some() {
        return Err("sslcert and sslkey go together".to_owned());
    }
    match value("sslmode") {
        Some(mode) if VERIFIED.contains(&&*mode) => Ok(()),
        Some(mode) if !UNVERIFIED.contains(&&*mode) => {
            Err(format!("sslmode is one of {} and {}", UNVERIFIED.join(", "), VERIFIED.join(", ")))
        }
        // libpq would verify here, sqlx does not: whoever names an authority must not find that out too late.
        Some(_) | None if value("sslrootcert").is_some() => {
            Err("sslrootcert needs sslmode=verify-full (or verify-ca)".to_owned())
        }
        Some(_) | None => Ok(()),
    }
}

fn is_host(host: &str) -> bool {
    let is_of_name = |letter: char| letter.is_alphanumeric() || "-._".contains(letter);
    let is_of_ip6 = |letter: char| letter.is_ascii_hexdigit() || ":.".contains(letter);
    if host.starts_with('/') {
        return !host.contains(['@', ':']);
    }
    let ip6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    ip6.map_or_else(|| host.chars().all(is_of_name), |ip6| ip6.chars().all(is_of_ip6))
}

fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(String::from).map_err(|_| "what is percent-encoded must be UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hunter2";

    #[test]
    fn what_is_shown_is_where_the_store_is() {
        for (address, expected) in [
            ("sqlite:///a@b/c", "sqlite:///a@b/c"),
            ("postgres://me:hunter2@db/x", "postgres://db/x"),
            ("postgresql://me:hunter2@db:5433/x?sslmode=require", "postgresql://db:5433/x"),
            ("postgres://me:p@hunter2@db/x", "postgres://db/x"),
            ("postgres://me@[::1]:5433/x?password=hunter2", "postgres://[::1]:5433/x"),
            ("postgres:///x?host=/run/postgresql&user=me&password=hunter2", "postgres:///x"),
            ("postgres://me:hunter2@%2Frun%2Fpostgresql/x", "postgres://%2Frun%2Fpostgresql/x"),
        ] {
            assert_eq!(check_address(address), Ok(()), "{address}");
            assert_eq!(shown(address), expected);
        }
    }

    #[test]
    fn a_misplaced_password_is_not_shown() {
        for address in [
            "postgres://me:1#hunter2@db/x",
            "postgres://me:1/hunter2@db/x",
            "postgres://me:1?hunter2@db/x",
            "postgres://me:1?hunter2",
            "postgres://me:hunter2/x",
            "postgres://me%3Ahunter2%40db/x",
            "postgres://db/me%3Ahunter2",
            "postgres://%2Fme:hunter2@db",
            "postgres://me:hunter2@db",
            "postgres://me:hunter2@db/x/y",
            "postgres://me:hunter2@db:hunter2/x",
            "postgres://me:hunter2%ff@db/x",
            "postgres://me:hunter2 @db/x",
            "postgres://me:hunter2\n@db/x",
            "postgres://me:hunter2@d b/x",
            "postgres://db/x?pasword=hunter2",
            "postgres://db/x?password=hunter2&password=hunter2@x",
            "postgres://db/x?hunter2",
            "postgres://db/x?sslmode=hunter2",
            "postgres://db/x?port=hunter2",
            "postgres://db/x?hostaddr=hunter2",
            "postgres:me:hunter2@db/x",
            "POSTGRES://me:hunter2@db/x",
            "mysql://me:hunter2@db/x",
            "hunter2://db/x",
            "hunter2",
        ] {
            let error = check_address(address).unwrap_err().to_string();
            for text in [&error, &shown(address)] {
                assert!(!text.contains(SECRET), "{address}: {text}");
            }
            assert!(error.contains("sqlite://PATH") && error.contains("postgres://USER"), "{error}");
        }
    }

    #[test]
    fn an_authority_is_named_only_where_it_is_asked() {
        let check = |query: &str| check_address(&format!("postgres://db/x?{query}"));
        for good in
            ["sslmode=verify-full&sslrootcert=/ca", "sslmode=verify-ca&sslrootcert=/ca", "sslmode=require"]
        {
            assert_eq!(check(good), Ok(()));
        }
        for bad in ["sslrootcert=/ca", "sslmode=require&sslrootcert=/ca", "sslmode=on", "sslcert=/crt"] {
            assert!(check(bad).unwrap_err().to_string().contains("ssl"), "{bad}");
        }
    }
}
