//! The payload of an outcome report: what the endpoint did, and what its package manager says is so now.

use serde::{Deserialize, Serialize};
use sluice_model::{EndpointId, MemberKey, PatchRef, RingName, Sha256, Timestamp};

/// What an attempt, or the passing of time, came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// The package manager says that every package of the patch is installed in the patch's version.
    Installed,
    /// The attempt failed; `class` and `detail` say how.
    Failed,
    /// A retracted patch was replaced by the retained version before it, proven like `Installed`.
    RolledBack,
    /// A retracted patch is installed and could not be replaced (nothing retained, or the attempt failed).
    RollbackFailed,
    /// A patch is blocked here by a tombstone and is not installed.
    Blocked,
    /// Nothing happened; the endpoint is alive.
    Heartbeat,
}

/// Class of a failure, for people and for thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// A package that it needs is not installed.
    Dependency,
    /// The package manager failed in another way.
    PackageManager,
    /// The bytes did not have the signed length or hash.
    Verification,
    /// No node delivered the bytes.
    Download,
    /// No room.
    Disk,
    /// The package manager reported success and its database does not show it.
    Unproven,
}

/// A package as the package manager's database shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageVersion {
    /// Name.
    pub package: String,
    /// Version; `None` when it is not installed (not even half).
    pub version: Option<String>,
}

/// Bytes of the artifacts by the node that delivered them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteSource {
    /// The node.
    pub node: MemberKey,
    /// Content bytes from it.
    pub bytes: u64,
}

/// A node that took reports and through which none came back acknowledged, while another way worked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldBy {
    /// The node.
    pub node: MemberKey,
    /// Reports that it took and that had to go another way, since the endpoint first saw it do so.
    pub reports: u64,
    /// When the endpoint saw it last, by the device's clock.
    pub at: Timestamp,
}

/// Failed attempts at the same thing in a row, as the endpoint counts them; this report is about the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptNote {
    /// What was to be installed, or gone back to.
    pub patch: PatchRef,
    /// How often in a row; from 1.
    pub failures: u32,
    /// When the last one ended, by the endpoint's trusted clock.
    pub at: Timestamp,
}

/// The signed payload. Encoded with `serde_json`; the bytes that were signed are what is kept and hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeReport {
    /// Format; 1.
    pub schema: u32,
    /// Who reports.
    pub endpoint: EndpointId,
    /// Chain number: the next one begins after a re-enrolment.
    pub epoch: u32,
    /// From 1, one more each.
    pub seq: u64,
    /// SHA-256 of the payload bytes of `seq - 1`; all zero for the first.
    pub previous: Sha256,
    /// What happened.
    pub outcome: OutcomeKind,
    /// Which patch; `None` for a heartbeat.
    pub patch: Option<PatchRef>,
    /// The ring whose role offered it.
    pub ring: Option<RingName>,
    /// SHA-256 of the patch's artifacts, in set order.
    #[serde(default)]
    pub sha256: Vec<Sha256>,
    /// Class of a failure.
    #[serde(default)]
    pub class: Option<FailureClass>,
    /// The package manager's words, cut to 4,000 characters.
    #[serde(default)]
    pub detail: String,
    /// Packages of the patch before the attempt.
    #[serde(default)]
    pub before: Vec<PackageVersion>,
    /// The same packages after it.
    #[serde(default)]
    pub after: Vec<PackageVersion>,
    /// Where the bytes came from.
    #[serde(default)]
    pub sources: Vec<ByteSource>,
    /// From the decision to the proof, milliseconds.
    #[serde(default)]
    pub duration_ms: u64,
    /// Boot id of the machine.
    #[serde(default)]
    pub boot_id: String,
    /// Version of the timestamp role acted on.
    pub timestamp_version: u64,
    /// By the device's clock; never used to order.
    pub device_time: Timestamp,
    /// Of a failed attempt: the endpoint's own count. Without it failed reports in a row are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptNote>,
    /// Nodes that withheld reports lately; each report repeats what the endpoint knows at that moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<WithheldBy>,
}

/// Characters of `detail` at most.
pub const DETAIL_CHARS_MAX: usize = 4_000;
/// Packages in `before` and in `after`, and rows of `sources`, at most: four packages an artifact, and more nodes than
/// any site has.
const ROWS_MAX: usize = 256;
/// Nodes that one report may name as withholding: more than an endpoint tries.
pub const WITHHELD_MAX: usize = 16;
/// Bytes of a package name, a package version or a boot id at most.
const WORD_BYTES_MAX: usize = 256;

/// Why a payload is not an outcome report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not this JSON form.
    #[error("the payload is not an outcome report")]
    Unreadable(#[source] serde_json::Error),
    /// Another format.
    #[error("the report has format {0}; this server reads format 1")]
    Schema(u32),
    /// A field breaks a rule.
    #[error("the report's {field} {rule}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

impl OutcomeReport {
    /// Reads and checks signed payload bytes; their signature was verified by the caller.
    pub fn from_payload(payload: &[u8]) -> Result<Self, ReportError> {
        let report: Self = serde_json::from_slice(payload).map_err(ReportError::Unreadable)?;
        report.check()?;
        Ok(report)
    }

    fn check(&self) -> Result<(), ReportError> {
        if self.schema != 1 {
            return Err(ReportError::Schema(self.schema));
        }
        let wrong = |field, rule| Err(ReportError::Field { field, rule });
        if self.patch.is_none() != (self.outcome == OutcomeKind::Heartbeat) {
            return wrong("patch", "must be there for every outcome but a heartbeat, and for none");
        }
        if self.detail.chars().count() > DETAIL_CHARS_MAX {
            return wrong("detail", "is longer than 4,000 characters");
        }
        if self.sha256.len() > sluice_model::limits::ARTIFACTS_PER_PATCH_MAX {
            return wrong("sha256", "has more rows than a patch has artifacts");
        }
        if self.before.len().max(self.after.len()).max(self.sources.len()) > ROWS_MAX {
            return wrong("before, after and sources", "must have at most 256 rows each");
        }
        if self.withheld.len() > WITHHELD_MAX {
            return wrong("withheld", "must name at most 16 nodes");
        }
        let words = self.before.iter().chain(&self.after).flat_map(|row| [Some(&row.package), row.version.as_ref()]);
        if words.flatten().chain([&self.boot_id]).any(|word| word.len() > WORD_BYTES_MAX) {
            return wrong("packages, versions and boot id", "must have at most 256 bytes each");
        }
        Ok(())
    }
}
