//! Why the store could not answer.

use std::path::PathBuf;

/// An error of the file or the machine; on a write, nothing was acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file open.
    #[error("{path} is in use by another process; stop it first, or use another data folder")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The database failed. The next call opens the file anew.
    #[error("the compliance database failed")]
    Database(#[source] Box<redb::Error>),
    /// A record cannot be read back.
    #[error("a record of table {table} cannot be read")]
    Record {
        /// Its table.
        table: &'static str,
        /// Why.
        source: postcard::Error,
    },
    /// A record has another format.
    #[error("a record of table {table} has format {found}; this program reads format {known}")]
    RecordFormat {
        /// Its table.
        table: &'static str,
        /// The byte found; 0 for an empty record.
        found: u8,
        /// What this program reads.
        known: u8,
    },
    /// A stored payload is not the report that was checked when it came.
    #[error("the report at position {position} cannot be read")]
    Payload {
        /// Of the report.
        position: u64,
        /// Why.
        source: sluice_compliance::ReportError,
    },
    /// A row that an index or chain names is not there.
    #[error("table {table} lacks a row that another names")]
    Dangling {
        /// Which table.
        table: &'static str,
    },
    /// The writing task has ended.
    #[error("the compliance store is stopping")]
    Stopped,
}

impl StoreError {
    /// Whether the handle behind it must not be used any more.
    pub(crate) fn poisons_handle(&self) -> bool {
        matches!(
            self,
            Self::Database(error)
                if matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::LockPoisoned(_))
        )
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Database(error)
                if matches!(&**error, redb::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull)
        )
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })*
    };
}

from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);
