//! Where a server listens, as `drogue up` leaves it in the data directory for `drogue status`.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::data_dir::DataDir;

/// One of the places where a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// What it is for, in words.
    pub name: &'static str,
    /// The scheme of its URL.
    pub scheme: &'static str,
    /// The part that `/readyz` answers for.
    pub part: Option<&'static str>,
    /// Where it is, unless it is off.
    pub address: Option<SocketAddr>,
}

impl Listener {
    /// Returns its URL, unless it is off.
    pub fn url(&self) -> Option<String> {
        self.address.map(|address| format!("{}://{address}", self.scheme))
    }
}

/// The addresses of the listeners; one that is off is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// HTTP for devices.
    pub http: Option<SocketAddr>,
    /// HTTPS for devices.
    pub https: Option<SocketAddr>,
    /// MQTT for devices.
    pub mqtt: Option<SocketAddr>,
    /// MQTT over TLS for devices.
    pub mqtts: Option<SocketAddr>,
    /// HTTP for applications.
    pub api: Option<SocketAddr>,
    /// HTTPS for applications.
    pub api_tls: Option<SocketAddr>,
    /// Health and metrics.
    pub admin: Option<SocketAddr>,
    /// What a client must trust to connect with TLS, as an absolute path to a PEM file.
    pub ca: PathBuf,
    /// Whether the certificate is the development certificate, which fits local names only.
    pub development: bool,
}

impl Addresses {
    const FILE: &str = "addresses.json";

    /// Returns the listeners in the order in which they are shown.
    pub fn listeners(&self) -> [Listener; 7] {
        let listener = |name, scheme, part, address| Listener { name, scheme, part, address };
        [
            listener("HTTP for devices", "http", Some("http"), self.http),
            listener("HTTP for devices, TLS", "https", Some("http"), self.https),
            listener("MQTT for devices", "mqtt", Some("mqtt"), self.mqtt),
            listener("MQTT for devices, TLS", "mqtts", Some("mqtt"), self.mqtts),
            listener("applications", "http", Some("api"), self.api),
            listener("applications, TLS", "https", Some("api"), self.api_tls),
            listener("health and metrics", "http", None, self.admin),
        ]
    }

    /// Returns where a client on this machine reaches the devices' HTTP interface, plain if that is on.
    pub fn http_url(&self) -> Option<String> {
        web_url(self.http, self.https)
    }

    /// Returns where a client on this machine reaches the application interface, plain if that is on.
    pub fn api_url(&self) -> Option<String> {
        web_url(self.api, self.api_tls)
    }

    /// Tells whether a URL is that of the application interface, plain or with TLS.
    pub fn has_api(&self, url: &str) -> bool {
        let url = url.trim_end_matches('/');
        [web_url(self.api, None), web_url(None, self.api_tls)].into_iter().flatten().any(|own| own == url)
    }

    /// Tells whether nobody on another machine can connect.
    pub fn are_loopback(&self) -> bool {
        self.listeners()
            .iter()
            .filter_map(|listener| listener.address)
            .all(|address| address.ip().is_loopback())
    }

    /// Reads what a server left in its data directory; `None` if no server was ever started there.
    ///
    /// # Errors
    /// Names the file if it cannot be read.
    pub fn load(data: &DataDir) -> anyhow::Result<Option<Self>> {
        let path = data.file(Self::FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let addresses = serde_json::from_str(&text).with_context(|| {
            format!("{} is not what `drogue up` writes; start the server anew", path.display())
        })?;
        Ok(Some(addresses))
    }

    /// Leaves the addresses in the data directory.
    ///
    /// # Errors
    /// Names the file if it cannot be written.
    pub fn save(&self, data: &DataDir) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot write the addresses as JSON")?;
        data.write_public(Self::FILE, &(text + "\n"))
    }
}

fn web_url(plain: Option<SocketAddr>, tls: Option<SocketAddr>) -> Option<String> {
    let url = |scheme, address| format!("{scheme}://{}", reachable(address));
    plain.map(|address| url("http", address)).or_else(|| tls.map(|address| url("https", address)))
}

/// Returns where a client on this machine reaches a listener: one on all addresses is on the loopback address too.
pub fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, listener.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_reached_on_loopback() {
        for (listener, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("127.0.0.2:80", "127.0.0.2:80"),
        ] {
            assert_eq!(reachable(listener.parse().unwrap()).to_string(), expected);
        }
    }

    #[test]
    fn one_open_listener_is_not_loopback() {
        let mut addresses = Addresses { http: "127.0.0.1:80".parse().ok(), ..Addresses::default() };
        addresses.api = "[::1]:81".parse().ok();
        assert!(addresses.are_loopback());
        addresses.admin = "0.0.0.0:82".parse().ok();
        assert!(!addresses.are_loopback());
    }

    #[test]
    fn the_own_interface_is_known_by_its_url() {
        let addresses = Addresses {
            http: "127.0.0.1:80".parse().ok(),
            api: "0.0.0.0:81".parse().ok(),
            api_tls: "127.0.0.1:82".parse().ok(),
            ..Addresses::default()
        };
        assert!(addresses.has_api("http://127.0.0.1:81/") && addresses.has_api("https://127.0.0.1:82"));
        for other in ["http://127.0.0.1:80", "http://127.0.0.1:82", "https://example.com"] {
            assert!(!addresses.has_api(other), "{other}");
        }
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::at(directory.path()).unwrap();
        assert_eq!(Addresses::load(&data).unwrap(), None);
        let addresses =
            Addresses { mqtts: "[::1]:8883".parse().ok(), ca: "/x".into(), ..Addresses::default() };
        addresses.save(&data).unwrap();
        assert_eq!(Addresses::load(&data).unwrap(), Some(addresses));
        fs::write(data.file(Addresses::FILE), "{}").unwrap();
        let error = Addresses::load(&data).unwrap_err().to_string();
        assert!(error.contains("addresses.json"), "{error}");
    }
}
