//! One file for each thing that the repo server can be asked to do. No HTTP in here.

pub mod approve;
mod deb;
pub mod failure;
pub mod publish;
pub mod retract;
pub mod upload;

pub use failure::Failure;
