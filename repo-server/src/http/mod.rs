//! HTTP of the repo server: one file per resource. Handlers read the request, call one operation and write the answer.

mod admin;
mod apt;
mod audit;
mod authenticate;
mod authority;
mod bans;
mod ceremonies;
mod compliance;
pub mod content;
mod csv_table;
pub mod device;
mod endpoints;
pub mod extract;
mod health;
mod log;
mod nodes;
mod openapi;
mod outcomes;
mod patches;
pub mod problem;
pub mod request;
pub mod requests;
mod retractions;
mod route;
mod router;
pub mod serve;
mod sites;
pub mod status;
mod suspensions;
mod tokens;
mod tuf;
mod uploads;

pub use authenticate::{DeviceCaller, Encrypted, Remote};
pub use openapi::openapi;
pub use route::{Route, narrow_route, route};
#[cfg(test)]
pub use router::admin_actions;
pub use router::{device_router, public_router};
