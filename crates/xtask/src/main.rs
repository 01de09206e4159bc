//! sluice-xtask
fn main() {}
