//! What the agent can be asked to do.

pub mod enrol;
pub mod explain;
pub mod run;
