//! System tests, fault tests and the load tool. This is their harness: the real server, devices and applications as their users have them.
//!
//! A test asks [`server::shared`] (or starts a [`server::Server`] of its own) for a [`cloud::Cloud`], makes a
//! [`tenant::Tenant`] in it, so that tests do not meet, and lets a [`devices::DeviceDriver`] play the device while
//! [`api::Api`] plays the application. The clients here share no code with the server: HTTP is reqwest or bare TCP,
//! MQTT is the codec in [`mqtt`], so that a mistake in the server's codec is not repeated in the test's.
//!
//! Invariants: a test waits for a condition ([`wait`]), never for a fixed time; every secret and payload that the
//! harness makes carries [`secrets::MARK`], and no server may log it.

pub mod actors;
pub mod api;
pub mod binary;
pub mod brokers;
pub mod chaos;
pub mod clients;
pub mod cloud;
pub mod contract;
pub mod control;
pub mod daemon;
pub mod deploy;
pub mod devices;
pub mod events;
pub mod faults;
pub mod fleet;
pub mod history;
pub mod kafka;
pub mod knative;
pub mod kube;
pub mod mqtt;
pub mod outcomes;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod publishers;
pub mod raw;
pub mod returning;
pub mod scenarios;
pub mod secrets;
pub mod secured;
pub mod server;
pub mod tenant;
pub mod wait;
pub mod waiting;
