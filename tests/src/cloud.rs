//! A running cloud, in whatever shape: where it listens and what trusts it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;

use crate::api::{Api, http_client};
use crate::tenant::Tenant;

/// Where the parts of a cloud listen; of several of a kind the first. Port 0 is off.
#[derive(Debug, Clone, Deserialize)]
pub struct Addresses {
    /// HTTP for devices.
    pub http: SocketAddr,
    /// HTTP for devices, with TLS.
    pub https: SocketAddr,
    /// MQTT for devices.
    pub mqtt: SocketAddr,
    /// MQTT for devices, with TLS.
    pub mqtts: SocketAddr,
    /// The API.
    pub api: SocketAddr,
    /// The API, with TLS.
    pub api_tls: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
    /// The development CA.
    pub ca: PathBuf,
}

/// Where devices connect.
#[derive(Debug, Clone, Copy)]
pub struct Gate {
    /// Over HTTP.
    pub http: SocketAddr,
    /// Over MQTT.
    pub mqtt: SocketAddr,
}

/// A running cloud, as its users know it.
#[derive(Debug, Clone)]
pub struct Cloud {
    /// Where it listens.
    pub addresses: Addresses,
    /// The API, used by the operator.
    pub operator: Api,
    gates: Arc<[Gate]>,
    next: Arc<AtomicUsize>,
}

impl Cloud {
    /// Reads what a server left in its data directory.
    ///
    /// # Panics
    /// Panics if that is not what the documentation says.
    pub fn of_data_directory(directory: &Path) -> Self {
        let read = |name| std::fs::read_to_string(directory.join(name)).expect("a started server wrote it");
        let addresses: Addresses =
            serde_json::from_str(&read("addresses.json")).expect("all listeners are on");
        let operator = Api::new(addresses.api, read("admin-token").trim());
        let gate = Gate { http: addresses.http, mqtt: addresses.mqtt };
        Self::new(addresses, operator, vec![gate])
    }

    /// Describes a cloud with several ways in.
    pub fn new(addresses: Addresses, operator: Api, gates: Vec<Gate>) -> Self {
        Self { addresses, operator, gates: gates.into(), next: Arc::default() }
    }

    /// Returns where devices connect: of several gates one after the other.
    pub fn gate(&self) -> Gate {
        self.gates[self.next.fetch_add(1, Ordering::Relaxed) % self.gates.len()]
    }

    /// Returns all gates.
    pub fn gates(&self) -> &[Gate] {
        &self.gates
    }

    /// Makes an application that no other test uses.
    ///
    /// # Panics
    /// Panics if the API refuses.
    pub async fn tenant(&self) -> Tenant {
        Tenant::create(self).await
    }

    /// Reads a metric, summed over those labels that are not in `labels`. One that is not there is 0.
    ///
    /// # Panics
    /// Panics if the admin port does not answer.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        sum_of(&self.admin("metrics").await.1, name, labels)
    }

    /// Asks the admin port for `healthz`, `readyz` or `metrics`; returns status and body.
    ///
    /// # Panics
    /// Panics if it does not answer.
    pub async fn admin(&self, what: &str) -> (u16, String) {
        let url = format!("http://{}/{what}", self.addresses.admin);
        let response = http_client().get(url).send().await.expect("the admin port answers");
        let status = response.status().as_u16();
        (status, response.text().await.expect("the answer has a body"))
    }
}

/// Sums a metric in the text of Prometheus, over those labels that are not in `labels`.
pub(crate) fn sum_of(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
    };
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
    text.lines().filter(fits).filter_map(value).sum()
}
