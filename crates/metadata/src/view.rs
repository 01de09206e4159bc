//! What complete, verified metadata says: releases by ring, tombstones, signed documents.
//!
//! A release row that has no authority or cannot be read has no effect and is named in [`View::ignored`]; it does not
//! take the rest down, or else whoever holds one ring's key could keep every retraction from a site. A tombstone that
//! cannot be read takes everything down: leaving it out would revive what it blocks.

use crate::archive::{self, ArchiveRef};
use crate::body::{Targets, TimestampBody};
use crate::delegation::Delegation;
use crate::json::{self, sha256};
use crate::{RepositoryProfile, RoleName, TargetEntry, Trusted};
use serde::Deserialize;
use sluice_model::limits::{ARTIFACT_BYTES_MAX, ARTIFACTS_PER_PATCH_MAX, MANIFEST_BYTES_MAX};
use sluice_model::{PatchTarget, Reinstatement, ReleasedArtifact, RingName, Sha256, TargetName, Timestamp, Tombstone};
use std::collections::BTreeMap;

/// File names of reinstatements begin with this; the serial follows.
const REINSTATED: &str = "reinstated-";

/// A signed document (`fleet/...`, `policy/...`) by what its bytes must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DocumentRef {
    /// Length in bytes.
    pub length: u64,
    /// SHA-256 of the bytes.
    pub sha256: Sha256,
}

/// A row of a release role that has no effect, and why. Worth an alarm: whoever signed it is wrong or an attacker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IgnoredTarget {
    /// Which role lists it.
    pub role: RoleName,
    /// Its name.
    pub target: String,
    /// Why it has no effect.
    pub reason: String,
}

/// The meaning of one complete [`Trusted`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// `x-profile`.
    pub profile: RepositoryProfile,
    /// `x-repo-id`.
    pub repo_id: String,
    /// Rings in lifecycle order: the order in which targets delegates to their release roles.
    pub rings: Vec<RingName>,
    /// Every ring of `rings` with what its release role lists, superseded rows too.
    pub releases: BTreeMap<RingName, Vec<ReleasedArtifact>>,
    /// Those that are listed, ascending by serial.
    pub tombstones: Vec<Tombstone>,
    /// Where older ones are, ascending; their documents stand in `documents` too.
    pub archives: Vec<ArchiveRef>,
    /// Tombstones that a ring lifted for itself.
    pub reinstatements: BTreeMap<RingName, Vec<Reinstatement>>,
    /// `fleet/*` and `policy/*`, and archives of tombstones.
    pub documents: BTreeMap<TargetName, DocumentRef>,
    /// Rows without effect.
    pub ignored: Vec<IgnoredTarget>,
    /// Version of the timestamp.
    pub timestamp_version: u64,
    /// `x-issued`.
    pub issued_at: Timestamp,
    /// When the lease ends.
    pub lease_until: Timestamp,
    /// When the release role of each ring of `rings` runs out: from then on the ring stops, and the others go on.
    pub lapses: BTreeMap<RingName, Timestamp>,
}

/// Why metadata has no view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// Files are missing.
    #[error("the metadata is not complete: {0} is missing")]
    Incomplete(String),
    /// A tombstone cannot be read; leaving it out would revive what it blocks.
    #[error("retractions: {target}: {reason}")]
    BadTombstone {
        /// Its name.
        target: String,
        /// Why.
        reason: String,
    },
    /// The timestamp knows other retractions than the role lists.
    #[error(
        "retractions: lists {count} up to serial {serial}, but the timestamp says {count_signed} up to {serial_signed}"
    )]
    RetractionsWithheld {
        /// Rows.
        count: u64,
        /// Highest.
        serial: u64,
        /// By the timestamp.
        count_signed: u64,
        /// By the timestamp.
        serial_signed: u64,
    },
}

/// Why a document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not the length or hash that is signed.
    #[error(
        "not the document that is signed: {length} bytes with sha256 {found}, expected {expected_length} with {expected}"
    )]
    WrongBytes {
        /// What came.
        length: u64,
        /// Of what came.
        found: Sha256,
        /// What is signed.
        expected_length: u64,
        /// What is signed.
        expected: Sha256,
    },
    /// The bytes are right but are not such a document.
    #[error("signed, but not a readable document: {0}")]
    Unreadable(String),
}

impl View {
    /// Whether the release role of a ring has run out.
    pub fn has_lapsed(&self, ring: &RingName, now: Timestamp) -> bool {
        self.lapses.get(ring).is_some_and(|until| *until <= now)
    }

