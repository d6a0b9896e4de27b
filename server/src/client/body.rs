//! The payload of a command as the command line takes it.

use std::fs;
use std::io::{self, Read};

use anyhow::Context;

/// Reads a payload: `-` is standard input, `@FILE` a file, anything else the payload itself.
///
/// # Errors
/// Names the file.
pub fn read(argument: &str) -> anyhow::Result<Vec<u8>> {
    if argument == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).context("cannot read the payload from standard input")?;
        return Ok(bytes);
    }
    match argument.strip_prefix('@') {
        Some(path) => fs::read(path).with_context(|| format!("cannot read the payload from '{path}'")),
        None => Ok(argument.as_bytes().to_vec()),
    }
}

/// Finds the content type of a payload whose sender named none.
pub fn content_type(body: &[u8]) -> &'static str {
    if serde_json::from_slice::<&serde_json::value::RawValue>(body).is_ok() {
        "application/json"
    } else if std::str::from_utf8(body).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_itself_or_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("payload");
        fs::write(&path, "from a file").unwrap();
        assert_eq!(read(&format!("@{}", path.display())).unwrap(), b"from a file");
        assert_eq!(read("text").unwrap(), b"text");
        assert!(read("@/none/such").unwrap_err().to_string().contains("/none/such"));
    }

    #[test]
    fn json_is_recognised() {
        for (body, expected) in [
            (&br#"{"set-temp": 40}"#[..], "application/json"),
            (b"40", "application/json"),
            (b"on", "text/plain; charset=utf-8"),
            (b"{broken", "text/plain; charset=utf-8"),
            (b"\xff\xfe", "application/octet-stream"),
        ] {
            assert_eq!(content_type(body), expected);
        }
    }
}
