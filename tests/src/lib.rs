//! System tests, fault tests and the load tool.
