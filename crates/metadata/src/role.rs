//! Roles, their names, and what a targets role says of one target.

use sluice_model::{RingName, Sha256};
use std::fmt;
use std::str::FromStr;

/// The name of a role: `root`, `timestamp`, `snapshot`, `targets`, `retractions`, `fleet`, `policy`, `rel-<ring>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleName(String);

/// A text that cannot name a role of this repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role name: 1 to 64 lower-case letters, digits and '-', beginning with a letter")]
pub struct RoleNameError(pub String);

impl RoleName {
    /// `root`.
    pub fn root() -> Self {
        Self("root".into())
    }

    /// `timestamp`.
    pub fn timestamp() -> Self {
        Self("timestamp".into())
    }

    /// `snapshot`.
    pub fn snapshot() -> Self {
        Self("snapshot".into())
    }

    /// `targets`: delegations only.
    pub fn targets() -> Self {
        Self("targets".into())
    }

    /// `retractions`: one tombstone a retraction.
    pub fn retractions() -> Self {
        Self("retractions".into())
    }

    /// `fleet`: roster, revoked, topology, endpoints by site.
    pub fn fleet() -> Self {
        Self("fleet".into())
    }

    /// `policy`: limits.
    pub fn policy() -> Self {
        Self("policy".into())
    }

    /// `rel-<ring>`: the patches of a ring.
    pub fn release(ring: &RingName) -> Self {
        Self(format!("rel-{ring}"))
    }

    /// The ring of a release role; `None` for every other role.
    pub fn ring(&self) -> Option<RingName> {
        self.0.strip_prefix("rel-")?.parse().ok()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A role of a foreign repository: any text of at most 256 bytes that is not empty.
    pub(crate) fn foreign(text: &str) -> Result<Self, RoleNameError> {
        match (1..=256).contains(&text.len()) {
            true => Ok(Self(text.to_owned())),
            false => Err(RoleNameError(text.chars().take(80).collect())),
        }
    }
}

impl FromStr for RoleName {
    type Err = RoleNameError;

    fn from_str(text: &str) -> Result<Self, RoleNameError> {
        let valid = text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if valid { Ok(Self(text.to_owned())) } else { Err(RoleNameError(text.chars().take(80).collect())) }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The profile that root declares in `x-profile`: how its keys are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RepositoryProfile {
    /// Every key on the server, every threshold 1.
    Dev,
    /// Offline root and targets.
    Standard,
    /// Offline root and targets, lease of one hour.
    Strict,
}

impl RepositoryProfile {
    /// The text in root.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Standard => "standard",
            Self::Strict => "strict",
        }
    }

    /// Reads the text in root.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Dev, Self::Standard, Self::Strict].into_iter().find(|profile| profile.as_str() == text)
    }
}

/// What a role says of one target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetEntry {
    /// Length in bytes.
    pub length: u64,
    /// SHA-256 of the bytes.
    pub sha256: Sha256,
    /// `custom`: an object, without floats; `None` when there is none.
    pub custom: Option<serde_json::Value>,
}
