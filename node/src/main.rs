//! sluice-node-server
fn main() {}
