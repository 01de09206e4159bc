//! The redb file, opened anew after an I/O error.
//!
//! After one I/O error redb refuses every write, because it cannot know what reached the disk. Dropping the handle and
//! opening the file again brings back the last committed state.

use crate::StoreError;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, WriteTransaction};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

type Open = Box<dyn Fn() -> Result<Database, StoreError> + Send + Sync>;

/// Page cache: chains, pairs and counters of 100,000 endpoints are some 60 MiB, of which a quarter is hot.
const CACHE_BYTES: usize = 32 << 20;

pub(crate) struct Reopening {
    open: Open,
    /// `None` after an I/O error until the next call opened it again.
    database: RwLock<Option<Database>>,
}

impl Reopening {
    pub(crate) fn file(path: &Path) -> Result<Self, StoreError> {
        let path = path.to_owned();
        Self::with(Box::new(move || {
            Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.clone() },
                other => StoreError::Database(Box::new(other.into())),
            })
        }))
    }

    pub(crate) fn with(open: Open) -> Result<Self, StoreError> {
        let database = open()?;
        Ok(Self { open, database: RwLock::new(Some(database)) })
    }

    pub(crate) fn read<T>(
        &self,
        body: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.run(|database| body(&database.begin_read()?))
    }

    /// Runs `body` in a transaction and commits it durably; an error of `body` leaves everything as it was.
    pub(crate) fn write<T>(
        &self,
        body: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.run(|database| {
            let mut transaction = database.begin_write()?;
            // A crash is followed by a start within seconds, not by a walk over the whole file.
            transaction.set_quick_repair(true);
            let value = body(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }

    fn run<T>(&self, body: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.ensure_open()?;
        let result = {
            let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
            let database = guard.as_ref().ok_or_else(|| StoreError::Database(Box::new(redb::Error::PreviousIo)))?;
            body(database)
        };
        if let Err(error) = &result
            && error.poisons_handle()
        {
            tracing::error!(?error, "the compliance database failed; it will be opened anew");
            // Dropped here, so that its file lock is free when the next call opens it.
            *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }

    fn ensure_open(&self) -> Result<(), StoreError> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            *guard = Some((self.open)()?);
            tracing::info!("the compliance database is open again");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{HEARD_COUNTS, create_tables};
    use redb::StorageBackend;
    use redb::backends::FileBackend;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    /// A real file; every call after the countdown reached zero fails until it is set again.
    #[derive(Debug)]
    struct Failing {
        file: FileBackend,
        left: Arc<AtomicI64>,
    }

    impl Failing {
        fn step(&self) -> io::Result<()> {
            if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 { Err(io::Error::other("injected")) } else { Ok(()) }
        }
    }

    impl StorageBackend for Failing {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.step()?;
            self.file.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.step()?;
            self.file.set_len(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.step()?;
            self.file.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.step()?;
            self.file.write(offset, data)
        }
        fn close(&self) -> io::Result<()> {
            self.file.close()
        }
    }

    fn failing(path: std::path::PathBuf, left: Arc<AtomicI64>) -> Reopening {
        let broken = |error: redb::Error| StoreError::Database(Box::new(error));
        Reopening::with(Box::new(move || {
            let mut options = std::fs::OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).open(&path);
            let file = FileBackend::new(file.map_err(|error| broken(error.into()))?).map_err(|e| broken(e.into()))?;
            let backend = Failing { file, left: left.clone() };
            Database::builder().create_with_backend(backend).map_err(|error| broken(error.into()))
        }))
        .unwrap()
    }

    fn put(database: &Reopening, value: u64) -> Result<(), StoreError> {
        database.write(|tx| {
            tx.open_table(HEARD_COUNTS)?.insert(("lyon", "pilot"), value)?;
            Ok(())
        })
    }

    #[test]
    fn whichever_io_fails_the_file_opens_anew_and_keeps_what_was_acknowledged() {
        for fail_at in 0..40 {
            let dir = tempfile::tempdir().unwrap();
            let left = Arc::new(AtomicI64::new(i64::MAX));
            let database = failing(dir.path().join("c.redb"), left.clone());
            database.write(create_tables).unwrap();
            put(&database, 1).unwrap();
            left.store(fail_at, Ordering::SeqCst);
            let attempted = put(&database, 2);
            left.store(i64::MAX, Ordering::SeqCst);
            let value = database
                .read(|tx| Ok(tx.open_table(HEARD_COUNTS)?.get(("lyon", "pilot"))?.map(|row| row.value())))
                .unwrap();
            assert!(value == Some(2) || (attempted.is_err() && value == Some(1)), "fail at {fail_at}: {value:?}");
            put(&database, 3).unwrap();
        }
    }
}
