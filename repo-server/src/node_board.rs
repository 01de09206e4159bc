//! The last word of every node about itself, and since when it has fenced which retraction.
//!
//! In memory for whoever asks; in the database often enough that a restart loses nothing that counts: each rise of a
//! fence at once, the rest each minute.

use sluice_api::device::NodeStatus;
use sluice_model::{MemberKey, Timestamp};
use sluice_repo_store::members::NodeWord;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How old the stored word may be.
const STORED_EVERY: Duration = Duration::from_secs(60);
/// Fences kept of a node: the oldest are merged into one, which says "by then at the latest".
const FENCES_MAX: usize = 1_000;

/// When a node first said that everything up to a tombstone serial is fenced. Serials and times rise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FenceTable(Vec<(u64, Timestamp)>);

impl FenceTable {
    /// Takes what the node says now; whether that changed the table.
    ///
    /// A node that says less than before lost its store: what it fenced then is no longer so.
    pub fn note(&mut self, fenced_serial: u64, at: Timestamp) -> bool {
        let length = self.0.len();
        self.0.retain(|(serial, _)| *serial <= fenced_serial);
        let fell = self.0.len() != length;
        let rose = fenced_serial > self.0.last().map_or(0, |(serial, _)| *serial);
        if rose {
            self.0.push((fenced_serial, at));
            if self.0.len() > FENCES_MAX {
                self.0.remove(0);
            }
        }
        fell || rose
    }

    /// When the node first said that `serial` is fenced.
    pub fn fenced_at(&self, serial: u64) -> Option<Timestamp> {
        self.0.iter().find(|(known, _)| *known >= serial).map(|(_, at)| *at)
    }
}

/// What is known of one node.
#[derive(Clone, Debug)]
pub struct Word {
    /// When its last status arrived.
    pub received_at: Timestamp,
    /// That status.
    pub status: NodeStatus,
    /// Its fences.
    pub fences: FenceTable,
    stored_at: Timestamp,
}

/// The board. Bounded by the roster: only its nodes are heard.
#[derive(Debug, Default)]
pub struct NodeBoard(Mutex<BTreeMap<MemberKey, Word>>);

impl NodeBoard {
    /// Takes up what was stored. A word that this version cannot read is left out: the node says it again soon.
    pub fn load(words: Vec<NodeWord>) -> Self {
        let word = |stored: NodeWord| {
            let status = serde_json::from_slice(&stored.status).ok()?;
            let fences = FenceTable(stored.fences);
            let at = stored.received_at;
            Some((stored.node, Word { received_at: at, status, fences, stored_at: at }))
        };
        Self(Mutex::new(words.into_iter().filter_map(word).collect()))
    }

    /// Takes a status; answers what must be stored before it is acknowledged, if anything.
    pub fn note(&self, node: MemberKey, status: NodeStatus, at: Timestamp) -> Option<NodeWord> {
        let mut board = self.lock();
        let known = board.remove(&node);
        let is_first = known.is_none();
        let (mut fences, stored_at) = known.map_or_else(Default::default, |word| (word.fences, word.stored_at));
        let is_due = fences.note(status.fenced_serial, at) || is_first || at.since(stored_at) >= STORED_EVERY;
        let stored_at = if is_due { at } else { stored_at };
        let stored = is_due.then(|| NodeWord {
            node,
            received_at: at,
            status: serde_json::to_vec(&status).expect("a status is numbers and texts"),
            fences: fences.0.clone(),
        });
        board.insert(node, Word { received_at: at, status, fences, stored_at });
        stored
    }

    /// What is known of `node`.
    pub fn word(&self, node: &MemberKey) -> Option<Word> {
        self.lock().get(node).cloned()
    }

    /// Forgets a node that was revoked.
    pub fn forget(&self, node: &MemberKey) {
        self.lock().remove(node);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MemberKey, Word>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1_000)
    }

    #[test]
    fn a_fence_counts_from_the_moment_at_which_it_was_first_said() {
        let mut fences = FenceTable::default();
        assert!(fences.note(2, at(10)));
        assert!(!fences.note(2, at(20)));
        assert!(fences.note(4, at(30)));
        assert_eq!(fences.fenced_at(1), Some(at(10)));
        assert_eq!(fences.fenced_at(3), Some(at(30)));
        assert_eq!(fences.fenced_at(5), None);
    }

    #[test]
    fn a_node_that_lost_its_store_has_fenced_nothing() {
        let mut fences = FenceTable::default();
        fences.note(4, at(10));
        assert!(fences.note(0, at(20)));
        assert_eq!(fences.fenced_at(1), None);
        fences.note(4, at(30));
        assert_eq!(fences.fenced_at(4), Some(at(30)));
    }

    #[test]
    fn a_fence_is_stored_at_once_and_the_rest_each_minute() {
        let board = NodeBoard::default();
        let node = MemberKey::from_bytes([1; 32]);
        let status = |fenced_serial| NodeStatus { fenced_serial, ..NodeStatus::default() };
        assert!(board.note(node, status(0), at(0)).is_some());
        assert!(board.note(node, status(0), at(5)).is_none());
        let stored = board.note(node, status(1), at(6)).unwrap();
        assert_eq!(stored.fences, [(1, at(6))]);
        assert!(board.note(node, status(1), at(60)).is_none());
        assert!(board.note(node, status(1), at(66)).is_some());
        let again = NodeBoard::load(vec![stored]);
        assert_eq!(again.word(&node).unwrap().fences.fenced_at(1), Some(at(6)));
    }
}
