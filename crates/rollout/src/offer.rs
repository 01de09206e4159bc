//! Of the rows that a ring's release role lists and of the tombstones: what the ring offers for each patch name.
//!
//! Invariants
//! - A set is offered only when every one of its artifacts is listed and none is named by a tombstone.
//! - Content decides, not names: an artifact with a tombstoned hash takes its whole set with it.
//! - Order is the order of approval (`approved_serial`); patch versions are never compared.

use sluice_model::{ArtifactId, PatchName, PatchRef, ReleasedArtifact, Sha256, Tombstone};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Every known tombstone, by content. Only grows; a ring may have lifted some of them for itself.
#[derive(Clone, Debug, Default)]
pub struct Tombstones {
    all: Vec<Tombstone>,
    by_sha256: HashMap<Sha256, Vec<usize>>,
    by_blake3: HashMap<ArtifactId, Vec<usize>>,
    /// Serials that do not count here: reinstated in the ring that this index is for.
    lifted: BTreeSet<u64>,
}

impl Tombstones {
    /// An index over `tombstones`; where several name the same content, the earliest serial that counts stands.
    pub fn new(tombstones: &[Tombstone]) -> Self {
        let mut all = tombstones.to_vec();
        all.sort_by_key(|tombstone| tombstone.serial);
        let mut index = Self { all, ..Self::default() };
        for (idx, tombstone) in index.all.iter().enumerate() {
            for content in &tombstone.content {
                index.by_sha256.entry(content.sha256).or_default().push(idx);
                index.by_blake3.entry(content.blake3).or_default().push(idx);
            }
        }
        index
    }

    /// The same as a ring sees it that lifted those serials by a signed reinstatement.
    pub fn lifting(&self, serials: impl IntoIterator<Item = u64>) -> Self {
        let mut lifted = self.clone();
        lifted.lifted.extend(serials);
        lifted
    }

    /// The tombstone that names this content.
    pub fn of_sha256(&self, sha256: &Sha256) -> Option<&Tombstone> {
        self.first(self.by_sha256.get(sha256)?)
    }

    /// The tombstone that names this content.
    pub fn of_blake3(&self, blake3: &ArtifactId) -> Option<&Tombstone> {
        self.first(self.by_blake3.get(blake3)?)
    }

    /// The tombstone that names the artifact, by either hash.
    pub fn of_artifact(&self, artifact: &ReleasedArtifact) -> Option<&Tombstone> {
        self.of_sha256(&artifact.sha256).or_else(|| self.of_blake3(&artifact.custom.blake3))
    }

    /// The tombstone that names one of the set's artifacts, by either hash.
    pub fn of_set(&self, set: &PatchSet) -> Option<&Tombstone> {
        set.artifacts.iter().find_map(|artifact| self.of_artifact(artifact))
    }

    /// The tombstone that names one of these artifacts.
    pub fn of_any(&self, sha256: &[Sha256]) -> Option<&Tombstone> {
        sha256.iter().find_map(|sha256| self.of_sha256(sha256))
    }

    /// Every tombstone that counts, by serial.
    pub fn iter(&self) -> impl Iterator<Item = &Tombstone> {
        self.all.iter().filter(|tombstone| !self.lifted.contains(&tombstone.serial))
    }

    fn first(&self, indexes: &[usize]) -> Option<&Tombstone> {
        indexes.iter().map(|idx| &self.all[*idx]).find(|tombstone| !self.lifted.contains(&tombstone.serial))
    }
}

/// All artifacts of one patch in one ring, in set order: installed in one transaction or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchSet {
    /// Name and version.
    pub patch: PatchRef,
    /// Its place in the order of approvals into the ring.
    pub approved_serial: u64,
    /// Not empty; by set index.
    pub artifacts: Vec<ReleasedArtifact>,
}

impl PatchSet {
    /// SHA-256 of the artifacts, in set order.
    pub fn sha256(&self) -> Vec<Sha256> {
        self.artifacts.iter().map(|artifact| artifact.sha256).collect()
    }

    /// Bytes of all artifacts.
    pub fn length(&self) -> u64 {
        self.artifacts.iter().map(|artifact| artifact.length).sum()
    }
}

/// A patch that a tombstone names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retracted {
    /// Name and version.
    pub patch: PatchRef,
    /// Serial of the tombstone.
    pub serial: u64,
    /// Why, in the retractor's words.
    pub reason: String,
    /// Where it stood in the ring's order of approvals; `None` when its tombstone does not say.
    pub approved_serial: Option<u64>,
}

