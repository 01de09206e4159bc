//! Archives of old tombstones: the retractions role lists at most so many, and none is ever forgotten.
//!
//! `retractions/archive-NNNN` is a target whose bytes are a [`TombstoneArchive`]: hashes and names, no words. Its entry
//! says in `custom.archive` which serials it holds, so that the count that the timestamp signs is checked without the bytes.
//!
//! Invariants
//! - Archives hold the serials from 1 on without a gap or an overlap; what is listed comes after them.
//! - An archive is never changed or removed.

use crate::json::sha256;
use crate::view::DocumentRef;
use crate::{DocumentError, TargetEntry, read_document};
use serde::Deserialize;
use sluice_model::limits::TOMBSTONES_LISTED_MAX;
use sluice_model::{ArchivedTombstone, TargetName, Tombstone, TombstoneArchive};
use std::collections::{BTreeMap, BTreeSet};

/// File names of archives begin with this; a number follows.
const PREFIX: &str = "archive-";
/// Custom bytes of listed tombstones beyond which the oldest are folded, far below the size of a role (1 MiB).
const CUSTOM_BYTES_MAX: usize = 512 << 10;

/// An archive that the retractions role lists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArchiveRef {
    /// `retractions/archive-NNNN`.
    pub target: TargetName,
    /// The lowest serial that it holds.
    pub first: u64,
    /// The highest.
    pub last: u64,
    /// Its bytes.
    pub document: DocumentRef,
}

impl ArchiveRef {
    /// How many tombstones it holds.
    pub fn count(&self) -> u64 {
        self.last + 1 - self.first
    }

    /// Whether everything that it holds is among `known`.
    pub fn is_covered_by(&self, known: &[Tombstone]) -> bool {
        let serials: BTreeSet<u64> = known.iter().map(|tombstone| tombstone.serial).collect();
        (self.first..=self.last).all(|serial| serials.contains(&serial))
    }

    /// Checks the bytes and gives the tombstones that they hold: exactly the serials that the entry says.
    pub fn read(&self, bytes: &[u8]) -> Result<Vec<Tombstone>, DocumentError> {
        let archive: TombstoneArchive = read_document(&self.document, bytes)?;
        let serials = archive.tombstones.iter().map(|tombstone| tombstone.serial);
        if archive.schema != 1 || !serials.eq(self.first..=self.last) {
            let reason = format!("it does not hold the retractions {} to {} in order", self.first, self.last);
            return Err(DocumentError::Unreadable(reason));
        }
        Ok(archive.tombstones.iter().map(ArchivedTombstone::restore).collect())
    }
}

/// `custom.archive`.
#[derive(Deserialize)]
struct Range {
    schema: u32,
    first: u64,
    last: u64,
}

/// Whether the target's name is that of an archive.
pub(crate) fn is_archive(target: &TargetName) -> bool {
    target.file().starts_with(PREFIX)
}

/// Reads the entry of an archive; the error says what is wrong with it.
pub(crate) fn read_archive(target: &TargetName, entry: &TargetEntry) -> Result<ArchiveRef, String> {
    let value = entry.custom.as_ref().and_then(|custom| custom.get("archive")).ok_or("custom.archive is missing")?;
    let range = Range::deserialize(value).map_err(|error| error.to_string())?;
    if range.schema != 1 || range.first == 0 || range.last < range.first {
        return Err(format!("schema {}, serials {} to {}", range.schema, range.first, range.last));
    }
    let document = DocumentRef { length: entry.length, sha256: entry.sha256 };
    Ok(ArchiveRef { target: target.clone(), first: range.first, last: range.last, document })
}

/// Serials from 1 on without a gap in the archives, and only later ones in the list.
pub(crate) fn check_order(archives: &[ArchiveRef], listed: &[Tombstone]) -> Result<(), String> {
    let mut next = 1;
    for archive in archives {
        if archive.first != next {
            return Err(format!("{} begins at {}, not at {next}", archive.target, archive.first));
        }
        next = archive.last + 1;
    }
    match listed.iter().find(|tombstone| tombstone.serial < next) {
        Some(tombstone) if next > 1 => Err(format!("retraction {} is listed and archived", tombstone.serial)),
        _ => Ok(()),
    }
}

/// How many retractions the entries stand for, and the highest serial.
pub(crate) fn totals(entries: &BTreeMap<TargetName, TargetEntry>) -> (u64, u64) {
    entries.iter().fold((0, 0), |(count, highest), (target, entry)| {
        if let Some(archive) = is_archive(target).then(|| read_archive(target, entry).ok()).flatten() {
            return (count + archive.count(), highest.max(archive.last));
        }
        target.file().parse::<u64>().map_or((count, highest), |serial| (count + 1, highest.max(serial)))
    })
}

/// Whether an archive among `entries` holds the tombstone of that name.
pub(crate) fn holds(entries: &BTreeMap<TargetName, TargetEntry>, lost: &TargetName) -> bool {
    let Ok(serial) = lost.file().parse::<u64>() else { return false };
    let archives = entries.iter().filter(|(target, _)| is_archive(target));
    archives
        .filter_map(|(target, entry)| read_archive(target, entry).ok())
        .any(|archive| (archive.first..=archive.last).contains(&serial))
}

/// The entries of the retractions role with the older half of its tombstones in a new archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folded {
    /// What the role lists from now on.
    pub entries: BTreeMap<TargetName, TargetEntry>,
    /// Name of the new archive.
    pub target: TargetName,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Folds the older half when one more tombstone would be too many; `None` while there is room.
pub fn fold(entries: &BTreeMap<TargetName, TargetEntry>) -> Option<Folded> {
    let mut listed: Vec<Tombstone> = entries.values().filter_map(tombstone_of).collect();
    let custom_bytes: usize = entries.values().filter_map(|entry| Some(entry.custom.as_ref()?.to_string().len())).sum();
    // Archives take places in the list too.
    if entries.len() < TOMBSTONES_LISTED_MAX && custom_bytes < CUSTOM_BYTES_MAX {
        return None;
    }
    listed.sort_by_key(|tombstone| tombstone.serial);
    let old = &listed[..listed.len() / 2];
    let (first, last) = (old.first()?.serial, old.last()?.serial);
    let archive = TombstoneArchive { schema: 1, tombstones: old.iter().map(ArchivedTombstone::from).collect() };
    let bytes = serde_json::to_vec(&archive).expect("an archive is texts and numbers");
    let number = entries.keys().filter(|target| is_archive(target)).count() + 1;
    let target: TargetName = format!("retractions/{PREFIX}{number:04}").parse().expect("a target name");
    let mut entries = entries.clone();
    entries.retain(|target, _| target.file().parse::<u64>().map_or(true, |serial| serial > last));
    let custom = serde_json::json!({ "archive": { "schema": 1, "first": first, "last": last } });
    let entry = TargetEntry { length: bytes.len() as u64, sha256: sha256(&bytes), custom: Some(custom) };
    entries.insert(target.clone(), entry);
    Some(Folded { entries, target, bytes })
}

fn tombstone_of(entry: &TargetEntry) -> Option<Tombstone> {
    Tombstone::deserialize(entry.custom.as_ref()?.get("tombstone")?).ok()
}
