//! What signed metadata says of content: released artifacts and tombstones.

use crate::{ArtifactId, PatchRef, PatchTarget, PersonName, RingName, Sha256, TargetName, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// Where the patch stood in the order of approvals, by ring: what was approved before it is the way back.
    #[serde(default)]
    pub approved: BTreeMap<RingName, u64>,
}

/// A retraction that was folded into an archive: what must stay blocked, without the words. The words are in the
/// repository's own records and audit log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchivedTombstone {
    /// Serial of the tombstone.
    pub serial: u64,
    /// The patch that was meant.
    pub patch: PatchRef,
    /// Every artifact of it, by both hashes.
    pub content: Vec<RetractedContent>,
    /// Where the patch stood in the order of approvals, by ring.
    #[serde(default)]
    pub approved: BTreeMap<RingName, u64>,
    /// When.
    pub at: Timestamp,
}

/// `retractions/archive-NNNN`: the oldest tombstones, when the role would list more than it may.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TombstoneArchive {
    /// Format; 1.
    pub schema: u32,
    /// Ascending by serial, without a gap.
    pub tombstones: Vec<ArchivedTombstone>,
}

impl ArchivedTombstone {
    /// As a tombstone again, with a reason that says where the words are.
    pub fn restore(&self) -> Tombstone {
        Tombstone {
            schema: 1,
            serial: self.serial,
            patch: self.patch.clone(),
            content: self.content.clone(),
            reason: format!("folded into an archive; `sluice retractions show {}` has the reason", self.serial),
            by: "archive".parse().expect("a valid name"),
            at: self.at,
            approved: self.approved.clone(),
        }
    }
}

impl From<&Tombstone> for ArchivedTombstone {
    fn from(tombstone: &Tombstone) -> Self {
        Self {
            serial: tombstone.serial,
            patch: tombstone.patch.clone(),
            content: tombstone.content.clone(),
            approved: tombstone.approved.clone(),
            at: tombstone.at,
        }
    }
}

/// Lifts one tombstone in one ring: `custom.reinstatement` of a `patches/<ring>/reinstated-<serial>` target in the
/// ring's own release role, whose bytes are the same object as JSON. Nothing else lifts a retraction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reinstatement {
    /// Format; 1.
    pub schema: u32,
    /// Serial of the tombstone that no longer counts in the ring.
    pub serial: u64,
    /// The patch of that tombstone.
    pub patch: PatchRef,
    /// Why.
    pub reason: String,
    /// The two people.
    pub by: Vec<PersonName>,
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
