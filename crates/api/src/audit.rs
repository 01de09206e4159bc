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

/// Where the mark of a gap is asked for: `?seen=SIZE&to=SIZE`.
pub const LOG_GAP_PATH: &str = "/tuf/log/gap";
/// Bytes of a [`LogGap`]: an entry of at most 64 KiB in base64 and 56 hashes.
pub const LOG_GAP_BYTES_MAX: u64 = 128 << 10;

/// The entry by which the log says itself that what was seen is gone, and what shows that it is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogGap {
    /// The entry's number.
    pub seq: u64,
    /// Its bytes; standard base64 in JSON.
    #[serde(with = "crate::gossip::base64_bytes")]
    pub leaf: Vec<u8>,
    /// The path from it to the root of the size that was asked for (RFC 6962, section 2.1.1).
    pub hashes: Vec<Sha256>,
}
