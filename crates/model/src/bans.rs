//! The signed document `fleet/bans`: members whose bytes nobody takes any more, each with the proof.

use crate::{MemberKey, Timestamp};
use serde::{Deserialize, Serialize};

/// A signed statement that convicts its signer, raw as it came: anybody who has the artifact's manifest can check it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BanEvidence {
    /// What was signed about a chunk that was sent; standard base64.
    pub statement: String,
    /// The trailer of the chunk's frame; standard base64.
    pub signature: String,
}

/// A member that is banned.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BannedMember {
    /// Whom.
    pub key: MemberKey,
    /// When the repo server found the evidence good.
    pub since: Timestamp,
    /// The proof.
    pub evidence: BanEvidence,
}

/// A member whose bans were lifted, however many there were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LiftedBans {
    /// Whose.
    pub key: MemberKey,
    /// How often. A node's own ban that was made when this number was lower is void.
    pub lifts: u32,
}

/// `fleet/bans`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Bans {
    /// Format; 1.
    pub schema: u32,
    /// At most [`crate::limits::BANS_MAX`], by key.
    pub bans: Vec<BannedMember>,
    /// By key.
    #[serde(default)]
    pub lifted: Vec<LiftedBans>,
}

impl Bans {
    /// Whether `key` is banned.
    pub fn is_banned(&self, key: &MemberKey) -> bool {
        self.bans.iter().any(|ban| ban.key == *key)
    }

    /// How often bans of `key` were lifted.
    pub fn lifts(&self, key: &MemberKey) -> u32 {
        self.lifted.iter().find(|lifted| lifted.key == *key).map_or(0, |lifted| lifted.lifts)
    }
}
