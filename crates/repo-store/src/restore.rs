//! That this database is a restored backup, from the moment somebody says so until its nodes were heard.

use crate::{Reads, Rows, StoreError, WriteTx};
use serde::{Deserialize, Serialize};
use sluice_model::{LogHead, Timestamp};

const RESTORE: Rows<&str> = Rows::new("restore_1");
/// There is one at a time.
const PENDING: &str = "pending";

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(RESTORE)
}

/// A restore that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreRecord {
    /// When it was said.
    pub at: Timestamp,
    /// Who said it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The audit log as the backup had it.
    pub backup: LogHead,
    /// Version of the timestamp in the backup.
    pub timestamp_version: u64,
    /// How long nodes that do not speak are waited for; zero: no node is waited for.
    pub wait_secs: u64,
}

/// Notes a restore.
pub fn put(tx: &WriteTx, record: &RestoreRecord) -> Result<(), StoreError> {
    tx.put(RESTORE, PENDING, record)
}

/// The restore that is under way.
pub fn pending(tx: &impl Reads) -> Result<Option<RestoreRecord>, StoreError> {
    tx.get(RESTORE, PENDING)
}

/// It is done.
pub fn finish(tx: &WriteTx) -> Result<(), StoreError> {
    tx.remove(RESTORE, PENDING).map(|_| ())
}
