//! The agent of a managed machine: decides (with `rollout`), fetches, verifies, installs, proves, reports, rolls back.
//!
//! One pass (`pass`) is: look at the signed metadata through a node of the site, decide for each patch name, act, write
//! the outcome into the journal. A second task delivers the journal until the repository's signed acknowledgement is
//! back. What is installed is what dpkg says, never what was attempted.
//!
//! Invariants
//! - Nothing is handed to dpkg before its length and SHA-256 matched the signed metadata.
//! - dpkg is never forced past a dependency, and a set is installed whole or taken back.
//! - Every outcome is durable in the journal before anybody is told.
//! - A signal never interrupts dpkg: the agent waits for it.

pub mod clock;
pub mod dpkg;
pub mod operations;
pub mod wiring;

mod act;
mod delivery;
mod delivery_loop;
mod documents;
mod download;
mod enrolment;
mod folder;
mod memory;
mod nodes;
mod pass;
mod poll_loop;
mod progress;
mod report;
mod restate;
mod restore;
mod shelf;
mod transaction;
mod trust;

#[cfg(test)]
mod tests;
