//! `sluice-node`: a site's caching node.

mod clock;
mod counters;
mod exchange_loop;
mod fetch;
mod http;
mod view;

fn main() {}
