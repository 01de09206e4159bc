//! HTTP of the node, one file per resource.

pub mod caller;
pub mod connection;
pub mod content;
pub mod problem;
pub mod serve;
pub mod tuf;
