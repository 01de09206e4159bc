//! Transactions with typed records: what every table module reads and writes through.

use crate::StoreError;
use redb::{Database, Key, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Borrow;
use std::ops::RangeBounds;

/// A table of records.
pub type Rows<K> = TableDefinition<'static, K, &'static [u8]>;

/// First byte of every record.
const RECORD_FORMAT: u8 = 1;

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![RECORD_FORMAT]).expect("records are plain values without unsized maps")
}

fn decode<T: DeserializeOwned>(table: &str, bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&RECORD_FORMAT, rest)) => {
            postcard::from_bytes(rest).map_err(|source| StoreError::Record { table: table.to_owned(), source })
        }
        other => Err(StoreError::RecordFormat {
            table: table.to_owned(),
            found: other.map_or(0, |(format, _)| *format),
            known: RECORD_FORMAT,
        }),
    }
}

/// Reading, the same in both kinds of transaction.
pub trait Reads {
    /// The record at `key`.
    fn get<'k, K: Key + 'static, T: DeserializeOwned>(
        &self,
        table: Rows<K>,
        key: impl Borrow<K::SelfType<'k>>,
    ) -> Result<Option<T>, StoreError>;

    /// The raw bytes at `key`, for tables that hold signed bytes as they are.
    fn get_bytes<'k, K: Key + 'static>(
        &self,
        table: Rows<K>,
        key: impl Borrow<K::SelfType<'k>>,
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `count_max` records of `range` in key order.
    fn list<'k, K: Key + 'static, KR: Borrow<K::SelfType<'k>> + 'k, T: DeserializeOwned>(
        &self,
        table: Rows<K>,
        range: impl RangeBounds<KR> + 'k,
        count_max: usize,
    ) -> Result<Vec<T>, StoreError>;

    /// Calls `each` with every key and the raw bytes, in key order.
    fn for_each<K: Key + 'static>(
        &self,
        table: Rows<K>,
        each: impl FnMut(K::SelfType<'_>, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// The record with the highest key.
    fn last<K: Key + 'static, T: DeserializeOwned>(&self, table: Rows<K>) -> Result<Option<T>, StoreError>;

    /// Up to `count_max` keys from the highest down.
    fn last_keys(&self, table: Rows<u64>, count_max: usize) -> Result<Vec<u64>, StoreError>;

    /// Up to `count_max` keys of `range` with their raw bytes, in key order.
    fn list_bytes(
        &self,
        table: Rows<u64>,
        range: impl RangeBounds<u64>,
        count_max: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError>;

    /// How many records the table has.
    fn count<K: Key + 'static>(&self, table: Rows<K>) -> Result<u64, StoreError>;
}

/// A consistent view of the last committed state.
pub struct ReadTx {
    inner: redb::ReadTransaction,
}

/// The one open change.
pub struct WriteTx {
    inner: redb::WriteTransaction,
}

macro_rules! reads {
    ($tx:ty) => {
        impl Reads for $tx {
            fn get<'k, K: Key + 'static, T: DeserializeOwned>(
                &self,
                table: Rows<K>,
                key: impl Borrow<K::SelfType<'k>>,
            ) -> Result<Option<T>, StoreError> {
                let open = self.inner.open_table(table)?;
                open.get(key)?.map(|guard| decode(table.name(), guard.value())).transpose()
            }

            fn get_bytes<'k, K: Key + 'static>(
                &self,
                table: Rows<K>,
                key: impl Borrow<K::SelfType<'k>>,
            ) -> Result<Option<Vec<u8>>, StoreError> {
                let open = self.inner.open_table(table)?;
                Ok(open.get(key)?.map(|guard| guard.value().to_vec()))
            }

            fn list<'k, K: Key + 'static, KR: Borrow<K::SelfType<'k>> + 'k, T: DeserializeOwned>(
                &self,
                table: Rows<K>,
                range: impl RangeBounds<KR> + 'k,
                count_max: usize,
            ) -> Result<Vec<T>, StoreError> {
                let open = self.inner.open_table(table)?;
                let rows = open.range::<KR>(range)?;
                rows.take(count_max).map(|row| decode(table.name(), row?.1.value())).collect()
            }

            fn for_each<K: Key + 'static>(
                &self,
                table: Rows<K>,
                mut each: impl FnMut(K::SelfType<'_>, &[u8]) -> Result<(), StoreError>,
            ) -> Result<(), StoreError> {
                let open = self.inner.open_table(table)?;
                for row in open.iter()? {
                    let (key, value) = row?;
                    each(key.value(), value.value())?;
                }
                Ok(())
            }

            fn last<K: Key + 'static, T: DeserializeOwned>(&self, table: Rows<K>) -> Result<Option<T>, StoreError> {
                let open = self.inner.open_table(table)?;
                open.last()?.map(|(_, value)| decode(table.name(), value.value())).transpose()
            }

            fn last_keys(&self, table: Rows<u64>, count_max: usize) -> Result<Vec<u64>, StoreError> {
                let open = self.inner.open_table(table)?;
                let rows = open.iter()?.rev();
                rows.take(count_max).map(|row| Ok(row?.0.value())).collect()
            }

            fn list_bytes(
                &self,
                table: Rows<u64>,
                range: impl RangeBounds<u64>,
                count_max: usize,
            ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
                let open = self.inner.open_table(table)?;
                let rows = open.range::<u64>(range)?;
                let pair = |row: Result<(redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &[u8]>), _>| {
                    let (key, value) = row?;
                    Ok((key.value(), value.value().to_vec()))
                };
                rows.take(count_max).map(pair).collect()
            }

            fn count<K: Key + 'static>(&self, table: Rows<K>) -> Result<u64, StoreError> {
                Ok(self.inner.open_table(table)?.len()?)
            }
        }
    };
}

reads!(ReadTx);
reads!(WriteTx);

impl ReadTx {
    pub(crate) fn begin(database: &Database) -> Result<Self, StoreError> {
        Ok(Self { inner: database.begin_read()? })
    }
}

impl WriteTx {
    pub(crate) fn begin(database: &Database) -> Result<Self, StoreError> {
        let mut inner = database.begin_write()?;
        // The allocator state is written with each commit, so that the start after a crash needs no scan.
        inner.set_quick_repair(true);
        Ok(Self { inner })
    }

    pub(crate) fn commit(self) -> Result<(), StoreError> {
        Ok(self.inner.commit()?)
    }

    /// Makes sure that `table` exists, so that reads need not ask.
    pub fn create<K: Key + 'static>(&self, table: Rows<K>) -> Result<(), StoreError> {
        self.inner.open_table(table)?;
        Ok(())
    }

    /// Writes the record at `key`, replacing an older one.
    pub fn put<'k, K: Key + 'static, T: Serialize>(
        &self,
        table: Rows<K>,
        key: impl Borrow<K::SelfType<'k>>,
        value: &T,
    ) -> Result<(), StoreError> {
        self.put_bytes(table, key, &encode(value))
    }

    /// Writes raw bytes at `key`, replacing older ones.
    pub fn put_bytes<'k, K: Key + 'static>(
        &self,
        table: Rows<K>,
        key: impl Borrow<K::SelfType<'k>>,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.inner.open_table(table)?.insert(key, bytes)?;
        Ok(())
    }

    /// Removes the record at `key`; whether there was one.
    pub fn remove<'k, K: Key + 'static>(
        &self,
        table: Rows<K>,
        key: impl Borrow<K::SelfType<'k>>,
    ) -> Result<bool, StoreError> {
        let mut open = self.inner.open_table(table)?;
        let removed = open.remove(key)?.is_some();
        Ok(removed)
    }
}
