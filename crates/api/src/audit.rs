//! What witnesses of the audit log ask of the repo server.

use serde::{Deserialize, Serialize};
use sluice_model::Sha256;

/// Where a consistency proof is asked for: `?from=SIZE&to=SIZE`.
pub const LOG_CONSISTENCY_PATH: &str = "/tuf/log/consistency";
/// Bytes of a [`LogConsistency`]: 112 hashes of 67 characters and some.
pub const LOG_CONSISTENCY_BYTES_MAX: u64 = 16 << 10;

/// The proof that a log begins with a shorter one (RFC 6962, section 2.1.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConsistency {
    /// Each 64 hexadecimal characters.
    pub hashes: Vec<Sha256>,
}
