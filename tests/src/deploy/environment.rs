//! What the manifests tell each program, as it would find it in its Pod.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{at, named};
use crate::binary;

/// What is in Secrets that a user makes, by name and key.
const SECRETS: [(&str, &str, &str); 2] = [
    ("database", "url", "postgres://drogue:placeholder@127.0.0.1:1/drogue"),
    ("operator", "token", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
];

/// A program of ours in the Pod of a manifest.
#[derive(Debug)]
pub struct Program {
    /// The object whose Pods run it.
    pub object: String,
    /// The file.
    pub path: &'static Path,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment, complete.
    pub environment: Vec<(String, String)>,
}

/// Returns our programs in the Pods of an overlay, with files of theirs, as of mounted Secrets, below `directory`.
///
/// # Panics
/// Panics if something that is referred to is not there.
pub fn programs(objects: &[Value], directory: &Path) -> Vec<Program> {
    let mut found = Vec::new();
    for object in objects {
        let containers = object.pointer("/spec/template/spec/containers").and_then(Value::as_array);
        for container in containers.into_iter().flatten() {
            let Some(path) = program(at(container, "/image")) else { continue };
            let mut environment = environment(objects, container);
            if let Some(sink) = sink(objects, object) {
                // A SinkBinding without overrides sets them all the same, to nothing.
                environment
                    .extend([("K_SINK".to_owned(), sink), ("K_CE_OVERRIDES".to_owned(), String::new())]);
            }
            mount(object, container, &mut environment, directory);
            let arguments = texts(&container["args"]).collect();
            found.push(Program { object: named(object), path, arguments, environment });
        }
    }
    found
}

/// Images are named like the programs in them.
fn program(image: &str) -> Option<&'static Path> {
    let name = image.rsplit('/').next().and_then(|name| name.split(':').next());
    match name? {
        "http-endpoint" => Some(binary::endpoint("http-endpoint")),
        "mqtt-endpoint" => Some(binary::endpoint("mqtt-endpoint")),
        "command-endpoint" => Some(binary::endpoint("command-endpoint")),
        "drogue" => Some(binary::drogue()),
        _ => None,
    }
}

fn environment(objects: &[Value], container: &Value) -> Vec<(String, String)> {
    let mut environment = Vec::new();
    for source in container["envFrom"].as_array().into_iter().flatten() {
        let name = at(source, "/configMapRef/name");
        let is_it = |object: &&Value| object["kind"] == "ConfigMap" && at(object, "/metadata/name") == name;
        let map = objects.iter().find(is_it);
        let data =
            map.unwrap_or_else(|| panic!("there is no ConfigMap {name}: {source}"))["data"].as_object();
        let entries = data.into_iter().flatten();
        environment.extend(
            entries.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())),
        );
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        let secret = variable.pointer("/valueFrom/secretKeyRef");
        let value = secret.map_or_else(|| at(variable, "/value"), |reference| placeholder(reference));
        environment.push((at(variable, "/name").to_owned(), value.to_owned()));
    }
    environment
}

fn placeholder(reference: &Value) -> &'static str {
    let (name, key) = (at(reference, "/name"), at(reference, "/key"));
    let found = SECRETS.iter().find(|(secret, its_key, _)| (*secret, *its_key) == (name, key));
    found.unwrap_or_else(|| panic!("nothing says that a user makes a Secret '{name}' with a key '{key}'")).2
}

/// Returns what the SinkBinding of an object would put into `K_SINK`.
fn sink(objects: &[Value], subject: &Value) -> Option<String> {
    let is_of = |binding: &&Value| {
        let its = |field: &str| &binding["spec"]["subject"][field];
        binding["kind"] == "SinkBinding"
            && *its("apiVersion") == subject["apiVersion"]
            && *its("kind") == subject["kind"]
            && *its("name") == subject["metadata"]["name"]
    };
    let bindings: Vec<_> = objects.iter().filter(is_of).collect();
    assert!(bindings.len() <= 1, "two SinkBindings on {} overwrite each other", named(subject));
    let channel = &bindings.first()?["spec"]["sink"]["ref"];
    let is_it = |object: &&Value| {
        object["kind"] == channel["kind"]
            && object["apiVersion"] == channel["apiVersion"]
            && object["metadata"]["name"] == channel["name"]
    };
    assert!(objects.iter().any(|object| is_it(&object)), "there is no channel {channel}");
    Some(format!("http://{}-kn-channel.drogue.svc.cluster.local", at(channel, "/name")))
}

/// Makes the files of a certificate where one is mounted, and lets the environment name them.
fn mount(object: &Value, container: &Value, environment: &mut [(String, String)], directory: &Path) {
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        let volumes = object.pointer("/spec/template/spec/volumes").and_then(Value::as_array);
        let volume = volumes.into_iter().flatten().find(|volume| volume["name"] == mount["name"]);
        let volume = volume.unwrap_or_else(|| panic!("{} has no volume {}", named(object), mount["name"]));
        assert!(volume["secret"].is_object(), "{} mounts something else than a Secret", named(object));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let place = directory.join(at(mount, "/name"));
        fs::create_dir_all(&place).expect("it can be made");
        fs::write(place.join("tls.crt"), made.cert.pem()).expect("it can be written");
        fs::write(place.join("tls.key"), made.signing_key.serialize_pem()).expect("it can be written");
        for (_, value) in environment.iter_mut() {
            *value = value.replace(at(mount, "/mountPath"), &place.display().to_string());
        }
    }
}

fn texts(array: &Value) -> impl Iterator<Item = String> {
    array.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned)
}
