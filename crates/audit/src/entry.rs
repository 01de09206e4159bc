//! What one leaf of the log says, and its bytes.

use crate::gap::Gap;
use serde::{Deserialize, Serialize};
use sluice_model::{Sha256, Timestamp};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without gaps.
    pub seq: u64,
    /// When, by the server's clock.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// Somebody did something, or was refused.
    Act(Act),
    /// A metadata file was signed.
    Signed(SignedFile),
    /// The log was continued from a backup; what was written after that is gone.
    Gap(Gap),
}

/// Something that was done or refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// A person, `server`, or a device's key.
    pub who: String,
    /// For instance `patch.approve`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// Done, or refused.
    pub done: bool,
    /// In words.
    pub detail: String,
}

/// A metadata file that was signed. Its bytes are elsewhere; whoever holds them can show that they are these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedFile {
    /// Name below `/tuf/metadata/`.
    pub file: String,
    /// Bytes.
    pub length: u64,
    /// Of the bytes.
    pub sha256: Sha256,
}

impl Entry {
    /// The bytes that are hashed, stored and exported: JSON on one line.
    pub fn to_leaf(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an entry has text keys and no floats")
    }

    /// Reads a leaf.
    pub fn read(leaf: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_an_entry_are_the_golden_ones_and_read_back() {
        let act = Entry {
            seq: 1,
            at: Timestamp::from_millis(7),
            event: Event::Act(Act {
                who: "ann".into(),
                action: "patch.approve".into(),
                subject: "demo/1".into(),
                done: true,
                detail: "two\nlines \"quoted\"".into(),
            }),
        };
        let leaf = String::from_utf8(act.to_leaf()).unwrap();
        assert_eq!(
            leaf,
            r#"{"seq":1,"at":7,"act":{"who":"ann","action":"patch.approve","subject":"demo/1","done":true,"detail":"two\nlines \"quoted\""}}"#
        );
        assert_eq!(Entry::read(leaf.as_bytes()).unwrap(), act);
        let file = SignedFile { file: "timestamp.json".into(), length: 9, sha256: Sha256::from_bytes([1; 32]) };
        let signed = Entry { seq: 2, at: Timestamp::from_millis(8), event: Event::Signed(file) };
        assert_eq!(Entry::read(&signed.to_leaf()).unwrap(), signed);
        assert!(!signed.to_leaf().contains(&b'\n'));
    }
}
