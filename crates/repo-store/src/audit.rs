//! The audit log: one leaf for each thing that was done or refused and for each metadata file that was signed, and the
//! nodes of the Merkle tree over them (RFC 6962).
//!
//! A line is written in the transaction of the change that it tells of, so the log and the state cannot part. An append
//! writes two nodes on average; a root or proof reads O(log n) of them.
//!
//! Invariants
//! - Leaves are numbered from 1 without gaps and never change; nodes are written once.
//! - A head (signed timestamp) is kept where something was done since the one before it, and the newest always.

use crate::{Reads, Rows, StoreError, WriteTx};
use sluice_audit::{Act, Entry, Event, Gap, NodeAt, SignedFile, consistency_proof, inclusion_proof, leaf_hash, root};
use sluice_model::{LogHead, Sha256, Timestamp};

/// Seq -> the leaf's bytes.
const LEAVES: Rows<u64> = Rows::new("audit_2");
/// [`NodeAt::key`] -> 32 bytes.
const NODES: Rows<u64> = Rows::new("audit_nodes_1");
/// Seqs of the leaves that people read: nearly all others are timestamps, one a minute.
const ACTS: Rows<u64> = Rows::new("audit_acts_1");
/// Size -> the signed `timestamp.json` over that many leaves.
const HEADS: Rows<u64> = Rows::new("audit_heads_1");
/// Seqs of the leaves that mark gaps.
const GAPS: Rows<u64> = Rows::new("audit_gaps_1");

/// Characters of one text of a line; what is longer is cut, or else one line could outgrow an export's.
const TEXT_CHARS_MAX: usize = 4_000;

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(LEAVES)?;
    tx.create(NODES)?;
    tx.create(ACTS)?;
    tx.create(HEADS)?;
    tx.create(GAPS)
}

/// What is to be written down.
#[derive(Clone, Debug)]
pub struct NewAuditLine {
    /// When, by the server's clock.
    pub at: Timestamp,
    /// A person, `server`, or a device's key.
    pub who: String,
    /// For instance `patch.approve`.
    pub action: &'static str,
    /// What it was done to.
    pub subject: String,
    /// Whether it was done or refused.
    pub done: bool,
    /// In words.
    pub detail: String,
}

/// A line that tells of something done or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// Its place in the log, from 1; the places between are of signed files.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub act: Act,
    /// Leaf hash of its bytes.
    pub hash: Sha256,
}

/// A leaf that marks a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapMark {
    /// Its place.
    pub seq: u64,
    /// Its bytes.
    pub leaf: Vec<u8>,
    /// The path from it to the root that was asked for.
    pub proof: Vec<Sha256>,
}

/// Writes a line and gives its seq.
pub fn append(tx: &WriteTx, new: NewAuditLine) -> Result<u64, StoreError> {
    let act = Act {
        who: cut(new.who),
        action: new.action.to_owned(),
        subject: cut(new.subject),
        done: new.done,
        detail: cut(new.detail),
    };
    let seq = write(tx, new.at, Event::Act(act))?;
    tx.put_bytes(ACTS, seq, &[])?;
    Ok(seq)
}

/// Marks a gap, and gives the mark's seq.
pub fn append_gap(tx: &WriteTx, at: Timestamp, gap: Gap) -> Result<u64, StoreError> {
    let gap = Gap { by: cut(gap.by), reason: cut(gap.reason), ..gap };
    let seq = write(tx, at, Event::Gap(gap))?;
    tx.put_bytes(GAPS, seq, &[])?;
    Ok(seq)
}

/// The newest mark of a gap among the first `size` leaves that covers a log of `seen` leaves.
pub fn gap_mark(tx: &impl Reads, seen: u64, size: u64) -> Result<Option<GapMark>, StoreError> {
    if size > self::size(tx)? {
        return Ok(None);
    }
    // Restores are rare: this list is short.
    for (seq, _) in tx.list_bytes(GAPS, ..=size, usize::MAX)?.into_iter().rev() {
        let leaf = tx.get_bytes(LEAVES, seq)?.ok_or(StoreError::Damaged { what: "the audit log lacks a line" })?;
        if let Ok(Entry { event: Event::Gap(gap), .. }) = Entry::read(&leaf)
            && gap.covers(seen)
        {
            let proof = inclusion_proof(seq - 1, size, |at| node(tx, at))?;
            return Ok(Some(GapMark { seq, leaf, proof }));
        }
    }
    Ok(None)
}