    /// Those of `rings` whose release role has not run out.
    pub fn open_rings(&self, rings: &[RingName], now: Timestamp) -> Vec<RingName> {
        rings.iter().filter(|ring| !self.has_lapsed(ring, now)).cloned().collect()
    }

    /// Reads complete metadata.
    pub fn of(trusted: &Trusted) -> Result<Self, ViewError> {
        let incomplete = || match trusted.next_needed().into_iter().next() {
            Some(wanted) => ViewError::Incomplete(wanted.file),
            None => ViewError::Incomplete("timestamp.json".into()),
        };
        let lease_until = trusted.lease_until().ok_or_else(incomplete)?;
        let timestamp = trusted.timestamp_body().ok_or_else(incomplete)?;
        let targets = trusted.role_body(&RoleName::targets()).ok_or_else(incomplete)?;
        let mut view = Self {
            profile: trusted.repository_profile(),
            repo_id: trusted.repo_id().to_owned(),
            rings: Vec::new(),
            releases: BTreeMap::new(),
            tombstones: Vec::new(),
            archives: Vec::new(),
            reinstatements: BTreeMap::new(),
            documents: BTreeMap::new(),
            ignored: Vec::new(),
            timestamp_version: trusted.timestamp_version(),
            issued_at: timestamp.issued_at,
            lease_until,
            lapses: BTreeMap::new(),
        };
        for delegation in &targets.delegations {
            let body = trusted.role_body(&delegation.name).ok_or_else(incomplete)?;
            view.take_role(&delegation.name, body, &targets.delegations)?;
        }
        view.tombstones.sort_by_key(|tombstone| tombstone.serial);
        view.archives.sort_by_key(|archive| archive.first);
        view.check_retractions(timestamp)?;
        Ok(view)
    }

    /// Takes the rows of one role that a look-up from `targets` would reach: the first delegation whose paths cover a
    /// name has the only word on it, as every delegation is terminating (specification, section 5.6.7).
    fn take_role(&mut self, role: &RoleName, body: &Targets, delegations: &[Delegation]) -> Result<(), ViewError> {
        let ring = role.ring();
        if let Some(ring) = &ring {
            self.rings.push(ring.clone());
            self.releases.insert(ring.clone(), Vec::new());
            self.lapses.insert(ring.clone(), body.header.expires);
        }
        for (target, entry) in &body.targets {
            let decides = delegations.iter().find(|delegation| delegation.covers(target.as_str()));
            match decides {
                Some(delegation) if delegation.name == *role => {}
                Some(delegation) => {
                    self.ignore(role, target, format!("{} decides on it", delegation.name));
                    continue;
                }
                None => {
                    self.ignore(role, target, "no delegation covers it".into());
                    continue;
                }
            }
            let document = DocumentRef { length: entry.length, sha256: entry.sha256 };
            if *role == RoleName::retractions() && archive::is_archive(target) {
                let bad = |reason| ViewError::BadTombstone { target: target.to_string(), reason };
                self.archives.push(archive::read_archive(target, entry).map_err(bad)?);
                self.documents.insert(target.clone(), document);
            } else if *role == RoleName::retractions() {
                self.tombstones.push(read_tombstone(target, entry)?);
            } else if let Some(ring) = ring.as_ref().filter(|_| target.file().starts_with(REINSTATED)) {
                match read_reinstatement(ring, target, entry) {
                    Ok(found) => self.reinstatements.entry(ring.clone()).or_default().push(found),
                    Err(reason) => self.ignore(role, target, reason),
                }
            } else if let Some(ring) = &ring {
                match read_release(ring, target, entry) {
                    Ok(artifact) => self.releases.entry(ring.clone()).or_default().push(artifact),
                    Err(reason) => self.ignore(role, target, reason),
                }
            } else {
                self.documents.insert(target.clone(), document);
            }
        }
        Ok(())
    }

    fn ignore(&mut self, role: &RoleName, target: &TargetName, reason: String) {
        self.ignored.push(IgnoredTarget { role: role.clone(), target: target.to_string(), reason });
    }

    fn check_retractions(&self, timestamp: &TimestampBody) -> Result<(), ViewError> {
        archive::check_order(&self.archives, &self.tombstones)
            .map_err(|reason| ViewError::BadTombstone { target: "retractions/archive-*".into(), reason })?;
        let archived: u64 = self.archives.iter().map(ArchiveRef::count).sum();
        let count = self.tombstones.len() as u64 + archived;
        let last_archived = self.archives.last().map_or(0, |archive| archive.last);
        let serial = self.tombstones.last().map_or(last_archived, |tombstone| tombstone.serial);
        if (count, serial) == (timestamp.retraction_count, timestamp.retraction_serial) {
            return Ok(());
        }
        Err(ViewError::RetractionsWithheld {
            count,
            serial,
            count_signed: timestamp.retraction_count,
            serial_signed: timestamp.retraction_serial,
        })
    }

