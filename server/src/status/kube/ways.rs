//! Where the cloud in a cluster is reached, as its objects say, and the section that this makes.

use std::fmt::Write;

use ::kube::api::DynamicObject;
use serde_json::Value;

use super::objects::{Kind, ingress};
use crate::output;
use crate::quickstart::lines::{self, Section};
use crate::quickstart::quote;

/// What the owner of a device knows, and nobody else.
const PASSWORD: &str = "PASSWORD";
/// What the owner of a token knows, as the shell reads it.
const TOKEN: &str = "\"$DROGUE_TOKEN\"";
/// Where the certificate that clients trust is put.
const CA_FILE: &str = "mqtt.crt";
/// The port of MQTT over TLS.
const MQTTS: u16 = 8883;

/// What was read of a namespace.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) namespace: String,
    pub(super) objects: Vec<(Kind, DynamicObject)>,
    /// Kinds that the cluster does not serve.
    pub(super) missing: Vec<Kind>,
    /// A node that can be reached, if one may be read.
    pub(super) node: Option<String>,
}

/// A place that is reached, perhaps only after something was done or known.
#[derive(Debug, PartialEq, Eq)]
struct Way {
    host: String,
    port: u16,
    notes: String,
}

impl Read {
    /// Makes the section "Send commands to the device".
    pub(super) fn section(&self) -> Section {
        let mut section = Section {
            before: format!(
                "{PASSWORD} is that of the device, and $DROGUE_TOKEN holds a token of the application 'default'.\n"
            ),
            ..Section::default()
        };
        if let Some((url, notes)) = self.web("http-endpoint", 8080) {
            section.before += &notes;
            section.publish = Some(lines::publish(&url, PASSWORD, None));
        }
        if let Some((way, ca)) = self.mqtt() {
            section.before += &way.notes;
            section.subscribe = Some(lines::subscribe(&quote(&way.host), way.port, PASSWORD, ca));
        }
        if let Some((url, notes)) = self.web("command-endpoint", 8081) {
            section.before += &notes;
            section.command = Some(lines::command(&url, TOKEN, None));
        }
        section
    }

    /// Finds out the URL of an HTTP endpoint, and what is to be known of it. `local` is the port to forward to it.
    fn web(&self, name: &str, local: u16) -> Option<(String, String)> {
        if let Some(service) = self.object(Kind::KnativeService, name) {
            let Some(url) = service.data["status"]["url"].as_str() else {
                let notes =
                    format!("Knative has not given {name} an address yet: it is left open in the lines.\n");
                return Some((format!("http://ADDRESS-OF-{}", name.to_uppercase()), notes));
            };
            return Some((output::printable(url), of_domain(name, url)));
        }
        let service = self.object(Kind::Service, name)?;
        let port = port(service, &["http", "http1"], local)?;
        let way = self.way(name, service, port, local);
        let host = if way.host.contains(':') { format!("[{}]", way.host) } else { way.host };
        Some((format!("http://{host}:{}", way.port), way.notes))
    }

    /// Finds out where MQTT is, and the file to trust if it is with TLS.
    fn mqtt(&self) -> Option<(Way, Option<&'static str>)> {
        let name = "mqtt-endpoint";
        let service = self.object(Kind::Service, name)?;
        let port = port(service, &["mqtts"], MQTTS).or_else(|| port(service, &["mqtt"], 1883))?;
        let is_tls = port["name"] == "mqtts" || port["port"] == MQTTS;
        let local = if is_tls { MQTTS } else { 1883 };
        let mut way = self.way(name, service, port, local);
        if is_tls {
            way.notes += &self.certificate(&way.host);
        }
        Some((way, is_tls.then_some(CA_FILE)))
    }

    /// Finds out where a port of a Service is reached from outside, or forwards one to it.
    fn way(&self, name: &str, service: &DynamicObject, port: &Value, local: u16) -> Way {
        let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
        let public = number(&port["port"]).unwrap_or(local);
        let kind = service.data["spec"]["type"].as_str().unwrap_or("ClusterIP");
        if let Some(host) = ingress(service).filter(|_| kind == "LoadBalancer") {
            return Way { host: host.to_owned(), port: public, notes: String::new() };
        }
        let node_port = number(&port["nodePort"]).filter(|_| kind != "ClusterIP");
        if let (Some(port), Some(node)) = (node_port, &self.node) {
            return Way { host: node.clone(), port, notes: String::new() };
        }
        let mut notes = match node_port {
            Some(port) => {
                format!("{name} is on port {port} of every node, but no address of a node is known here. ")
            }
            None => format!("{name} has no address outside of the cluster. "),
        };
        // To a string this cannot fail.
        let _written = writeln!(
            notes,
            "In another terminal:\n  kubectl port-forward -n {} service/{name} {local}:{public}",
            quote(&self.namespace)
        );
        Way { host: "127.0.0.1".to_owned(), port: local, notes }
    }

