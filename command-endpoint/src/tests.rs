//! The interface over real sockets, a real registry, and channels in memory or in a file.

mod access;
mod bulk;
mod commands;
mod fixture;
mod outcomes;
mod registry;

pub(crate) use fixture::{Fixture, OPERATOR};
