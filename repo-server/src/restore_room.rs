//! What a repo server that was restored from a backup has heard from its nodes so far, and whether that is enough.
//!
//! Invariants
//! - Everything in here was verified with this server's own chain of roots.
//! - Of the states that nodes showed one is kept, the newest: the server that signed them went forward only, so it says all
//!   that the others say. Retractions are kept of all of them, because none may be lost.

use bytes::Bytes;
use sluice_metadata::Trusted;
use sluice_model::{MemberKey, MemberKind, Roster, Sha256, Tombstone};
use sluice_repo_store::restore::RestoreRecord;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of documents that are kept: the endpoints of a thousand sites of a hundred each are 20 MB.
const DOCUMENTS_BYTES_MAX: usize = 128 << 20;
/// Members that are counted as heard: as many as a roster has, and a few strangers.
const SPOKEN_MAX: usize = 20_000;

/// Verified files of one node.
pub struct Shown {
    /// Whole metadata.
    pub trusted: Trusted,
    /// Documents that it names, as far as the node had them.
    pub documents: BTreeMap<Sha256, Bytes>,
    /// Its tombstones.
    pub tombstones: Vec<Tombstone>,
    /// Its roster, if the node had it.
    pub roster: Option<Roster>,
}

/// What was learned.
#[derive(Clone, Default)]
pub struct Learned {
    /// The newest state.
    pub best: Option<Trusted>,
    /// Bytes of documents by hash.
    pub documents: BTreeMap<Sha256, Bytes>,
    /// Every tombstone of every state.
    pub tombstones: Vec<Tombstone>,
    /// Who spoke.
    pub spoken: BTreeSet<MemberKey>,
    roster: Option<Roster>,
}

struct Open {
    record: RestoreRecord,
    learned: Learned,
    since: Instant,
}

/// Open while a restore is under way.
#[derive(Default)]
pub struct RestoreRoom(Mutex<Option<Open>>);

/// Whether the restore can be finished.
#[derive(Debug, PartialEq, Eq)]
pub enum Readiness {
    /// There is nothing to wait for any more; these nodes were not heard.
    Ready(Vec<String>),
    /// Nodes that are waited for, by name.
    Waiting(Vec<String>),
}

impl RestoreRoom {
    /// Opens it at the start of a program whose data was restored.
    pub fn opened(record: Option<RestoreRecord>, now: Instant) -> Self {
        Self(Mutex::new(record.map(|record| Open { record, learned: Learned::default(), since: now })))
    }

    /// The restore that is under way.
    pub fn record(&self) -> Option<RestoreRecord> {
        self.lock().as_ref().map(|open| open.record.clone())
    }

    /// The node took what this server serves: it has nothing newer.
    pub fn note_in_step(&self, node: MemberKey) {
        if let Some(open) = self.lock().as_mut()
            && open.learned.spoken.len() < SPOKEN_MAX
        {
            open.learned.spoken.insert(node);
        }
    }

    /// Takes what a node showed; whether a restore is under way.
    pub fn take(&self, node: MemberKey, shown: Shown) -> bool {
        let mut room = self.lock();
        let Some(open) = room.as_mut() else { return false };
        let learned = &mut open.learned;
        if learned.spoken.len() < SPOKEN_MAX {
            learned.spoken.insert(node);
        }
        for tombstone in shown.tombstones {
            let is_known = |known: &Tombstone| known.serial == tombstone.serial && known.content == tombstone.content;
            if !learned.tombstones.iter().any(is_known) {
                learned.tombstones.push(tombstone);
            }
        }
        for (sha256, bytes) in shown.documents {
            let kept: usize = learned.documents.values().map(Bytes::len).sum();
            if kept + bytes.len() <= DOCUMENTS_BYTES_MAX {
                learned.documents.insert(sha256, bytes);
            }
        }
        let version = shown.trusted.timestamp_version();
        if learned.best.as_ref().is_none_or(|best| best.timestamp_version() < version) {
            learned.best = Some(shown.trusted);
            learned.roster = shown.roster.or(learned.roster.take());
        }
        true
    }

    /// Whether every node that `roster`, or the roster that was learned, names was heard, or the time for it is over.
    pub fn readiness(&self, roster: &Roster, now: Instant) -> Readiness {
        let room = self.lock();
        let Some(open) = room.as_ref() else { return Readiness::Waiting(Vec::new()) };
        let newest = open.learned.roster.as_ref().unwrap_or(roster);
        let nodes = newest.members.iter().filter(|member| member.kind == MemberKind::Node);
        let missing: Vec<String> = nodes
            .filter(|member| !open.learned.spoken.contains(&member.key))
            .map(|member| member.name.clone())
            .collect();
        let wait = Duration::from_secs(open.record.wait_secs);
        let is_over = now.saturating_duration_since(open.since) >= wait;
        // Without a single node nothing is known of what was lost, unless somebody says that there is none to ask.
        let is_deaf = open.learned.spoken.is_empty() && !wait.is_zero();
        if missing.is_empty() || (is_over && !is_deaf) {
            return Readiness::Ready(missing);
        }
        Readiness::Waiting(missing)
    }

    /// What was learned so far.
    pub fn learned(&self) -> Learned {
        self.lock().as_ref().map(|open| open.learned.clone()).unwrap_or_default()
    }

    /// The restore is done.
    pub fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::{LogHead, Member, MemberAddresses, Timestamp};

    fn key(byte: u8) -> MemberKey {
        MemberKey::from_bytes([byte; 32])
    }

    fn roster(nodes: &[u8]) -> Roster {
        let member = |byte: &u8| Member {
            key: key(*byte),
            kind: MemberKind::Node,
            site: Some("lyon".parse().unwrap()),
            name: format!("node-{byte}"),
            addresses: MemberAddresses::default(),
        };
        Roster { schema: 1, members: nodes.iter().map(member).collect() }
    }

    fn room(wait_secs: u64, now: Instant) -> RestoreRoom {
        let backup = LogHead { size: 1, root: Sha256::from_bytes([0; 32]) };
        let at = Timestamp::from_millis(1);
        let (by, reason) = ("ann".into(), "disk".into());
        RestoreRoom::opened(Some(RestoreRecord { at, by, reason, backup, timestamp_version: 1, wait_secs }), now)
    }

    #[test]
    fn it_waits_for_every_node_of_the_roster_and_at_the_end_for_one_at_least() {
        let now = crate::clock::now();
        let later = now + Duration::from_secs(61);
        let missing = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let room = room(60, now);
        assert_eq!(room.readiness(&roster(&[1, 2]), now), Readiness::Waiting(missing(&["node-1", "node-2"])));
        assert_eq!(room.readiness(&roster(&[1, 2]), later), Readiness::Waiting(missing(&["node-1", "node-2"])));
        room.note_in_step(key(1));
        assert_eq!(room.readiness(&roster(&[1, 2]), now), Readiness::Waiting(missing(&["node-2"])));
        assert_eq!(room.readiness(&roster(&[1, 2]), later), Readiness::Ready(missing(&["node-2"])));
        room.note_in_step(key(2));
        assert_eq!(room.readiness(&roster(&[1, 2]), now), Readiness::Ready(Vec::new()));
    }

    #[test]
    fn without_nodes_or_when_told_not_to_wait_it_is_ready_at_once() {
        let now = crate::clock::now();
        assert_eq!(room(60, now).readiness(&roster(&[]), now), Readiness::Ready(Vec::new()));
        assert_eq!(room(0, now).readiness(&roster(&[1]), now), Readiness::Ready(vec!["node-1".into()]));
    }
}
