//! Objects against the schemas of CustomResourceDefinitions, as strict as an API server.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{at, documents};

/// Schemas, by `apiVersion` and `kind`.
#[derive(Debug, Default)]
pub struct Definitions(HashMap<(String, String), Value>);

impl Definitions {
    /// Reads the CustomResourceDefinitions in the files of a folder, or in one file.
    ///
    /// # Panics
    /// Panics if there are none, or they cannot be read.
    pub fn read(path: &Path) -> Self {
        let mut files = vec![path.to_owned()];
        if path.is_dir() {
            let entries = fs::read_dir(path).expect("the folder can be read");
            files = entries.map(|entry| entry.expect("it can be listed").path()).collect();
        }
        let mut schemas = HashMap::new();
        for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "yaml"))
        {
            let yaml = fs::read_to_string(file).expect("the file can be read");
            documents(&yaml).iter().for_each(|definition| collect(definition, &mut schemas));
        }
        assert!(!schemas.is_empty(), "{} holds no CustomResourceDefinition", path.display());
        Self(schemas)
    }

    /// Returns what an API server that is strict would object to in an object; `None` if the kind is not defined here.
    pub fn objections(&self, object: &Value) -> Option<Vec<String>> {
        let kind = (at(object, "/apiVersion").to_owned(), at(object, "/kind").to_owned());
        let schema = self.0.get(&kind)?;
        let mut objections = Vec::new();
        for (name, value) in object.as_object().into_iter().flatten() {
            match (name.as_str(), schema.pointer(&format!("/properties/{name}"))) {
                ("apiVersion" | "kind" | "metadata", _) => {}
                (_, Some(property)) => check(value, property, name, &mut objections),
                (_, None) => objections.push(format!("{name}: unknown field")),
            }
        }
        Some(objections)
    }
}

fn collect(definition: &Value, schemas: &mut HashMap<(String, String), Value>) {
    let (group, kind) = (at(definition, "/spec/group"), at(definition, "/spec/names/kind"));
    for version in definition.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten() {
        let Some(schema) = version.pointer("/schema/openAPIV3Schema") else { continue };
        let api_version = format!("{group}/{}", at(version, "/name"));
        schemas.insert((api_version, kind.to_owned()), schema.clone());
    }
}

fn check(value: &Value, schema: &Value, path: &str, objections: &mut Vec<String>) {
    if !is_of_type(value, schema) {
        objections.push(format!("{path}: {value} is not of type {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        objections.push(format!("{path}: {value} is none of {}", schema["enum"]));
    }
    let exceeds = |bound: &str, is_beyond: fn(f64, f64) -> bool| {
        let bound = schema[bound].as_f64();
        value.as_f64().zip(bound).is_some_and(|(value, bound)| is_beyond(value, bound))
    };
    if exceeds("maximum", |value, bound| value > bound) || exceeds("minimum", |value, bound| value < bound) {
        objections.push(format!("{path}: {value} is out of range"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(item, &schema["items"], &format!("{path}[{index}]"), objections);
    }
    if value.is_object() {
        check_object(value, schema, path, objections);
    }
}

fn check_object(value: &Value, schema: &Value, path: &str, objections: &mut Vec<String>) {
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(required).is_none() {
            objections.push(format!("{path}.{required}: missing"));
        }
    }
    let is_open =
        schema["x-kubernetes-preserve-unknown-fields"] == true || schema["additionalProperties"] == true;
    for (name, property) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let known = schema["properties"].get(name);
        match known.or_else(|| schema.get("additionalProperties").filter(|schema| schema.is_object())) {
            Some(schema) => check(property, schema, &path, objections),
            None if is_open => {}
            None => objections.push(format!("{path}: unknown field")),
        }
    }
}

fn is_of_type(value: &Value, schema: &Value) -> bool {
    if schema["x-kubernetes-int-or-string"] == true {
        return value.is_i64() || value.is_string();
    }
    match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some(_) | None => true,
    }
}
