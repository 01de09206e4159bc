//! The `custom.patch` part of a release target: what an artifact is and how it is cut.

use crate::{ArtifactId, ManifestId, PackageName, PatchName, PatchRef, PatchVersion, Sha512, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;

/// How bad it is not to have the patch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// Every severity, mildest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = crate::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == text).ok_or_else(|| crate::NameError {
            kind: "severity",
            rule: "low, medium, high or critical",
            text: text.chars().take(80).collect(),
        })
    }
}

/// A CVE id, `CVE-YYYY-NNNN` with four to nineteen digits at the end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct Cve(String);

impl Cve {
    /// The text, valid by construction.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Cve {
    type Err = crate::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let valid = text
            .strip_prefix("CVE-")
            .and_then(|rest| rest.split_once('-'))
            .is_some_and(|(year, id)| year.len() == 4 && digits(year) && (4..=19).contains(&id.len()) && digits(id));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(crate::NameError {
                kind: "CVE id",
                rule: "CVE-YYYY-NNNN, for instance CVE-2026-12345",
                text: text.chars().take(80).collect(),
            })
        }
    }
}

impl<'de> Deserialize<'de> for Cve {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Names the manifest of an artifact and says how it was cut.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ManifestRef {
    /// BLAKE3 of the encoded manifest.
    pub blake3: ManifestId,
    /// Length of the encoded manifest in bytes.
    pub length: u64,
    /// Chunker and sizes, for instance `fastcdc-2020/64K-256K-1M`.
    pub chunker: String,
}

/// What kind of package an artifact is: how it is installed. Unknown kinds are stored and served, never run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ArtifactKind {
    /// A Debian binary package.
    Deb(DebFields),
}

/// The control fields of a `.deb` that decide and prove an installation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DebFields {
    /// `Package`.
    pub package: PackageName,
    /// `Version`.
    pub version: String,
    /// `Architecture`.
    pub architecture: String,
}

/// Which of the patch's artifacts this is; all of a patch are installed in one transaction or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArtifactSet {
    /// From 0.
    pub index: u32,
    /// How many artifacts the patch has.
    pub count: u32,
}

/// `custom.patch` of a release target.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PatchTarget {
    /// Format of this object; 1.
    pub schema: u32,
    /// Name of the patch.
    pub patch: PatchName,
    /// Version of the patch.
    pub patch_version: PatchVersion,
    /// BLAKE3 of the artifact.
    pub blake3: ArtifactId,
    /// SHA-512 of the artifact, for clients that ask for it.
    pub sha512: Sha512,
    /// Its manifest.
    pub manifest: ManifestRef,
    /// Package kind and fields.
    pub artifact: ArtifactKind,
    /// Place in the patch.
    pub set: ArtifactSet,
    /// How bad it is not to have it.
    pub severity: Severity,
    /// The CVEs it mends.
    #[serde(default)]
    pub cves: Vec<Cve>,
    /// Patches that this one replaces.
    #[serde(default)]
    pub supersedes: Vec<PatchRef>,
    /// Grows by one with each approval into this ring: the highest live serial of a patch name is the one offered.
    pub approved_serial: u64,
    /// When it was approved into this ring; also `Last-Modified` of the bytes, the same on every node.
    pub approved_at: Timestamp,
}

impl PatchTarget {
    /// Name and version together.
    pub fn patch_ref(&self) -> PatchRef {
        PatchRef { name: self.patch.clone(), version: self.patch_version.clone() }
    }
}
