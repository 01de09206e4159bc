//! The repo server's own database: patches, signed metadata, uploads, sites, members, tokens and the audit log.
//!
//! One redb file, one owner. Every change goes through [`Store::write`], whose closure is one transaction: a patch
//! change, the metadata files that it made and its audit line are durable together or not at all. Reads run beside it
//! and see the last committed state. Nothing here decides; records are the disk forms, apart from the HTTP forms.
//!
//! Invariants
//! - A value is one version byte and a postcard record; an unknown version is an error, never a default.
//! - Table names end in their format number.
//! - A database that cannot be read is an error, never an empty database.

pub mod audit;
pub mod bans;
pub mod controls;
mod error;
pub mod members;
pub mod metadata;
pub mod patches;
pub mod proposals;
pub mod requests;
pub mod restore;
pub mod schedules;
pub mod sites;
pub mod tokens;
mod transaction;
pub mod uploads;

pub use error::StoreError;
pub use transaction::{ReadTx, Reads, Rows, WriteTx};

use redb::Database;
use std::path::Path;
use std::sync::Arc;

/// Page cache of the database: the working set is some thousand patches and rows, about 20 MiB.
const CACHE_BYTES: usize = 32 << 20;

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    database: Arc<Database>,
}

impl Store {
    /// Opens `path`, creating it and its tables when absent.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |source: redb::Error| StoreError::Open { path: path.to_owned(), source: Box::new(source) };
        let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create(path).map_err(|e| open(e.into()))?;
        let store = Self { database: Arc::new(database) };
        store.write(|tx| {
            audit::create(tx)?;
            bans::create(tx)?;
            controls::create(tx)?;
            members::create(tx)?;
            metadata::create(tx)?;
            patches::create(tx)?;
            proposals::create(tx)?;
            requests::create(tx)?;
            restore::create(tx)?;
            schedules::create(tx)?;
            sites::create(tx)?;
            tokens::create(tx)?;
            uploads::create(tx)
        })?;
        Ok(store)
    }

    /// Runs `change` in one transaction and commits it durably; an error of `change` leaves everything as it was.
    ///
    /// Blocks for the disk (some milliseconds); writers wait for each other. From async code use [`Store::change`].
    pub fn write<T, E: From<StoreError>>(&self, change: impl FnOnce(&WriteTx) -> Result<T, E>) -> Result<T, E> {
        let tx = WriteTx::begin(&self.database)?;
        let value = change(&tx)?;
        tx.commit()?;
        Ok(value)
    }

    /// Runs `look` on the last committed state. From async code use [`Store::look`] when it lists.
    pub fn read<T, E: From<StoreError>>(&self, look: impl FnOnce(&ReadTx) -> Result<T, E>) -> Result<T, E> {
        look(&ReadTx::begin(&self.database)?)
    }

    /// [`Store::write`] on the blocking pool. Once it was polled, the change happens even when the future is dropped.
    pub async fn change<T, E>(&self, change: impl FnOnce(&WriteTx) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let store = self.clone();
        run(move || store.write(change)).await?
    }

    /// [`Store::read`] on the blocking pool.
    pub async fn look<T, E>(&self, look: impl FnOnce(&ReadTx) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let store = self.clone();
        run(move || store.read(look)).await?
    }
}

async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Stopped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uploads::UploadRecord;
    use sluice_model::Timestamp;

    fn upload(id: &str) -> UploadRecord {
        let owner = "paul".parse().unwrap();
        UploadRecord { id: id.into(), owner, length: 9, offset: 0, created_at: Timestamp::from_millis(1) }
    }

    #[test]
    fn a_change_that_fails_leaves_every_table_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("repo.redb")).unwrap();
        store.write(|tx| uploads::put(tx, &upload("a"))).unwrap();
        let failed: Result<(), StoreError> = store.write(|tx| {
            uploads::put(tx, &upload("b"))?;
            uploads::remove(tx, "a")?;
            Err(StoreError::Stopped)
        });
        assert!(failed.is_err());
        assert_eq!(store.read(uploads::list).unwrap(), [upload("a")]);
    }

    #[test]
    fn a_record_of_another_format_is_an_error_and_not_an_absence() {
        const UPLOADS: Rows<&str> = Rows::new("uploads_1");
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("repo.redb")).unwrap();
        for (bytes, found) in [(&[9, 1, 2][..], 9), (&[][..], 0)] {
            store.write(|tx| tx.put_bytes(UPLOADS, "a", bytes)).unwrap();
            let error = store.read(|tx| uploads::get(tx, "a")).unwrap_err();
            assert!(
                matches!(error, StoreError::RecordFormat { found: got, known: 1, .. } if got == found),
                "{error:?}"
            );
        }
        store.write(|tx| tx.put_bytes(UPLOADS, "a", &[1, 255])).unwrap();
        assert!(matches!(store.read(|tx| uploads::get(tx, "a")), Err(StoreError::Record { .. })));
    }

    #[test]
    fn a_second_opening_and_a_file_that_is_no_database_are_errors_that_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repo.redb");
        let _store = Store::open(&path).unwrap();
        let error = Store::open(&path).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("repo.redb"), "{error}");
        let junk = dir.path().join("junk.redb");
        std::fs::write(&junk, vec![7; 10_000]).unwrap();
        assert!(matches!(Store::open(&junk), Err(StoreError::Open { .. })));
    }
}
