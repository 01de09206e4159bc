//! HTTP of the node, one file per resource.

pub mod content;
pub mod serve;
pub mod tuf;
