//! The JSON of a device: in the registry's API, in imports, and as the `spec` of a custom resource.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::auth::Secret;
use crate::id::DeviceId;

/// A device as it is written. Every member is optional; what is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// The device's id. In a `PUT` it may be left out, and must else be the path's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<DeviceId>,
    /// Whether the device may log in; a new device may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Labels for the application's own use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// What the device may log in with. Any one of them is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Vec<Credential>>,
}

/// Something that a device may log in with. It goes in and never comes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Credential {
    /// A password that a person chose; kept as argon2id.
    Password(Secret),
    /// A password's argon2id hash as a PHC string.
    Hash(Secret),
    /// A token of 256 bits, kept as SHA-256; `null` asks for a new one, which is shown once.
    Token(Option<Secret>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_that_of_the_interface() {
        let text = r#"{"name":"d1","enabled":true,"labels":{"a":"b"},
            "credentials":[{"password":"p"},{"hash":"$argon2id$"},{"token":null},{"token":"drogue_x"}]}"#;
        let spec: DeviceSpec = serde_json::from_str(text).unwrap();
        assert_eq!(spec.credentials.unwrap()[2], Credential::Token(None));
        assert_eq!(serde_json::from_str::<DeviceSpec>("{}").unwrap(), DeviceSpec::default());
        let error = serde_json::from_str::<DeviceSpec>(r#"{"labls":{}}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `labls`"), "{error}");
        assert!(serde_json::from_str::<DeviceSpec>(r#"{"credentials":[{"pin":"1"}]}"#).is_err());
    }
}
