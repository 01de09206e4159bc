//! Logging and metrics of the programs: one way to start the first, one registry for the second.

pub mod log;
pub mod metrics;
