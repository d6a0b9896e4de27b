//! Where the load goes: to this machine and nowhere else.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// The address of a server on this machine. Load is never sent to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loopback(SocketAddr);

impl Loopback {
    /// Makes the address of a port of 127.0.0.1.
    pub(crate) fn port(port: u16) -> Self {
        Self((Ipv4Addr::LOCALHOST, port).into())
    }

    /// Returns the address.
    pub(crate) fn socket(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = match text.strip_prefix("localhost:") {
            Some(port) => port.parse().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).ok(),
            None => text.parse().ok(),
        };
        let address: SocketAddr =
            address.ok_or("expected ADDRESS:PORT of this machine, as 127.0.0.1:1883".to_owned())?;
        if !address.ip().is_loopback() {
            return Err(format!(
                "{} is not a loopback address; load goes to this machine only",
                address.ip()
            ));
        }
        Ok(Self(address))
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_a_target() {
        for good in ["127.0.0.1:1883", "127.8.9.1:1", "[::1]:80", "localhost:8080"] {
            assert!(good.parse::<Loopback>().is_ok(), "{good}");
        }
        for bad in ["10.0.0.1:1883", "0.0.0.0:1883", "[::]:1883", "192.0.2.1:80"] {
            assert!(bad.parse::<Loopback>().unwrap_err().contains("not a loopback address"), "{bad}");
        }
        for bad in ["localhost", "example.com:1883", "127.0.0.1", "localhost:x"] {
            assert!(bad.parse::<Loopback>().unwrap_err().contains("expected ADDRESS:PORT"), "{bad}");
        }
    }
}
