//! The audit log as a Merkle tree (RFC 6962): what a leaf is, the tree over all leaves, proofs, and how an exported log
//! is judged without its server.
//!
//! Pure core: bytes come in, hashes and verdicts go out. It keeps no tree: whoever stores the nodes lends them by
//! position, so that an append and a proof read O(log n) of them.
//!
//! Invariants
//! - A leaf is the bytes that were written when it happened; they are hashed, stored and exported as they are.
//! - A head (size and root) says everything about the leaves below it: no other leaves, in no other order, have it.
//! - A proof is believed only for the two heads, or the leaf and the head, that it was made for.
#![warn(missing_docs)]

mod check;
mod entry;
mod export;
mod gap;
mod proof;
mod tree;
mod witness;

pub use check::{Anchor, Checker, Checkpoint, Fault, Verdict, What};
pub use entry::{Act, Entry, Event, SignedFile};
pub use export::{Begin, LINE_BYTES_MAX, begin_line, head_line, leaf_line, root_line};
pub use gap::{Gap, GapRefused, HEADS_KEPT_MAX, SeenHeads, verify_gap};
pub use proof::{PROOF_HASHES_MAX, ProofError, verify_consistency, verify_inclusion};
pub use tree::{NodeAt, Peaks, append, consistency_proof, inclusion_proof, leaf_hash, root, sha256};
pub use witness::{Doubt, Step, judge};
