//! The channel adapter for one machine: a durable log in one SQLite file.