    /// Says how to get the certificate to trust, which the Deployment has from a Secret.
    fn certificate(&self, host: &str) -> String {
        let volumes = self.object(Kind::Deployment, "mqtt-endpoint").map(|deployment| {
            deployment.data["spec"]["template"]["spec"]["volumes"].as_array().into_iter().flatten()
        });
        let secret = volumes.into_iter().flatten().find_map(|volume| volume["secret"]["secretName"].as_str());
        let Some(secret) = secret else {
            return format!("{CA_FILE} is what to trust the certificate of MQTT by.\n");
        };
        format!(
            "What to trust the certificate of MQTT by (it must be made for {host}):\n  \
             kubectl get secret {} -n {} -o \
             go-template='{{{{or (index .data \"ca.crt\") (index .data \"tls.crt\") | base64decode}}}}' > {CA_FILE}\n",
            quote(secret),
            quote(&self.namespace)
        )
    }

    fn object(&self, kind: Kind, name: &str) -> Option<&DynamicObject> {
        let mut objects = self.objects.iter().filter(|(of, _)| *of == kind).map(|(_, object)| object);
        objects.find(|object| object.metadata.name.as_deref() == Some(name))
    }
}

/// Says of a Knative Service's URL where it is good, if not everywhere.
fn of_domain(name: &str, url: &str) -> String {
    let host = url.split("://").last().unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
    if host.ends_with(".svc.cluster.local") {
        format!(
            "{name} has an address inside of the cluster only: Knative knows no domain, or was told so.\n"
        )
    } else if host.ends_with(".example.com") {
        format!("The address of {name} leads nowhere: set a domain in Knative's ConfigMap config-domain.\n")
    } else {
        String::new()
    }
}

/// Returns the port of a Service that has one of the names, or the number.
fn port<'a>(service: &'a DynamicObject, names: &[&str], number: u16) -> Option<&'a Value> {
    let ports = service.data["spec"]["ports"].as_array()?;
    let is_named = |port: &&Value| port["name"].as_str().is_some_and(|name| names.contains(&name));
    ports.iter().find(is_named).or_else(|| ports.iter().find(|port| port["port"] == number))
}

