//! The shell over a channel and a registry in memory.
