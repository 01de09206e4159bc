//! `sluice-repo`: the repository server.

mod authority;
mod authorize;
mod clock;
mod draft;
mod http;
mod operations;
mod served;
mod state;

fn main() {}
