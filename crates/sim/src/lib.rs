//! Deterministic simulation: the real deciding code, everything around it simulated from a seed.
//!
//! - [`site`]: the nodes of one site that fetch one artifact.
//! - [`seeds`]: random faults from a seed, and what must hold whatever they are.

pub mod seeds;
pub mod site;