/// What a ring offers for one patch name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchOffers {
    /// The complete, untouched set that was approved last.
    pub offered: Option<PatchSet>,
    /// The one approved before it: where to go back to when `offered` is retracted.
    pub previous: Option<PatchSet>,
    /// Older ones, newest first.
    pub superseded: Vec<PatchSet>,
    /// Listed sets that lack an artifact: patch, listed, needed.
    pub incomplete: Vec<(PatchRef, u32, u32)>,
    /// Versions that a tombstone names, by serial.
    pub retracted: Vec<Retracted>,
}

/// What a ring offers, by patch name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// Every patch name that the ring lists or a tombstone names.
    pub patches: BTreeMap<PatchName, PatchOffers>,
}

impl Offers {
    /// What the ring with these rows offers. O(rows log rows).
    pub fn of(rows: &[ReleasedArtifact], tombstones: &Tombstones) -> Self {
        let mut patches: BTreeMap<PatchName, PatchOffers> = BTreeMap::new();
        let ring = rows.first().map(|row| &row.ring);
        for tombstone in tombstones.iter() {
            let serial = ring.and_then(|ring| tombstone.approved.get(ring)).copied();
            let offers = patches.entry(tombstone.patch.name.clone()).or_default();
            offers.note_retracted(&tombstone.patch, tombstone, serial);
        }
        let mut live: BTreeMap<PatchName, Vec<PatchSet>> = BTreeMap::new();
        for set in group(rows) {
            let offers = patches.entry(set.patch.name.clone()).or_default();
            if let Some(tombstone) = tombstones.of_set(&set) {
                offers.note_retracted(&set.patch, tombstone, Some(set.approved_serial));
                continue;
            }
            match completeness(&set) {
                Ok(()) => live.entry(set.patch.name.clone()).or_default().push(set),
                Err((listed, needed)) => offers.incomplete.push((set.patch, listed, needed)),
            }
        }
        for (name, mut sets) in live {
            sets.sort_by_key(|set| std::cmp::Reverse(set.approved_serial));
            let mut sets = sets.into_iter();
            let offers = patches.entry(name).or_default();
            offers.offered = sets.next();
            offers.previous = sets.next();
            offers.superseded = sets.collect();
        }
        Self { patches }
    }

    /// What is offered for `name`.
    pub fn patch(&self, name: &PatchName) -> Option<&PatchOffers> {
        self.patches.get(name)
    }
}

impl PatchOffers {
    /// Every live set, the offered one first.
    pub fn live(&self) -> impl Iterator<Item = &PatchSet> {
        self.offered.iter().chain(self.previous.iter()).chain(self.superseded.iter())
    }

    /// Where to go back to from a retracted version without anything that came after it: the live set that was approved
    /// last before it. When its tombstone does not say where it stood, the set that is offered.
    pub fn way_back(&self, from: &Retracted) -> Option<&PatchSet> {
        match from.approved_serial {
            Some(serial) => self.live().find(|set| set.approved_serial < serial),
            None => self.offered.as_ref(),
        }
    }

    fn note_retracted(&mut self, patch: &PatchRef, tombstone: &Tombstone, approved_serial: Option<u64>) {
        if let Some(known) = self.retracted.iter_mut().find(|retracted| retracted.patch == *patch) {
            known.approved_serial = known.approved_serial.or(approved_serial);
            return;
        }
        self.retracted.push(Retracted {
            patch: patch.clone(),
            serial: tombstone.serial,
            reason: tombstone.reason.clone(),
            approved_serial,
        });
    }
}

/// Rows by patch and approval; a patch approved twice gives two sets.
fn group(rows: &[ReleasedArtifact]) -> Vec<PatchSet> {
    let mut sets: BTreeMap<(PatchRef, u64), Vec<ReleasedArtifact>> = BTreeMap::new();
    for row in rows {
        sets.entry((row.custom.patch_ref(), row.custom.approved_serial)).or_default().push(row.clone());
    }
    sets.into_iter()
        .map(|((patch, approved_serial), mut artifacts)| {
            artifacts.sort_by_key(|artifact| artifact.custom.set.index);
            PatchSet { patch, approved_serial, artifacts }
        })
        .collect()
}

/// `Err((listed, needed))` unless indexes 0 to count - 1 are each listed once and all rows name the same count.
fn completeness(set: &PatchSet) -> Result<(), (u32, u32)> {
    let needed = set.artifacts.iter().map(|artifact| artifact.custom.set.count).max().unwrap_or(0);
    let listed = u32::try_from(set.artifacts.len()).unwrap_or(u32::MAX);
    let in_order = set
        .artifacts
        .iter()
        .zip(0u32..)
        .all(|(artifact, idx)| artifact.custom.set.index == idx && artifact.custom.set.count == needed);
    if in_order && listed == needed && needed > 0 { Ok(()) } else { Err((listed, needed)) }
}
