//! Why the store could not answer.

use std::path::PathBuf;

/// Why a call failed. Nothing was changed, except after [`StateError::Database`] on a write: then it may or may not be.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has the file open.
    #[error("{path} is in use by another process; stop it first, or give this one its own data folder")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The database said no: disk full, I/O error, damage. The next call opens the file anew.
    #[error("the state file failed")]
    Database(#[source] Box<redb::Error>),
    /// A stored value does not parse: the file is from another version or damaged.
    #[error("a row of table {table} cannot be read")]
    Unreadable {
        /// Which table.
        table: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A bounded collection is at its bound.
    #[error("{what} is full: {max} entries; it drains when the repo server can be reached again")]
    Full {
        /// Which collection.
        what: &'static str,
        /// Its bound.
        max: u64,
    },
    /// The journal already holds this number with other content.
    #[error("the journal already holds report {seq} of epoch {epoch}")]
    JournalConflict {
        /// Epoch of the chain.
        epoch: u32,
        /// Number in the chain.
        seq: u64,
    },
    /// The task that writes the spool has ended.
    #[error("the spool is closed: the program is stopping")]
    Closed,
}

impl StateError {
    /// Whether the handle behind it must not be used any more.
    pub(crate) fn poisons_handle(&self) -> bool {
        matches!(
            self,
            Self::Database(error)
                if matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::LockPoisoned(_))
        )
    }

    /// Whether the disk has no room.
    pub fn is_disk_full(&self) -> bool {
        matches!(
            self,
            Self::Database(error)
                if matches!(&**error, redb::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull
                    || io.kind() == std::io::ErrorKind::QuotaExceeded)
        )
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for StateError {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        })*
    };
}

from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError, redb::SetDurabilityError);
