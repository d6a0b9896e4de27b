//! System tests, fault tests and the load tool.

pub mod contract;
