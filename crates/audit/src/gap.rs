//! A gap that the log itself marks: the repo server was restored from a backup, and what it had written since is gone.
//!
//! Decides when a witness may settle a doubt by such a mark, and which older heads it keeps for that. A mark is no excuse
//! for rewriting what stood before the backup: the log up to the mark must continue what the witness saw of that time.
//!
//! Invariants
//! - A mark counts only as an entry of the log whose head is signed now.
//! - It covers only heads beyond the backup and not beyond what the server says that it had signed.
//! - Kept heads thin out with their distance: each restore finds one not much older than its backup.

use crate::entry::{Entry, Event};
use crate::proof::{ProofError, verify_inclusion};
use crate::tree::leaf_hash;
use serde::{Deserialize, Serialize};
use sluice_model::{LogHead, Sha256};

/// Heads that a witness keeps: two for each doubling of the distance to the newest, over 32 doublings, beyond any log.
pub const HEADS_KEPT_MAX: usize = 64;

/// What was lost between a backup and the restore from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// The log as the backup had it; it was continued from there.
    pub backup: LogHead,
    /// The longest log that was signed before the restore, as far as nodes show; that of the backup when none shows more.
    pub lost: LogHead,
    /// Version of the timestamp in the backup.
    pub timestamp_backup: u64,
    /// Highest version of a timestamp that nodes showed.
    pub timestamp_lost: u64,
    /// Version of the first timestamp after the restore.
    pub timestamp_next: u64,
    /// Who restored it.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Gap {
    /// Whether a log of `size` entries ends among those that were lost.
    pub fn covers(&self, size: u64) -> bool {
        self.backup.size < size && size <= self.lost.size
    }
}

/// Why a mark settles nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GapRefused {
    /// Not an entry that marks a gap.
    #[error("what was shown is no mark of a gap")]
    NoMark,
    /// Of another part of the log.
    #[error("the gap that is marked lies between {from} and {to} entries, and {seen} were seen")]
    Elsewhere {
        /// Of the backup.
        from: u64,
        /// Lost.
        to: u64,
        /// Seen by the witness.
        seen: u64,
    },
    /// The mark names another log of the same length.
    #[error("the gap is marked after another log of {size} entries than the one that was seen")]
    OtherLog {
        /// How many.
        size: u64,
    },
    /// Not in the log that is signed.
    #[error("the mark is not in the log: {0}")]
    NotIncluded(#[from] ProofError),
}

/// Judges a mark: entry `seq` of the log with head `to` is `leaf`, by `proof`, and it covers the head that was `seen`.
pub fn verify_gap(seen: &LogHead, to: &LogHead, seq: u64, leaf: &[u8], proof: &[Sha256]) -> Result<Gap, GapRefused> {
    let entry = Entry::read(leaf).map_err(|_| GapRefused::NoMark)?;
    let Event::Gap(gap) = entry.event else { return Err(GapRefused::NoMark) };
    if entry.seq != seq || seq == 0 {
        return Err(GapRefused::NoMark);
    }
    verify_inclusion(&leaf_hash(leaf), seq - 1, to, proof)?;
    if !gap.covers(seen.size) {
        return Err(GapRefused::Elsewhere { from: gap.backup.size, to: gap.lost.size, seen: seen.size });
    }
    if gap.lost.size == seen.size && gap.lost.root != seen.root {
        return Err(GapRefused::OtherLog { size: seen.size });
    }
    Ok(gap)
}

/// The heads that a witness was shown to be of one log, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenHeads(Vec<LogHead>);

impl SeenHeads {
    /// The last head that was proven.
    pub fn newest(&self) -> Option<LogHead> {
        self.0.last().copied()
    }

    /// The newest head over at most `size` entries.
    pub fn newest_within(&self, size: u64) -> Option<LogHead> {
        self.0.iter().rev().find(|head| head.size <= size).copied()
    }

    /// Takes a head that was proven to continue the newest one.
    pub fn push(&mut self, head: LogHead) {
        self.0.retain(|known| known.size < head.size);
        self.0.push(head);
        self.thin(head.size);
    }

    /// Goes on after a gap: what lies in it is forgotten.
    pub fn settle(&mut self, gap: &Gap, head: LogHead) {
        self.0.retain(|known| known.size <= gap.backup.size);
        self.push(head);
    }