/// Returns the address of a node that is ready, an external one if there is any.
pub(super) fn node_address(nodes: &[DynamicObject]) -> Option<String> {
    let is_ready = |node: &&DynamicObject| {
        let conditions = node.data["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    let of = |kind: &str| {
        let addresses =
            nodes.iter().filter(is_ready).filter_map(|node| node.data["status"]["addresses"].as_array());
        let address = addresses.flatten().find(|address| address["type"] == kind)?;
        address["address"].as_str().map(str::to_owned)
    };
    of("ExternalIP").or_else(|| of("InternalIP"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn knative(name: &str, url: &str) -> (Kind, DynamicObject) {
        let status = if url.is_empty() { json!({}) } else { json!({"url": url}) };
        (Kind::KnativeService, object(json!({"metadata": {"name": name}, "status": status})))
    }

    fn service(name: &str, kind: &str, port: Value, ingress: Value) -> (Kind, DynamicObject) {
        let service = json!({
            "metadata": {"name": name}, "spec": {"type": kind, "ports": [port]},
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        (Kind::Service, object(service))
    }

    fn mqtts(kind: &str, ingress: Value) -> (Kind, DynamicObject) {
        let port = json!({"name": "mqtts", "port": 8883, "nodePort": 30880});
        service("mqtt-endpoint", kind, port, ingress)
    }

    fn section(objects: Vec<(Kind, DynamicObject)>, node: Option<&str>) -> String {
        let namespace = "drogue".to_owned();
        let read = Read { namespace, objects, node: node.map(str::to_owned), ..Read::default() };
        read.section().text()
    }

    #[test]
    fn the_section_has_the_clusters_addresses() {
        let volumes = json!([{"name": "tls", "secret": {"secretName": "mqtt-tls"}}]);
        let deployment = object(json!({
            "metadata": {"name": "mqtt-endpoint"}, "spec": {"template": {"spec": {"volumes": volumes}}}
        }));
        let text = section(
            vec![
                knative("http-endpoint", "http://http-endpoint.drogue.10.0.0.1.sslip.io"),
                knative("command-endpoint", "https://command-endpoint.drogue.io"),
                mqtts("NodePort", json!(null)),
                (Kind::Deployment, deployment),
            ],
            Some("192.168.49.2"),
        );
        assert_eq!(
            text,
            r#"Send commands to the device

PASSWORD is that of the device, and $DROGUE_TOKEN holds a token of the application 'default'.
What to trust the certificate of MQTT by (it must be made for 192.168.49.2):
  kubectl get secret mqtt-tls -n drogue -o go-template='{{or (index .data "ca.crt") (index .data "tls.crt") | base64decode}}' > mqtt.crt
Publish data from the device, and say how long you will wait for a command with 'ttd' (seconds):
  http --auth device_id:PASSWORD POST 'http://http-endpoint.drogue.10.0.0.1.sslip.io/v1/temperature?ttd=30' temp:=42
  curl -u device_id:PASSWORD --json '{"temp": 42}' 'http://http-endpoint.drogue.10.0.0.1.sslip.io/v1/temperature?ttd=30'
Or subscribe with an MQTT client:
  mqtt sub -v -h 192.168.49.2 -p 30880 -u device_id -pw PASSWORD -i device_id -s --cafile mqtt.crt -t cmd -V 3
  mosquitto_sub -v -h 192.168.49.2 -p 30880 -u device_id -P PASSWORD -i device_id --cafile mqtt.crt -t cmd
Send a command to that device from another terminal:
  http -A bearer -a "$DROGUE_TOKEN" POST https://command-endpoint.drogue.io/v1/apps/default/devices/device_id/commands/set-temp set-temp:=40
"#
        );
    }

    #[test]
    fn a_load_balancer_is_reached_on_the_services_port() {
        let text =
            section(vec![mqtts("LoadBalancer", json!([{"hostname": "lb.example.org"}]))], Some("1.2.3.4"));
        assert!(text.contains("-h lb.example.org -p 8883 ") && !text.contains("port-forward"), "{text}");
        assert!(!text.contains("curl") && !text.contains("bearer"), "what is not there is left out: {text}");
    }

    #[test]
    fn what_has_no_address_is_forwarded_to() {
        let forward = "  kubectl port-forward -n drogue service/mqtt-endpoint 8883:8883\n";
        for (mqtt, says) in [
            (mqtts("NodePort", json!(null)), "port 30880 of every node"),
            (mqtts("ClusterIP", json!(null)), "no address outside"),
        ] {
            let text = section(vec![mqtt], None);
            assert!(text.contains(forward) && text.contains(says), "{text}");
            assert!(text.contains("-h 127.0.0.1 -p 8883 "), "{text}");
        }
        let plain = service("mqtt-endpoint", "ClusterIP", json!({"name": "mqtt", "port": 1883}), json!(null));
        let http = service("http-endpoint", "ClusterIP", json!({"port": 8080}), json!(null));
        let text = section(vec![plain, http], Some("1.2.3.4"));
        assert!(text.contains("-h 127.0.0.1 -p 1883 ") && !text.contains("--cafile"), "{text}");
        assert!(text.contains("service/http-endpoint 8080:8080\n"), "{text}");
        assert!(text.contains("'http://127.0.0.1:8080/v1/temperature?ttd=30'"), "{text}");
    }

    #[test]
    fn an_address_that_is_not_known_is_left_open() {
        let text = section(vec![knative("http-endpoint", "")], None);
        assert!(text.contains("not given http-endpoint an address yet"), "{text}");
        assert!(text.contains("'http://ADDRESS-OF-HTTP-ENDPOINT/v1/temperature?ttd=30'"), "{text}");
        let inside = section(vec![knative("command-endpoint", "http://c.drogue.svc.cluster.local")], None);
        assert!(inside.contains("inside of the cluster only"), "{inside}");
        let nowhere = section(vec![knative("command-endpoint", "http://c.drogue.example.com")], None);
        assert!(nowhere.contains("leads nowhere"), "{nowhere}");
    }

    #[test]
    fn a_node_is_reached_by_its_external_address_if_it_has_one() {
        let node = |ready: &str, kind: &str, address: &str| {
            object(json!({"metadata": {}, "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "addresses": [{"type": "Hostname", "address": "n"}, {"type": kind, "address": address}]}}))
        };
        let (inner, outer) = (node("True", "InternalIP", "10.0.0.1"), node("True", "ExternalIP", "1.2.3.4"));
        assert_eq!(node_address(&[inner.clone(), outer]).as_deref(), Some("1.2.3.4"));
        assert_eq!(
            node_address(&[node("False", "ExternalIP", "1.2.3.4"), inner]).as_deref(),
            Some("10.0.0.1")
        );
        assert_eq!(node_address(&[]), None);
    }
}
