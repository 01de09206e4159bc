//! Judges proofs by others (RFC 9162, sections 2.1.3.2 and 2.1.4.2, which give RFC 6962's proofs their algorithm).

use crate::tree::node_hash;
use sluice_model::{LogHead, Sha256};

/// Hashes of one proof: two a level at most, 56 levels.
pub const PROOF_HASHES_MAX: usize = 112;

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The later head is over fewer leaves.
    #[error("the log went back from {from} to {to} entries")]
    Shrunk {
        /// Before.
        from: u64,
        /// After.
        to: u64,
    },
    /// Two roots for the same leaves.
    #[error("two different logs of {size} entries are signed")]
    Forked {
        /// How many.
        size: u64,
    },
    /// The leaf is not among the leaves of the head.
    #[error("entry {index} is not among the first {size}")]
    Outside {
        /// Which.
        index: u64,
        /// Of how many.
        size: u64,
    },
    /// Too few or too many hashes for these two sizes.
    #[error("the proof has {count} hashes, which is not the number for these sizes")]
    WrongLength {
        /// How many.
        count: usize,
    },
    /// It leads to another root: history was rewritten, or the proof is made up.
    #[error("the proof does not lead from one head to the other")]
    WrongRoot,
}

/// That the leaf with `hash` is entry `index` (from 0) of the log with `head`.
pub fn verify_inclusion(hash: &Sha256, index: u64, head: &LogHead, proof: &[Sha256]) -> Result<(), ProofError> {
    if index >= head.size {
        return Err(ProofError::Outside { index, size: head.size });
    }
    let (mut at, mut last) = (index, head.size - 1);
    let mut root = *hash;
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::WrongLength { count: proof.len() });
        }
        if at % 2 == 1 || at == last {
            root = node_hash(sibling, &root);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            root = node_hash(&root, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    if last != 0 {
        return Err(ProofError::WrongLength { count: proof.len() });
    }
    if root == head.root { Ok(()) } else { Err(ProofError::WrongRoot) }
}

/// That the log with head `to` begins with the log with head `from`.
pub fn verify_consistency(from: &LogHead, to: &LogHead, proof: &[Sha256]) -> Result<(), ProofError> {
    let wrong_length = Err(ProofError::WrongLength { count: proof.len() });
    if from.size > to.size {
        return Err(ProofError::Shrunk { from: from.size, to: to.size });
    }
    if from.size == to.size || from.size == 0 {
        if !proof.is_empty() {
            return wrong_length;
        }
        return match from.size == to.size && from.root != to.root {
            true => Err(ProofError::Forked { size: to.size }),
            false => Ok(()),
        };
    }
    if proof.is_empty() || proof.len() > PROOF_HASHES_MAX {
        return wrong_length;
    }
    // The first hash is left away when the old tree is one whole subtree: its root is that hash.
    let (first, rest) = match from.size.is_power_of_two() {
        true => (from.root, proof),
        false => (proof[0], &proof[1..]),
    };
    let (mut at, mut last) = (from.size - 1, to.size - 1);
    while at % 2 == 1 {
        (at, last) = (at / 2, last / 2);
    }
    let (mut old, mut new) = (first, first);
    for sibling in rest {
        if last == 0 {
            return wrong_length;
        }
        if at % 2 == 1 || at == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            new = node_hash(&new, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    if last != 0 {
        return wrong_length;
    }
    if old == from.root && new == to.root { Ok(()) } else { Err(ProofError::WrongRoot) }
}
