//! The definitions of the custom resources, as the API server takes them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::error::ControllerError;
use super::resources::{Application, Device};

const HEAD: &str = "# Made by `drogue controller --print-crds`.\n";

/// Returns the definitions of the custom resources.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [Application::crd(), Device::crd()]
}

/// Writes the definitions as YAML.
///
/// # Errors
/// Fails if they have no form in YAML, which no definition does.
pub fn print() -> Result<String, ControllerError> {
    let mut text = HEAD.to_owned();
    for definition in definitions() {
        let yaml = serde_saphyr::to_string(&definition);
        text += "---\n";
        text += yaml.map_err(|error| ControllerError::Definition(error.to_string()))?.trim_end();
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use common::kubernetes::{GROUP, NAMESPACE_LABEL};

    use super::*;
    use crate::controller::context::FINALIZER;

    #[test]
    fn the_definitions_that_are_deployed_are_those_that_are_printed() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/base/crds.yaml");
        let deployed = std::fs::read_to_string(path).unwrap();
        let stale = "write it anew: `cargo run -- controller --print-crds > deploy/base/crds.yaml`";
        assert!(deployed == print().unwrap(), "{stale}");
    }

    #[test]
    fn the_group_is_that_of_rights_and_labels() {
        for definition in definitions() {
            assert_eq!(definition.spec.group, GROUP);
        }
        assert_eq!(NAMESPACE_LABEL.strip_prefix(GROUP), Some("/namespace"));
        assert_eq!(FINALIZER.strip_prefix(GROUP), Some("/registry"));
    }

    #[test]
    fn conditions_are_merged_by_their_type() {
        for definition in definitions() {
            let json = serde_json::to_value(&definition).unwrap();
            let schema = &json["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let conditions = &schema["properties"]["status"]["properties"]["conditions"];
            assert_eq!(conditions["x-kubernetes-list-type"], "map", "{conditions}");
        }
    }
}
