//! sluice-repo-server
fn main() {}
