//! sluice-cli
fn main() {}
