//! Why the database could not do it.

use std::path::PathBuf;

/// An error of the database: always the machine's or the file's, never the caller's request.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened: missing rights, in use by another process, or not a database.
    #[error("the database {} cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// Reading or writing failed.
    #[error("the database failed")]
    Database(#[source] Box<redb::Error>),
    /// A record cannot be read back.
    #[error("a record of table {table} cannot be read")]
    Record {
        /// Its table.
        table: String,
        /// Why.
        source: postcard::Error,
    },
    /// A record was written by a newer version of the program.
    #[error("a record of table {table} has format {found}; this program reads format {known}")]
    RecordFormat {
        /// Its table.
        table: String,
        /// The byte found, `None` for an empty record.
        found: u8,
        /// What this program reads.
        known: u8,
    },
    /// What must be there is not: the file was changed by something else.
    #[error("the database is damaged: {what}; restore it from a backup")]
    Damaged {
        /// What is missing or wrong.
        what: &'static str,
    },
    /// The program is stopping, or the change panicked.
    #[error("the database is stopping")]
    Stopped,
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

from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError, redb::DatabaseError);

impl StoreError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Database(error) => {
                matches!(error.as_ref(), redb::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull)
            }
            _ => false,
        }
    }
}
