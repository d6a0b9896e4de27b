//! System tests on a real Kafka: the endpoints as separate processes, several of each, and brokers that fail.
//!
//! They take brokers from `KAFKA_BOOTSTRAP_SERVERS`, and say that they are skipped where it names none.

#![expect(clippy::unwrap_used, reason = "a test that unwraps in vain fails, which is what it is for")]

mod foreign;
mod histories;
mod kept_commands;
mod outages;
mod replicas;
mod scenarios;
#[cfg(feature = "kafka-tls")]
mod security;
mod topics;
