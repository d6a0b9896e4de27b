//! Listeners: where a server listens, and with which certificate.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Protocol, Socket, Type};

/// How many connections wait to be accepted; the system may hold fewer. The standard library's 128 are too few for a
/// fleet that comes back after a restart: the others would try again after a second, and then after two.
const BACKLOG: i32 = 4096;

/// Where to listen, as an option says it: an address and a port, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Listen here. Port 0 takes a free one.
    At(SocketAddr),
    /// Do not listen.
    Off,
}

impl Listen {
    /// Binds the address that `option` gave.
    ///
    /// # Errors
    /// Names the address that is not to be had, and the option.
    pub fn bind(self, option: &'static str) -> Result<Option<TcpListener>, NetError> {
        match self {
            Self::At(address) => {
                listener(address).map(Some).map_err(|source| NetError::Bind { address, source, option })
            }
            Self::Off => Ok(None),
        }
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // As the standard library does on Unix, so that a restarted server gets its port back.
    socket.set_reuse_address(cfg!(unix))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => text
                .parse()
                .map(Self::At)
                .map_err(|_| "expected ADDRESS:PORT, as 127.0.0.1:8080 or [::1]:8080, or 'off'".to_owned()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
}

/// The bound sockets of one server. Either may be left out.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For plain connections.
    pub plain: Option<TcpListener>,
    /// For TLS connections, with the configuration that they get.
    pub tls: Option<(TcpListener, Arc<ServerConfig>)>,
}

impl Listeners {
    /// Binds the sockets of one server, each where the option of that name says. Without a certificate there is none
    /// for TLS.
    ///
    /// # Errors
    /// Names the address that is not to be had, and the option.
    pub fn bind(
        (plain, plain_option): (Listen, &'static str),
        (tls, tls_option): (Listen, &'static str),
        certificate: Option<&Arc<ServerConfig>>,
    ) -> Result<Self, NetError> {
        let plain = plain.bind(plain_option)?;
        let tls = match certificate {
            Some(certificate) => tls.bind(tls_option)?.map(|listener| (listener, certificate.clone())),
            None => None,
        };
        Ok(Self { plain, tls })
    }

    /// Tells whether there is anything to listen on.
    pub fn is_on(&self) -> bool {
        self.plain.is_some() || self.tls.is_some()
    }

    /// Returns the addresses of the plain socket and of that for TLS.
    pub fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let plain = self.plain.as_ref().and_then(|listener| listener.local_addr().ok());
        let tls = self.tls.as_ref().and_then(|(listener, _)| listener.local_addr().ok());
        (plain, tls)
    }
}

/// Says why a server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The address is not to be had.
    #[error("cannot listen on {address}: {source}; choose another address or 'off' (option {option})")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
        /// The option that gave the address.
        option: &'static str,
    },
    /// A PEM file cannot be read or has nothing of the kind.
    #[error("cannot read {what} from {path}: {reason}")]
    Pem {
        /// What was sought.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it was not found.
        reason: String,
    },
    /// The key does not fit the certificate, or is of an unknown kind.
    #[error("certificate and key do not make a TLS server: {0}")]
    Tls(#[from] rustls::Error),
}

/// Loads a certificate chain and its key, both PEM, for TLS 1.2 and 1.3.
///
/// # Errors
/// Names the file that is of no use.
pub fn load_tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, NetError> {
    let failed = |what, path: &Path, reason: String| NetError::Pem { what, path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|error| failed("a certificate", certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(failed("a certificate", certificate, "there is none".to_owned()));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| failed("a private key", key, error.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn listen_is_an_address_or_off() {
        assert_eq!("off".parse(), Ok(Listen::Off));
        assert_eq!("[::1]:80".parse::<Listen>().map(|listen| listen.to_string()), Ok("[::1]:80".into()));
        assert!("localhost".parse::<Listen>().is_err());
        assert!("127.0.0.1".parse::<Listen>().is_err());
    }

    #[test]
    fn a_fleet_may_connect_before_anybody_is_accepted() {
        let listen: Listen = "127.0.0.1:0".parse().unwrap();
        let listener = listen.bind("--listen").unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        // With a shorter queue, the kernel drops the connection's first packet and its sender waits.
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(900));
        let connected: Result<Vec<_>, _> = (0..400).map(connect).collect();
        assert_eq!(connected.unwrap().len(), 400);
    }

    #[test]
    fn without_a_certificate_only_plain_is_bound() {
        let free = Listen::At("127.0.0.1:0".parse().unwrap());
        let bound = Listeners::bind((free, "--listen"), (free, "--tls-listen"), None).unwrap();
        assert!(matches!(bound.addresses(), (Some(address), None) if address.port() != 0));
        let taken = Listen::At(bound.addresses().0.unwrap());
        let error = taken.bind("--listen").unwrap_err().to_string();
        assert!(error.contains(&taken.to_string()) && error.ends_with("(option --listen)"), "{error}");
    }

    #[test]
    fn errors_name_the_file() {
        let error = load_tls(Path::new("/none.crt"), Path::new("/none.key")).unwrap_err().to_string();
        assert!(error.contains("/none.crt"), "{error}");
    }
}
