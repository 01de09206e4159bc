//! What a node or an agent must not forget: trusted metadata, tombstones, bans, the spool, the journal.
//!
//! One redb file, one owner. This crate stores and gives back; it verifies nothing and decides nothing about
//! trust. Calls block for as long as the disk takes (a write is one or two `fdatasync`), so programs call the
//! writing ones from a blocking thread; [`Spool::append`] alone is asynchronous and shares its syncs.
//!
//! Invariants
//! - What a call acknowledged with `Ok` is there after a crash at any later point.
//! - Metadata files and the tombstones that came with them are committed together or not at all.
//! - A tombstone, once stored, is never removed or changed.
//! - The spool, the journal and the ban list are bounded; at the bound the caller is told ([`StateError::Full`]).
//! - After an I/O error the file is opened anew; nothing is answered from a half-failed handle.

mod acknowledgements;
mod bans;
mod database;
mod error;
pub mod hold;
mod journal;
mod kv;
mod metadata;
mod spool;

pub use acknowledgements::StoredAcknowledgement;
pub use bans::{BANS_MAX, Ban};
pub use error::StateError;
pub use journal::{JOURNAL_REPORTS_MAX, JournalEntry};
pub use metadata::StoredFile;
pub use spool::{NewReport, Spool, SpoolTask, SpooledReport};

use database::Reopening;
use std::path::Path;
use std::sync::Arc;

/// The state of one node or agent. Cheap to clone; every clone is the same file.
#[derive(Clone, Debug)]
pub struct StateStore {
    database: Arc<Reopening>,
}

impl StateStore {
    /// Opens or creates the store at `path`.
    ///
    /// # Errors
    /// [`StateError::InUse`] when another process has it open, [`StateError::Database`] when it cannot be read: a store
    /// that cannot be read is never taken for an empty one.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StateError> {
        Self::over(Reopening::file(path.as_ref())?)
    }

    fn over(database: Reopening) -> Result<Self, StateError> {
        let store = Self { database: Arc::new(database) };
        store.database.write(|transaction| {
            metadata::create_tables(transaction)?;
            bans::create_tables(transaction)?;
            spool::create_tables(transaction)?;
            acknowledgements::create_tables(transaction)?;
            journal::create_tables(transaction)?;
            kv::create_tables(transaction)
        })?;
        Ok(store)
    }
}

/// JSON of a value that this crate or its callers made: it has string keys only, so it cannot fail.
fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("values stored here have string keys only")
}

/// A value as it was stored.
fn from_json<T: serde::de::DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Result<T, StateError> {
    serde_json::from_slice(bytes).map_err(|source| StateError::Unreadable { table, source })
}
