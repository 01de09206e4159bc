//! What waits for an approver's signature, one proposal a ring.

use crate::{Reads, Rows, StoreError, WriteTx};
use serde::{Deserialize, Serialize};
use sluice_model::{PatchRef, PersonName, RingName, Timestamp};

const PROPOSALS: Rows<&str> = Rows::new("proposals_1");

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(PROPOSALS)
}

/// The next version of a ring's release role, with the signatures that it has so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalRecord {
    /// Which ring.
    pub ring: RingName,
    /// The TUF file.
    pub file: Vec<u8>,
    /// The patches that it adds, in the order of their proposal.
    pub patches: Vec<ProposedPatch>,
}

/// A patch that waits for an approver's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedPatch {
    /// Which.
    pub patch: PatchRef,
    /// `approved_serial` of its rows.
    pub serial: u64,
    /// Who proposed it.
    pub by: PersonName,
    /// When.
    pub at: Timestamp,
}

/// Every proposal, by ring.
pub fn list(tx: &impl Reads) -> Result<Vec<ProposalRecord>, StoreError> {
    tx.list::<&str, &str, _>(PROPOSALS, .., usize::MAX)
}

/// Writes the proposal of its ring, replacing an older one.
pub fn put(tx: &WriteTx, proposal: &ProposalRecord) -> Result<(), StoreError> {
    tx.put(PROPOSALS, proposal.ring.as_str(), proposal)
}

/// Removes the proposal of a ring; whether there was one.
pub fn remove(tx: &WriteTx, ring: &RingName) -> Result<bool, StoreError> {
    tx.remove(PROPOSALS, ring.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn a_ring_has_one_proposal_which_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repo.redb");
        let proposal = |file: &[u8]| ProposalRecord {
            ring: "production".parse().unwrap(),
            file: file.to_vec(),
            patches: vec![ProposedPatch {
                patch: "openssl/3.0.22-1".parse().unwrap(),
                serial: 4,
                by: "bob".parse().unwrap(),
                at: Timestamp::from_millis(7),
            }],
        };
        let store = Store::open(&path).unwrap();
        store.write(|tx| put(tx, &proposal(b"one"))).unwrap();
        store.write(|tx| put(tx, &proposal(b"two"))).unwrap();
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.read(list).unwrap(), [proposal(b"two")]);
        assert!(store.write(|tx| remove(tx, &proposal(b"").ring)).unwrap());
        assert!(store.read(list).unwrap().is_empty());
    }
}
