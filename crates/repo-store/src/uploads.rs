//! Uploads: who may write where, how long the file will be, and the offset that is durable.

use crate::{Reads, Rows, StoreError, WriteTx};
use serde::{Deserialize, Serialize};
use sluice_model::{PersonName, Timestamp};

const UPLOADS: Rows<&str> = Rows::new("uploads_1");

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(UPLOADS)
}

/// An upload; its bytes are in `uploads/<id>.part`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRecord {
    /// 32 lower-case hex characters, chosen by the server.
    pub id: String,
    /// The one person who may write, look at, use or remove it.
    pub owner: PersonName,
    /// `Upload-Length`.
    pub length: u64,
    /// Bytes that are durable: what the client was told. The file may be longer; what lies behind is written again.
    pub offset: u64,
    /// It expires a day after this.
    pub created_at: Timestamp,
}

/// The upload with that id.
pub fn get(tx: &impl Reads, id: &str) -> Result<Option<UploadRecord>, StoreError> {
    tx.get(UPLOADS, id)
}

/// Every upload.
pub fn list(tx: &impl Reads) -> Result<Vec<UploadRecord>, StoreError> {
    tx.list::<&str, &str, _>(UPLOADS, .., usize::MAX)
}

/// Writes the record, replacing the older one.
pub fn put(tx: &WriteTx, upload: &UploadRecord) -> Result<(), StoreError> {
    tx.put(UPLOADS, upload.id.as_str(), upload)
}

/// Forgets it; whether it was known.
pub fn remove(tx: &WriteTx, id: &str) -> Result<bool, StoreError> {
    tx.remove(UPLOADS, id)
}

/// How many uploads there are.
pub fn count(tx: &impl Reads) -> Result<u64, StoreError> {
    tx.count(UPLOADS)
}