/// Writes a leaf for a metadata file that was signed.
pub(crate) fn append_signed(tx: &WriteTx, file: &str, bytes: &[u8], at: Timestamp) -> Result<(), StoreError> {
    let file = SignedFile { file: file.to_owned(), length: bytes.len() as u64, sha256: sluice_audit::sha256(bytes) };
    write(tx, at, Event::Signed(file)).map(|_| ())
}

fn write(tx: &WriteTx, at: Timestamp, event: Event) -> Result<u64, StoreError> {
    let size = size(tx)?;
    let seq = size + 1;
    let leaf = Entry { seq, at, event }.to_leaf();
    tx.put_bytes(LEAVES, seq, &leaf)?;
    for (at, hash) in sluice_audit::append(size, leaf_hash(&leaf), |at| node(tx, at))? {
        tx.put_bytes(NODES, at.key(), hash.as_bytes())?;
    }
    Ok(seq)
}

/// How many leaves there are.
fn size(tx: &impl Reads) -> Result<u64, StoreError> {
    Ok(tx.last_keys(LEAVES, 1)?.first().copied().unwrap_or(0))
}

fn node(tx: &impl Reads, at: NodeAt) -> Result<Sha256, StoreError> {
    let bytes = tx.get_bytes(NODES, at.key())?.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(Sha256::from_bytes).ok_or(StoreError::Damaged { what: "the audit log lacks a node of its tree" })
}

/// Size and root of the log as this transaction sees it.
pub fn head(tx: &impl Reads) -> Result<LogHead, StoreError> {
    let size = size(tx)?;
    Ok(LogHead { size, root: root(size, |at| node(tx, at))? })
}

/// What shows that the log of `to` leaves begins with that of `from`; `None` when it never had so many, or `from` is
/// larger.
pub fn consistency(tx: &impl Reads, from: u64, to: u64) -> Result<Option<Vec<Sha256>>, StoreError> {
    if from > to || to > size(tx)? {
        return Ok(None);
    }
    consistency_proof(from, to, |at| node(tx, at)).map(Some)
}

/// Lines of things done or refused after `after`, oldest first, at most `count_max`.
pub fn list(tx: &impl Reads, after: u64, count_max: usize) -> Result<Vec<AuditLine>, StoreError> {
    let seqs = tx.list_bytes(ACTS, after.saturating_add(1).., count_max)?;
    let mut lines = Vec::with_capacity(seqs.len());
    for (seq, _) in seqs {
        let leaf = tx.get_bytes(LEAVES, seq)?.ok_or(StoreError::Damaged { what: "the audit log lacks a line" })?;
        let entry =
            Entry::read(&leaf).map_err(|_| StoreError::Damaged { what: "a line of the audit log is unreadable" })?;
        if let Event::Act(act) = entry.event {
            lines.push(AuditLine { seq, at: entry.at, act, hash: leaf_hash(&leaf) });
        }
    }
    Ok(lines)
}

/// Leaves after `after` up to `size`, as stored, with their seq; at most `count_max`.
pub fn leaves(tx: &impl Reads, after: u64, size: u64, count_max: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    tx.list_bytes(LEAVES, after.saturating_add(1)..=size, count_max)
}

/// Keeps the signed timestamp over the first `size` leaves. The one before it goes when nothing was done between it
/// and the one before that: renewals alone would keep half a million a year.
pub fn put_head(tx: &WriteTx, size: u64, timestamp: &[u8]) -> Result<(), StoreError> {
    if let [last, before @ ..] = tx.last_keys(HEADS, 2)?.as_slice() {
        let before = before.first().copied().unwrap_or(0);
        if tx.list_bytes(ACTS, before + 1..=*last, 1)?.is_empty() {
            tx.remove(HEADS, *last)?;
        }
    }
    tx.put_bytes(HEADS, size, timestamp)
}

/// The newest signed head: its size and its `timestamp.json`.
pub fn last_head(tx: &impl Reads) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
    match tx.last_keys(HEADS, 1)?.first() {
        Some(size) => Ok(tx.get_bytes(HEADS, *size)?.map(|timestamp| (*size, timestamp))),
        None => Ok(None),
    }
}

/// Kept heads over more than `after` and at most `size` leaves, by size, at most `count_max`.
pub fn heads(tx: &impl Reads, after: u64, size: u64, count_max: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    tx.list_bytes(HEADS, after.saturating_add(1)..=size, count_max)
}

