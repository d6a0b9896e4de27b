//! Kafka, and what its client library does alone on this machine: the floors of the adapter.

pub(crate) mod foreign;
pub(crate) mod latency;
pub(crate) mod sink;

mod bare;
mod record;
mod topics;

use std::fmt;
use std::str::FromStr;

use crate::address::Loopback;

pub(crate) use topics::Topics;

/// Some brokers of a Kafka cluster on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Brokers(Vec<Loopback>);

impl FromStr for Brokers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|address| address.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Brokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, address) in self.0.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{address}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_brokers_are_on_this_machine() {
        let brokers: Brokers = "localhost:9092, 127.0.0.1:9093".parse().unwrap();
        assert_eq!(brokers.to_string(), "127.0.0.1:9092,127.0.0.1:9093");
        for bad in ["", "127.0.0.1:9092,", "127.0.0.1:9092,10.0.0.1:9092"] {
            assert!(bad.parse::<Brokers>().is_err(), "{bad}");
        }
    }
}
