//! What complete, verified metadata says: releases by ring, tombstones, signed documents.

use crate::{RepositoryProfile, RoleName, Trusted};
use sluice_model::{ReleasedArtifact, RingName, Sha256, TargetName, Timestamp, Tombstone};
use std::collections::BTreeMap;

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
    /// Ascending by serial.
    pub tombstones: Vec<Tombstone>,
    /// `fleet/*` and `policy/*`.
    pub documents: BTreeMap<TargetName, DocumentRef>,
    /// Rows without effect.
    pub ignored: Vec<IgnoredTarget>,
    /// Version of the timestamp.
    pub timestamp_version: u64,
    /// `x-issued`.
    pub issued_at: Timestamp,
    /// When the lease ends.
    pub lease_until: Timestamp,
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
    /// Reads complete metadata.
    pub fn of(_trusted: &Trusted) -> Result<Self, ViewError> {
        todo!()
    }

    /// The document of that name, for instance `fleet/roster`.
    pub fn document(&self, name: &str) -> Option<&DocumentRef> {
        self.documents.get(&name.parse::<TargetName>().ok()?)
    }
}

/// Checks the bytes of a document; call it before they are parsed or stored.
pub fn verify_document(_document: &DocumentRef, _bytes: &[u8]) -> Result<(), DocumentError> {
    todo!()
}

/// Checks the bytes and reads them as a document type of the model: `read_document::<Roster>(..)`.
pub fn read_document<T: serde::de::DeserializeOwned>(document: &DocumentRef, bytes: &[u8]) -> Result<T, DocumentError> {
    verify_document(document, bytes)?;
    serde_json::from_slice(bytes).map_err(|error| DocumentError::Unreadable(error.to_string()))
}
