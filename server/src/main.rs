//! The binary `drogue`.
fn main() {}
