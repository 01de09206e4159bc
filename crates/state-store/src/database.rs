//! One redb file that is opened anew after an I/O error.
//!
//! redb refuses every call after one I/O error, because it cannot know what reached the disk. Dropping the handle and
//! opening the file again brings back the last committed state; that is done here, once, for all tables.

use crate::StateError;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, WriteTransaction};
use std::fmt;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

type Open = Box<dyn Fn() -> Result<Database, StateError> + Send + Sync>;

/// Bytes of pages that redb may keep in memory: state is small, and agents run on small machines.
const CACHE_BYTES: usize = 16 << 20;

pub(crate) struct Reopening {
    open: Open,
    /// `None` after an I/O error until the next call opened it again.
    database: RwLock<Option<Database>>,
}

impl fmt::Debug for Reopening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reopening")
    }
}

impl Reopening {
    pub(crate) fn file(path: &Path) -> Result<Self, StateError> {
        let path = path.to_owned();
        Self::with(Box::new(move || {
            Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => StateError::InUse { path: path.clone() },
                other => StateError::Database(Box::new(other.into())),
            })
        }))
    }

    pub(crate) fn with(open: Open) -> Result<Self, StateError> {
        let database = open()?;
        Ok(Self { open, database: RwLock::new(Some(database)) })
    }

    /// Runs `body` in a read transaction.
    pub(crate) fn read<T>(
        &self,
        body: impl FnOnce(&ReadTransaction) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        self.run(|database| {
            let transaction = database.begin_read()?;
            body(&transaction)
        })
    }

    /// Runs `body` in a write transaction and commits it durably; an error of `body` aborts it.
    pub(crate) fn write<T>(
        &self,
        body: impl FnOnce(&WriteTransaction) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        self.run(|database| {
            let mut transaction = database.begin_write()?;
            // A crash is followed by a start within seconds, not by a walk over the whole file.
            transaction.set_quick_repair(true);
            let value = body(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }

    fn run<T>(&self, body: impl FnOnce(&Database) -> Result<T, StateError>) -> Result<T, StateError> {
        self.ensure_open()?;
        let result = {
            let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
            let Some(database) = guard.as_ref() else {
                return Err(StateError::Database(Box::new(redb::Error::PreviousIo)));
            };
            body(database)
        };
        if let Err(error) = &result
            && error.poisons_handle()
        {
            tracing::error!(error = ?error, "the state file failed; it will be opened anew");
            // Dropped here, so that its file lock is free when the next call opens it.
            *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }

    fn ensure_open(&self) -> Result<(), StateError> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            *guard = Some((self.open)()?);
            tracing::info!("the state file is open again");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StateStore;
    use redb::StorageBackend;
    use redb::backends::FileBackend;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    /// Real file; every call after the countdown reached zero fails until it is set again.
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

    #[test]
    fn whichever_io_fails_the_store_opens_anew_and_holds_only_what_was_acknowledged_or_attempted() {
        for fail_at in 0..40 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state.redb");
            let left = Arc::new(AtomicI64::new(i64::MAX));
            let countdown = Arc::clone(&left);
            let database = Reopening::with(Box::new(move || {
                let file = std::fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&path)
                    .map_err(|error| StateError::Database(Box::new(redb::Error::Io(error))))?;
                let file =
                    FileBackend::new(file).map_err(|error| StateError::Database(Box::new(redb::Error::from(error))))?;
                Database::builder()
                    .create_with_backend(Failing { file, left: Arc::clone(&countdown) })
                    .map_err(|error| StateError::Database(Box::new(error.into())))
            }))
            .unwrap();
            let store = StateStore::over(database).unwrap();
            store.put("before", b"1").unwrap();

            left.store(fail_at, Ordering::SeqCst);
            let attempted = store.put("during", b"2");
            left.store(i64::MAX, Ordering::SeqCst);

            assert_eq!(store.get("before").unwrap().as_deref(), Some(&b"1"[..]), "fail at {fail_at}");
            let during = store.get("during").unwrap();
            if attempted.is_ok() {
                assert_eq!(during.as_deref(), Some(&b"2"[..]), "an acknowledged write is there, fail at {fail_at}");
            }
            store.put("after", b"3").unwrap();
            assert_eq!(store.get("after").unwrap().as_deref(), Some(&b"3"[..]));
        }
    }
}
