//! What one person asked for and a second person must confirm.

use crate::{Reads, Rows, StoreError, WriteTx};
use serde::{Deserialize, Serialize};
use sluice_model::{PersonName, Timestamp};

const REQUESTS: Rows<&str> = Rows::new("requests_1");

pub(crate) fn create(tx: &WriteTx) -> Result<(), StoreError> {
    tx.create(REQUESTS)
}

/// A request that waits for a second person. It leaves the table when it is done, withdrawn or swept after its time; the
/// audit log keeps its story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// 16 lower-case hex characters.
    pub id: String,
    /// What is to be done, for instance `suspension.lift`.
    pub kind: String,
    /// To what, in words.
    pub subject: String,
    /// Everything that the operation needs to do it, in the operation's own form.
    pub payload: Vec<u8>,
    /// Who asked.
    pub by: PersonName,
    /// Who may not confirm besides him, for instance the publisher.
    pub barred: Vec<PersonName>,
    /// When.
    pub at: Timestamp,
    /// The first moment at which it can no longer be confirmed.
    pub expires_at: Timestamp,
}

/// Writes a request.
pub fn put(tx: &WriteTx, request: &RequestRecord) -> Result<(), StoreError> {
    tx.put(REQUESTS, request.id.as_str(), request)
}

/// The request with that id.
pub fn get(tx: &impl Reads, id: &str) -> Result<Option<RequestRecord>, StoreError> {
    tx.get(REQUESTS, id)
}

/// Removes a request; whether there was one.
pub fn remove(tx: &WriteTx, id: &str) -> Result<bool, StoreError> {
    tx.remove(REQUESTS, id)
}

/// Every request, by id.
pub fn list(tx: &impl Reads) -> Result<Vec<RequestRecord>, StoreError> {
    tx.list::<_, &str, _>(REQUESTS, .., usize::MAX)
}
