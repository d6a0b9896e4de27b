//! The custom resources: applications and devices as Kubernetes has them.

#![expect(clippy::duplicated_attributes, reason = "columns that are printed have their types")]
#![expect(unreachable_pub, reason = "the derive of the schema has copies of the structs of its own")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The condition that says whether the registry has what the resource says.
pub const READY: &str = "Ready";
/// The condition that says whether a device can be reached.
pub const CONNECTED: &str = "Connected";

/// An application: its id in the cloud is the name of the resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "iot.drogue.io",
    version = "v1",
    kind = "Application",
    namespaced,
    status = "ApplicationStatus",
    derive = "PartialEq",
    doc = "An application of the IoT cloud, the owner of devices. Its id in the cloud is the name of the resource.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationSpec {
    /// Labels in the registry, for the application's own use. The controller adds `iot.drogue.io/namespace`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What became of an application.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationStatus {
    /// The generation of the resource that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: whether the registry has what the resource says.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A device of an application.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "iot.drogue.io",
    version = "v1",
    kind = "Device",
    namespaced,
    status = "DeviceStatus",
    derive = "PartialEq",
    doc = "A device of an application of the IoT cloud.",
    printcolumn(name = "Application", type_ = "string", json_path = ".spec.application"),
    printcolumn(name = "Id", type_ = "string", json_path = ".status.id"),
    printcolumn(
        name = "Connected",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Connected\")].status"
    ),
    printcolumn(name = "Over", type_ = "string", json_path = ".status.connection.protocol"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.connection.since"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new(
    "has(self.id) == has(oldSelf.id) && (!has(self.id) || self.id == oldSelf.id)"
).message("the id cannot be changed: make another Device, and delete this one"))]
#[serde(rename_all = "camelCase")]
pub struct DeviceSpec {
    /// The `Application` of the same namespace that the device belongs to. It cannot be changed.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("the application cannot be changed: make another Device, and delete this one"))]
    pub application: String,
    /// The device's id in the cloud, by default the name of the resource: ids may have characters that names of
    /// Kubernetes may not, as `device_id`. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub id: Option<String>,
    /// Whether the device may log in.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Labels in the registry, for the application's own use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What the device may log in with. Any one of them is enough; without any it cannot log in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub credentials: Vec<CredentialSource>,
}

fn enabled() -> bool {
    true
}

/// Where a credential of a device comes from: a Secret of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CredentialSource {
    /// A password that a person chose. The registry gets its argon2id hash.
    PasswordSecret(SecretKey),
    /// A token: `drogue_` and 43 base64url characters.
    TokenSecret(SecretKey),
    /// The argon2id hash of a password, as a PHC string.
    HashSecret(SecretKey),
}

impl CredentialSource {
    /// Returns where in which Secret it is.
    pub fn secret(&self) -> &SecretKey {
        match self {
            Self::PasswordSecret(key) | Self::TokenSecret(key) | Self::HashSecret(key) => key,
        }
    }
}

/// A key of a Secret. A line break at the end of its value is left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SecretKey {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What became of a device, and how it can be reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus {
    /// The generation of the resource that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The device's id in the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `Ready`: whether the registry has what the resource says. `Connected`: whether commands can reach the device.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How the device can be reached, or since when it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionStatus>,
}

/// How a device can be reached, or since when it cannot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStatus {
    /// The protocol by which it came, as `mqtt`; none while it is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Since when it can be reached without a break of more than some seconds, or since when it is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

impl Application {
    /// Returns the condition `Ready`, if it was looked at.
    pub fn ready(&self) -> Option<&Condition> {
        self.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == READY)
    }

    /// Tells whether the registry is known to have had what the resource says.
    pub fn is_ready(&self) -> bool {
        let is_current = |ready: &Condition| ready.observed_generation == self.metadata.generation;
        self.ready().is_some_and(|ready| ready.status == "True" && is_current(ready))
    }
}

impl Device {
    /// Returns the device's id as the resource says it; it may be none.
    pub fn id(&self) -> &str {
        self.spec.id.as_deref().or(self.metadata.name.as_deref()).unwrap_or_default()
    }
}
