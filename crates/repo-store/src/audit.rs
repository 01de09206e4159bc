//! The audit log: one hash-chained line for each thing that was done or refused.
//!
//! A line is written in the transaction of the change that it tells of, so the log and the state cannot part.

use crate::{Reads, Rows, StoreError, WriteTx};
use serde::{Deserialize, Serialize};
use sluice_model::Timestamp;

const AUDIT: Rows<u64> = Rows::new("audit_1");

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(AUDIT)
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

/// A line as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AuditLine {
    /// From 1, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    pub who: String,
    pub action: String,
    pub subject: String,
    pub done: bool,
    pub detail: String,
    /// BLAKE3 over the hash of the line before (32 zero bytes for the first) and this line's fields.
    pub hash: [u8; 32],
}

/// Writes a line and gives its seq.
pub fn append(tx: &WriteTx, new: NewAuditLine) -> Result<u64, StoreError> {
    let before: Option<AuditLine> = tx.last(AUDIT)?;
    let (seq, before_hash) = before.map_or((1, [0; 32]), |line| (line.seq + 1, line.hash));
    let mut line = AuditLine {
        seq,
        at: new.at,
        who: new.who,
        action: new.action.to_owned(),
        subject: new.subject,
        done: new.done,
        detail: new.detail,
        hash: [0; 32],
    };
    line.hash = chain(&before_hash, &line);
    tx.put(AUDIT, seq, &line)?;
    Ok(seq)
}

/// Lines after `after`, oldest first, at most `count_max`.
pub fn list(tx: &impl Reads, after: u64, count_max: usize) -> Result<Vec<AuditLine>, StoreError> {
    tx.list(AUDIT, after.saturating_add(1).., count_max)
}

/// The first line of `lines` that does not follow the one before it; `before` is the hash of the line before the first.
pub fn first_broken(before: &[u8; 32], lines: &[AuditLine]) -> Option<u64> {
    let mut before = *before;
    for line in lines {
        if chain(&before, line) != line.hash {
            return Some(line.seq);
        }
        before = line.hash;
    }
    None
}

/// The hash of `line` behind a line with `before`.
fn chain(before: &[u8; 32], line: &AuditLine) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(&leaf(line));
    *hasher.finalize().as_bytes()
}

/// The bytes of a line that its hash covers: seq, time, result, then each text behind its length, numbers big end
/// first. No two lines have the same bytes, and they never change once written.
fn leaf(line: &AuditLine) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + line.subject.len() + line.detail.len());
    bytes.extend_from_slice(&line.seq.to_be_bytes());
    bytes.extend_from_slice(&line.at.as_millis().to_be_bytes());
    bytes.push(u8::from(line.done));
    for text in [&line.who, &line.action, &line.subject, &line.detail] {
        bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

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

    fn lines_of(subjects: &[&str]) -> Vec<AuditLine> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("repo.redb")).unwrap();
        for subject in subjects {
            store.write(|tx| append(tx, new(subject))).unwrap();
        }
        store.read(|tx| list(tx, 0, 100)).unwrap()
    }

    #[test]
    fn lines_are_numbered_without_gaps_and_a_failed_change_leaves_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("repo.redb")).unwrap();
        assert_eq!(store.write(|tx| append(tx, new("a"))).unwrap(), 1);
        let failed: Result<u64, StoreError> = store.write(|tx| {
            append(tx, new("b"))?;
            Err(StoreError::Stopped)
        });
        assert!(failed.is_err());
        assert_eq!(store.write(|tx| append(tx, new("c"))).unwrap(), 2);
        let page = store.read(|tx| list(tx, 1, 10)).unwrap();
        assert_eq!(page.iter().map(|line| line.subject.as_str()).collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn a_changed_a_removed_and_a_swapped_line_are_found() {
        let lines = lines_of(&["a", "b", "c", "d"]);
        assert_eq!(first_broken(&[0; 32], &lines), None);
        let mut changed = lines.clone();
        changed[1].detail = "harmless".into();
        assert_eq!(first_broken(&[0; 32], &changed), Some(2));
        let mut removed = lines.clone();
        removed.remove(1);
        assert_eq!(first_broken(&[0; 32], &removed), Some(3));
        let mut swapped = lines;
        swapped.swap(1, 2);
        assert_eq!(first_broken(&[0; 32], &swapped), Some(3));
    }

    #[test]
    fn the_hash_of_a_line_is_the_golden_one() {
        let hash: String = lines_of(&["openssl/1"])[0].hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, "63f9c87443a7f9d4055a9690964313b2ad75d5fe1476884240defde4a16e86dc");
    }
}
