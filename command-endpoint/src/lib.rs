//! The command-endpoint.
