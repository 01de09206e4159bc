//! What the node can be asked to do, one file each.

pub mod advance;
pub mod join;
pub mod restore;