    /// Of the heads whose distances to the newest have the same number of bits, the two outermost stay.
    fn thin(&mut self, newest: u64) {
        let bits = |head: &LogHead| 64 - (newest - head.size).leading_zeros();
        let kept: Vec<LogHead> = self
            .0
            .iter()
            .enumerate()
            .filter(|(at, head)| {
                let is_like = |other: Option<&LogHead>| other.is_some_and(|other| bits(other) == bits(head));
                let before = at.checked_sub(1).and_then(|before| self.0.get(before));
                !(is_like(before) && is_like(self.0.get(at + 1)))
            })
            .map(|(_, head)| *head)
            .collect();
        let excess = kept.len().saturating_sub(HEADS_KEPT_MAX);
        self.0 = kept[excess..].to_vec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{NodeAt, append, inclusion_proof, root};
    use sluice_model::Timestamp;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    #[derive(Default)]
    struct Log {
        leaves: Vec<Vec<u8>>,
        nodes: BTreeMap<NodeAt, Sha256>,
    }

    impl Log {
        fn push(&mut self, leaf: Vec<u8>) {
            let size = self.leaves.len() as u64;
            let new = append(size, leaf_hash(&leaf), |at| Ok::<_, Infallible>(self.nodes[&at])).unwrap();
            self.nodes.extend(new);
            self.leaves.push(leaf);
        }

        fn fill(&mut self, to: u64, text: &str) {
            while (self.leaves.len() as u64) < to {
                self.push(format!("{text} {}", self.leaves.len()).into_bytes());
            }
        }

        fn head(&self) -> LogHead {
            let size = self.leaves.len() as u64;
            LogHead { size, root: root(size, |at| Ok::<_, Infallible>(self.nodes[&at])).unwrap() }
        }

        fn proof(&self, seq: u64) -> Vec<Sha256> {
            let size = self.leaves.len() as u64;
            inclusion_proof(seq - 1, size, |at| Ok::<_, Infallible>(self.nodes[&at])).unwrap()
        }
    }

    /// A log of 20 entries, restored from a backup of 12, with the mark as entry 15; and the head that was lost.
    fn restored() -> (Log, LogHead) {
        let mut before = Log::default();
        before.fill(20, "before");
        let lost = before.head();
        let mut log = Log::default();
        log.fill(12, "before");
        let backup = log.head();
        log.fill(14, "after");
        let gap = Gap {
            backup,
            lost,
            timestamp_backup: 3,
            timestamp_lost: 7,
            timestamp_next: 1_000,
            by: "ann".into(),
            reason: "the disk died".into(),
        };
        log.push(Entry { seq: 15, at: Timestamp::from_millis(1), event: Event::Gap(gap) }.to_leaf());
        log.fill(25, "after");
        (log, lost)
    }

    #[test]
    fn a_mark_in_the_log_covers_what_was_lost_and_nothing_else() {
        let (log, lost) = restored();
        let (to, leaf, proof) = (log.head(), &log.leaves[14], log.proof(15));
        assert_eq!(verify_gap(&lost, &to, 15, leaf, &proof).unwrap().backup.size, 12);
        let at = |size| LogHead { size, ..lost };
        assert!(verify_gap(&at(13), &to, 15, leaf, &proof).is_ok(), "a node that saw less than the others");
        for size in [12, 21] {
            let refused = verify_gap(&at(size), &to, 15, leaf, &proof);
            assert_eq!(refused, Err(GapRefused::Elsewhere { from: 12, to: 20, seen: size }));
        }
        let other = LogHead { root: leaf_hash(b"other"), ..lost };
        assert_eq!(verify_gap(&other, &to, 15, leaf, &proof), Err(GapRefused::OtherLog { size: 20 }));
    }

    #[test]
    fn a_mark_that_is_not_in_the_log_settles_nothing() {
        let (log, lost) = restored();
        let (to, leaf, proof) = (log.head(), log.leaves[14].clone(), log.proof(15));
        let text = String::from_utf8(leaf.clone()).unwrap();
        let forged = text.replace("\"size\":20", "\"size\":99").into_bytes();
        assert_ne!(forged, leaf);
        assert!(matches!(verify_gap(&lost, &to, 15, &forged, &proof), Err(GapRefused::NotIncluded(_))));
        assert_eq!(verify_gap(&lost, &to, 14, &leaf, &proof), Err(GapRefused::NoMark));
        assert_eq!(verify_gap(&lost, &to, 14, &log.leaves[13], &log.proof(14)), Err(GapRefused::NoMark));
        let other = LogHead { root: leaf_hash(b"other"), ..to };
        assert!(matches!(verify_gap(&lost, &other, 15, &leaf, &proof), Err(GapRefused::NotIncluded(_))));
    }

    #[test]
    fn the_heads_kept_are_few_and_one_is_never_much_older_than_any_backup() {
        let mut seen = SeenHeads::default();
        let at = |size| LogHead { size, root: leaf_hash(&[0]) };
        for size in 1..=20_000 {
            seen.push(at(size));
            assert!(seen.0.len() <= HEADS_KEPT_MAX, "{} heads", seen.0.len());
        }
        for distance in [1, 7, 100, 3_000, 9_999, 19_000] {
            let backup = 20_000 - distance;
            let found = seen.newest_within(backup).map_or(0, |head| head.size);
            assert!(20_000 - found <= 4 * distance + 4, "a backup {distance} back finds one {} back", 20_000 - found);
        }
        assert_eq!(seen.newest(), Some(at(20_000)));
    }

    #[test]
    fn after_a_gap_only_what_the_backup_had_is_remembered() {
        let (log, lost) = restored();
        let gap = verify_gap(&lost, &log.head(), 15, &log.leaves[14], &log.proof(15)).unwrap();
        let mut seen = SeenHeads::default();
        for size in [5, 12, 13, 20] {
            seen.push(LogHead { size, ..lost });
        }
        seen.settle(&gap, log.head());
        assert_eq!(seen.0.iter().map(|head| head.size).collect::<Vec<_>>(), [5, 12, 25]);
    }
}