fn cut(text: String) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((at, _)) => text[..at].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    struct Log {
        _dir: tempfile::TempDir,
        store: Store,
    }

    fn log() -> Log {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("repo.redb")).unwrap();
        Log { _dir: dir, store }
    }

    fn new(subject: &str) -> NewAuditLine {
        NewAuditLine {
            at: Timestamp::from_millis(7),
            who: "ann".into(),
            action: "patch.approve",
            subject: subject.into(),
            done: true,
            detail: String::new(),
        }
    }

    impl Log {
        fn act(&self, subject: &str) -> u64 {
            self.store.write(|tx| append(tx, new(subject))).unwrap()
        }

        /// A renewal: the head over what is there, then the leaf of the timestamp that carries it.
        fn sign(&self, timestamp: &str) {
            let signed: Result<(), StoreError> = self.store.write(|tx| {
                put_head(tx, head(tx)?.size, timestamp.as_bytes())?;
                append_signed(tx, "timestamp.json", timestamp.as_bytes(), Timestamp::from_millis(8))
            });
            signed.unwrap();
        }

        fn head(&self) -> LogHead {
            self.store.read(head).unwrap()
        }
    }

    #[test]
    fn leaves_are_numbered_without_gaps_and_a_failed_change_leaves_none() {
        let log = log();
        assert_eq!(log.act("a"), 1);
        let before = log.head();
        let failed: Result<u64, StoreError> = log.store.write(|tx| {
            append(tx, new("b"))?;
            Err(StoreError::Stopped)
        });
        assert!(failed.is_err());
        assert_eq!(log.head(), before);
        log.sign("t");
        assert_eq!(log.act("c"), 3);
        let page = log.store.read(|tx| list(tx, 1, 10)).unwrap();
        assert_eq!(page.iter().map(|line| (line.seq, line.act.subject.as_str())).collect::<Vec<_>>(), [(3, "c")]);
        let leaves = log.store.read(|tx| leaves(tx, 0, 2, 10)).unwrap();
        assert_eq!(leaves.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn the_stored_tree_is_the_tree_over_the_stored_leaves_and_proves_its_past() {
        let log = log();
        let mut heads = vec![log.head()];
        for at in 0..40 {
            if at % 3 == 0 {
                log.sign("t")
            } else {
                assert!(log.act("x") > 0)
            }
            heads.push(log.head());
        }
        let mut peaks = sluice_audit::Peaks::default();
        for (at, (_, leaf)) in log.store.read(|tx| leaves(tx, 0, 40, 100)).unwrap().iter().enumerate() {
            assert_eq!(heads[at], LogHead { size: at as u64, root: peaks.root() });
            peaks.push(leaf_hash(leaf));
        }
        for (from, to) in [(0, 40), (1, 2), (7, 31), (32, 40), (40, 40)] {
            let proof = log.store.read(|tx| consistency(tx, from as u64, to as u64)).unwrap().unwrap();
            sluice_audit::verify_consistency(&heads[from], &heads[to], &proof).unwrap();
        }
        assert_eq!(log.store.read(|tx| consistency(tx, 40, 41)).unwrap(), None);
        assert_eq!(log.store.read(|tx| consistency(tx, 9, 8)).unwrap(), None);
    }

    #[test]
    fn heads_stay_where_something_was_done_and_renewals_leave_only_the_newest() {
        let log = log();
        log.act("a");
        log.sign("1");
        for at in 2..20 {
            log.sign(&at.to_string());
        }
        log.act("b");
        for at in 20..30 {
            log.sign(&at.to_string());
        }
        let heads = log.store.read(|tx| heads(tx, 0, u64::MAX, 100)).unwrap();
        let names: Vec<&str> = heads.iter().map(|(_, bytes)| std::str::from_utf8(bytes).unwrap()).collect();
        assert_eq!(names, ["1", "20", "29"]);
    }

    #[test]
    fn a_text_without_end_is_cut_where_a_character_ends() {
        let log = log();
        log.act(&"ü".repeat(TEXT_CHARS_MAX + 1));
        let lines = log.store.read(|tx| list(tx, 0, 1)).unwrap();
        assert_eq!(lines[0].act.subject, "ü".repeat(TEXT_CHARS_MAX));
    }

    #[test]
    fn a_tree_that_lost_a_node_is_an_error_and_not_another_root() {
        let log = log();
        log.act("a");
        log.act("b");
        log.act("c");
        log.store.write(|tx| tx.remove(NODES, NodeAt { level: 1, index: 0 }.key())).unwrap();
        assert!(matches!(log.store.read(head), Err(StoreError::Damaged { .. })));
    }
}