    /// The document of that name, for instance `fleet/roster`.
    pub fn document(&self, name: &str) -> Option<&DocumentRef> {
        self.documents.get(&name.parse::<TargetName>().ok()?)
    }
}

/// `retractions/<serial>` with `custom.tombstone`.
fn read_tombstone(target: &TargetName, entry: &TargetEntry) -> Result<Tombstone, ViewError> {
    let bad = |reason: String| ViewError::BadTombstone { target: target.to_string(), reason };
    let value = entry.custom.as_ref().and_then(|custom| custom.get("tombstone"));
    let value = value.ok_or_else(|| bad("custom.tombstone is missing".into()))?;
    let tombstone = Tombstone::deserialize(value).map_err(|error| bad(error.to_string()))?;
    if tombstone.schema != 1 {
        return Err(bad(format!("schema {} is not 1", tombstone.schema)));
    }
    if tombstone.serial == 0 || target.file() != tombstone.serial.to_string() {
        return Err(bad(format!("serial {} is not its name", tombstone.serial)));
    }
    Ok(tombstone)
}

/// `patches/<ring>/reinstated-<serial>` with `custom.reinstatement`: signed by the ring's own threshold, in the name of
/// two people.
fn read_reinstatement(ring: &RingName, target: &TargetName, entry: &TargetEntry) -> Result<Reinstatement, String> {
    if target.directory() != format!("patches/{ring}") {
        return Err(format!("not in patches/{ring}"));
    }
    let value = entry.custom.as_ref().and_then(|custom| custom.get("reinstatement"));
    let value = value.ok_or("custom.reinstatement is missing")?;
    let found = Reinstatement::deserialize(value).map_err(|error| error.to_string())?;
    if found.schema != 1 || target.file() != format!("{REINSTATED}{}", found.serial) {
        return Err(format!("schema {}, serial {} is not its name", found.schema, found.serial));
    }
    match found.by.as_slice() {
        [first, second] if first != second => Ok(found),
        _ => Err("it does not name two people".into()),
    }
}

fn read_release(ring: &RingName, target: &TargetName, entry: &TargetEntry) -> Result<ReleasedArtifact, String> {
    if target.directory() != format!("patches/{ring}") {
        return Err(format!("not in patches/{ring}"));
    }
    let value = entry.custom.as_ref().and_then(|custom| custom.get("patch")).ok_or("custom.patch is missing")?;
    let custom = PatchTarget::deserialize(value).map_err(|error| error.to_string())?;
    if custom.schema != 1 {
        return Err(format!("schema {} is not 1", custom.schema));
    }
    let set = custom.set;
    if set.count == 0 || set.index >= set.count || set.count as usize > ARTIFACTS_PER_PATCH_MAX {
        return Err(format!("artifact {} of {}", set.index, set.count));
    }
    if entry.length > ARTIFACT_BYTES_MAX || custom.manifest.length > MANIFEST_BYTES_MAX {
        return Err(format!("{} bytes with a manifest of {}", entry.length, custom.manifest.length));
    }
    Ok(ReleasedArtifact {
        target: target.clone(),
        ring: ring.clone(),
        length: entry.length,
        sha256: entry.sha256,
        custom,
    })
}

/// Checks the bytes of a document; call it before they are parsed or stored.
pub fn verify_document(document: &DocumentRef, bytes: &[u8]) -> Result<(), DocumentError> {
    let length = bytes.len() as u64;
    let found = sha256(bytes);
    if length == document.length && found == document.sha256 {
        return Ok(());
    }
    Err(DocumentError::WrongBytes { length, found, expected_length: document.length, expected: document.sha256 })
}

/// Checks the bytes and reads them as a document type of the model: `read_document::<Roster>(..)`.
pub fn read_document<T: serde::de::DeserializeOwned>(document: &DocumentRef, bytes: &[u8]) -> Result<T, DocumentError> {
    verify_document(document, bytes)?;
    let value = json::parse(bytes).map_err(DocumentError::Unreadable)?;
    T::deserialize(value.to_value()).map_err(|error| DocumentError::Unreadable(error.to_string()))
}
