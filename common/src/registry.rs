//! The registry: applications, devices, credentials and tokens, in SQL.
