//! Why metadata was refused: one variant a reason, so that an attack is told apart from a mistake.

use crate::RoleName;
use sluice_model::{Sha256, Timestamp};
use std::fmt;

/// A role in a version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleVersion {
    /// Which role.
    pub role: RoleName,
    /// Its version.
    pub version: u64,
}

impl fmt::Display for RoleVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.version)
    }
}

/// Why a metadata file was refused. What was trusted before stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Longer than the role may be, or than the signed length; refused before it was parsed.
    #[error("{role}: {length} bytes are more than the {length_max} that are allowed")]
    TooLarge {
        /// Which role.
        role: RoleName,
        /// What came.
        length: u64,
        /// What is allowed.
        length_max: u64,
    },
    /// Not the length that the signed metadata names.
    #[error("{role}: {length} bytes, but the signed metadata says {expected}")]
    WrongLength {
        /// Which role.
        role: RoleName,
        /// What came.
        length: u64,
        /// What was signed.
        expected: u64,
    },
    /// Not the bytes that the signed metadata names.
    #[error("{role}: sha256 is {found}, but the signed metadata says {expected}")]
    WrongHash {
        /// Which role.
        role: RoleName,
        /// Of what came.
        found: Sha256,
        /// What was signed.
        expected: Sha256,
    },
    /// Not the bytes that a foreign repository's metadata names, by a hash other than SHA-256.
    #[error("{role}: the bytes are not the ones that the signed metadata names")]
    OtherBytes {
        /// Which role.
        role: RoleName,
    },
    /// Not JSON, or JSON that two parsers may read in two ways: a duplicate key, a float, nested too deeply.
    #[error("{role}: {reason}")]
    NotJson {
        /// Which role.
        role: RoleName,
        /// What and where.
        reason: String,
    },
    /// Well-formed JSON that breaks a rule of the format.
    #[error("{role}: {at}: {reason}")]
    Malformed {
        /// Which role.
        role: RoleName,
        /// Path of the member.
        at: String,
        /// Which rule.
        reason: String,
    },
    /// The file is of another role.
    #[error("{role}: the file says that it is {found:?}")]
    WrongType {
        /// What was wanted.
        role: RoleName,
        /// `_type` of what came.
        found: String,
    },
    /// Another version than the one that was asked for.
    #[error("{role}: version {found}, but version {expected} was expected")]
    WrongVersion {
        /// Which role.
        role: RoleName,
        /// What came.
        found: u64,
        /// What was signed, or the next one for root.
        expected: u64,
    },
    /// Fewer valid signatures of distinct keys than the role's threshold.
    #[error("{role}: {valid} valid signatures of the {threshold} that {by} demands")]
    ThresholdNotReached {
        /// Which role.
        role: RoleName,
        /// Whose keys were tried.
        by: RoleVersion,
        /// Distinct keys whose signature verified.
        valid: u32,
        /// What is needed.
        threshold: u32,
    },
    /// The same key id signed twice in one file.
    #[error("{role}: two signatures name the key {keyid}")]
    DuplicateSignature {
        /// Which role.
        role: RoleName,
        /// Named twice.
        keyid: String,
    },
    /// A key id that is not the hash of its key.
    #[error("{role}: key id {keyid} is not the SHA-256 of its key")]
    WrongKeyId {
        /// Which role declares the key.
        role: RoleName,
        /// The id.
        keyid: String,
    },
    /// An older version than one that was already trusted.
    #[error("{role}: version {found} is older than the trusted version {trusted}")]
    Rollback {
        /// Which role.
        role: RoleName,
        /// What came.
        found: u64,
        /// What was trusted.
        trusted: u64,
    },
    /// Two different files under one version.
    #[error("{role}: version {version} was seen before with other bytes")]
    SameVersionOtherBytes {
        /// Which role.
        role: RoleName,
        /// Twice.
        version: u64,
    },
    /// A newer timestamp that says that it was issued before an older one.
    #[error("timestamp: issued at {found}, before the trusted one of {trusted}")]
    IssuedBackwards {
        /// `x-issued` of what came.
        found: Timestamp,
        /// `x-issued` of what was trusted.
        trusted: Timestamp,
    },
    /// A newer timestamp that knows fewer retractions than an older one.
    #[error("timestamp: its highest retraction is {found}, before the trusted one's {trusted}")]
    RetractionsBackwards {
        /// Serial in what came.
        found: u64,
        /// Serial in what was trusted.
        trusted: u64,
    },
    /// The snapshot no longer lists a role that it listed before.
    #[error("snapshot: no longer lists {role}")]
    RoleDropped {
        /// Which role.
        role: RoleName,
    },
    /// The snapshot does not list a role that targets delegates to.
    #[error("snapshot: does not list {role}, which is delegated to")]
    NotInSnapshot {
        /// Which role.
        role: RoleName,
    },
    /// No delegation from that parent leads to the role.
    #[error("{parent} does not delegate to {role}")]
    NotDelegated {
        /// Which role.
        role: RoleName,
        /// From where.
        parent: RoleName,
    },
    /// A look-up met more delegations than it may follow.
    #[error("looking for {target:?} leads through more than {max} delegations")]
    TooManyDelegations {
        /// What was looked for.
        target: String,
        /// The bound.
        max: usize,
    },
    /// Its time is over.
    #[error("{role}: expired at {expired_at}")]
    Expired {
        /// Which role.
        role: RoleName,
        /// `expires`.
        expired_at: Timestamp,
    },
    /// A new root for another repository.
    #[error("root: repository id {found:?}, but this is {expected:?}")]
    OtherRepository {
        /// `x-repo-id` of what came.
        found: String,
        /// What was trusted.
        expected: String,
    },
    /// A file arrived before what it depends on.
    #[error("{role}: cannot be verified before {needs}")]
    OutOfOrder {
        /// Which role.
        role: RoleName,
        /// What must come first.
        needs: RoleName,
    },
    /// A file that is needed is not there.
    #[error("{file} is missing")]
    Missing {
        /// Its name.
        file: String,
    },
}
