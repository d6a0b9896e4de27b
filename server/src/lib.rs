//! The whole cloud in one process, and its command line.

pub mod addresses;
pub mod certificates;
pub mod cli;
pub mod client;
pub mod controller;
pub mod data_dir;
pub mod first_start;
pub mod output;
pub mod quickstart;
pub mod status;
pub mod up;
