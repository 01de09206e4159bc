//! sluice-agent
fn main() {}
