//! Small values by name: counters, the random start number, the floor of the last enrolment.

use crate::{StateError, StateStore};
use redb::{TableDefinition, WriteTransaction};

const KV: TableDefinition<&str, &[u8]> = TableDefinition::new("kv_1");

pub(crate) fn create_tables(transaction: &WriteTransaction) -> Result<(), StateError> {
    transaction.open_table(KV)?;
    Ok(())
}

impl StateStore {
    /// The value stored under `key`.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.database.read(|transaction| Ok(transaction.open_table(KV)?.get(key)?.map(|value| value.value().to_vec())))
    }

    /// Stores `value` under `key`, durably.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), StateError> {
        self.database.write(|transaction| {
            transaction.open_table(KV)?.insert(key, value)?;
            Ok(())
        })
    }

    /// The number stored under `key`; `None` when there is none or it is not eight bytes.
    pub fn get_u64(&self, key: &str) -> Result<Option<u64>, StateError> {
        Ok(self.get(key)?.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes))
    }

    /// Stores a number under `key`, durably.
    pub fn put_u64(&self, key: &str, value: u64) -> Result<(), StateError> {
        self.put(key, &value.to_be_bytes())
    }
}
