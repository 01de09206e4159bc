//! The head of the audit log, as the timestamp signs it.

use crate::Sha256;
use serde::{Deserialize, Serialize};

/// All entries up to a size, by one hash (RFC 6962, section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogHead {
    /// How many entries.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: Sha256,
}
