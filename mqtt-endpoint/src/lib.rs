//! The mqtt-endpoint.
