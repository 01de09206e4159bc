//! The Debian repository of a ring: which indices apt reads, byte for byte.
//!
//! Rows of the ring's release role and the control files of their packages go in, index files come out. Pure: no disk, no
//! clock, no key. The repo server plans ([`plan`]), signs the text of `Release` elsewhere, and publishes the finished
//! [`AptDocument`] as a signed document; a node reads it back ([`AptDocument::read`]) and composes the very files
//! ([`AptDocument::compose`]) that `Release` lists.
//!
//! Invariants
//! - A file that is composed has the hashes that its generation's `Release` names, or nothing is composed.
//! - Generations only grow in number and in time; the newest is the first; a renewal of dates is no new generation.
//! - A document is never larger than [`sluice_model::limits::DOCUMENT_BYTES_MAX`].

mod compose;
mod document;
mod plan;
mod release;
mod stanza;

pub use compose::{ComposeError, Composed, ComposedFile};
pub use document::{AptDocument, Generation, IndexFile, ReadError};
pub use plan::{Plan, PlanError, Planned, Row, Terms, plan};
pub use stanza::{CONTROL_BYTES_MAX, ControlError, check_control, pool_path};

use sluice_model::{RingName, Sha256, Sha512, TargetName};

/// Where the indices are below the repository of a ring.
pub const SUITE: &str = "stable";
/// The one component.
pub const COMPONENT: &str = "main";
/// Generations that are kept: the newest, and three before it for an apt that read an older `InRelease`.
pub const GENERATIONS_MAX: usize = 4;
/// The documents' names begin with this; the ring follows.
pub const DOCUMENT_PREFIX: &str = "policy/apt-";

/// Name of the document of a ring.
pub fn document_name(ring: &RingName) -> TargetName {
    format!("{DOCUMENT_PREFIX}{ring}").parse().expect("a ring name makes a target name")
}

pub(crate) fn sha256(bytes: &[u8]) -> Sha256 {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut out = [0; Sha256::LEN];
    out.copy_from_slice(digest.as_ref());
    Sha256::from_bytes(out)
}

pub(crate) fn sha512(bytes: &[u8]) -> Sha512 {
    let digest = ring::digest::digest(&ring::digest::SHA512, bytes);
    let mut out = [0; Sha512::LEN];
    out.copy_from_slice(digest.as_ref());
    Sha512::from_bytes(out)
}

#[cfg(test)]
mod tests;
