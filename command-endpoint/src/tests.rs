//! The interface over real sockets, a real registry, and channels in memory or in a file.

mod access;
mod bulk;
pub(crate) mod cluster;
mod commands;
mod fixture;
mod identities;
mod outcomes;
mod pushed;
mod registry;

pub(crate) use fixture::{Fixture, OPERATOR};
