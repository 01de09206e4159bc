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

/// The hash of `line` behind a line with `before`: each field with its length, so that no two lines read the same.
fn chain(before: &[u8; 32], line: &AuditLine) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(&line.seq.to_be_bytes());
    hasher.update(&line.at.as_millis().to_be_bytes());
    hasher.update(&[u8::from(line.done)]);
    for text in [&line.who, &line.action, &line.subject, &line.detail] {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    *hasher.finalize().as_bytes()
}
