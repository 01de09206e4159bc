//! What signed metadata says of content: released artifacts and tombstones.

use crate::{ArtifactId, PatchRef, PatchTarget, PersonName, RingName, Sha256, TargetName, Timestamp};
use serde::{Deserialize, Serialize};

/// One target of a release role, verified: the unit that may be fetched, served and installed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReleasedArtifact {
    /// `patches/<ring>/<file>`.
    pub target: TargetName,
    /// The ring whose role lists it.
    pub ring: RingName,
    /// Length in bytes.
    pub length: u64,
    /// SHA-256 of the whole artifact.
    pub sha256: Sha256,
    /// Everything else.
    pub custom: PatchTarget,
}

/// A signed retraction of one patch, by content. `custom.tombstone` of a `retractions/<serial>` target, whose bytes are
/// the same object as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tombstone {
    /// Format of this object; 1.
    pub schema: u32,
    /// From 1, one more each.
    pub serial: u64,
    /// The patch that was meant; content decides, not this name.
    pub patch: PatchRef,
    /// Every artifact of it, by both hashes.
    pub content: Vec<RetractedContent>,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: PersonName,
    /// When.
    pub at: Timestamp,
}

/// One blocked artifact.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RetractedContent {
    /// SHA-256 of the artifact.
    pub sha256: Sha256,
    /// BLAKE3 of the artifact.
    pub blake3: ArtifactId,
}
