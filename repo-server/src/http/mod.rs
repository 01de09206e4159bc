//! HTTP of the repo server: one file per resource. Handlers read the request, call one operation and write the answer.

mod admin;
mod authenticate;
pub mod content;
pub mod device;
pub mod extract;
mod health;
mod patches;
pub mod problem;
pub mod request;
mod retractions;
mod route;
mod router;
pub mod serve;
pub mod status;
mod tuf;
mod uploads;

pub use authenticate::{DeviceCaller, Remote};
pub use route::{Route, route};
pub use router::{device_router, openapi, public_router};
