//! The http-endpoint.
