//! Content on disk: one contiguous, preallocated file for each artifact, and an index that says which of its chunks
//! count.
//!
//! Decides when bytes are durable and when they are believed; never what may be stored or served (the caller asks
//! signed metadata first), what to fetch, or what to evict.
//!
//! Invariants
//! - A chunk leaves only after its bytes matched the manifest: every time they come from disk, and before they are
//!   written. From memory they leave as they were verified.
//! - After a crash a chunk counts only if its bit was committed, and a bit is committed only after `fdatasync`.
//! - One [`WriterTask`] owns the index and every artifact file that is being filled; readers only read.
//! - A failed write, a full disk or a broken index never takes away what was there before.
//!
//! Layout: `index.redb`; `artifacts/<first 2 hex>/<64 hex>`, named by artifact id.

#![warn(missing_docs)]

mod cache;
mod error;
mod files;
mod import;
mod index;
mod reader;
mod slot;
mod store;
mod writer;

pub use error::{AdmitError, FlushError, ImportError, OpenError, PutError, ReadError, RemoveError};
pub use import::Imported;
pub use reader::ArtifactReader;
pub use store::{Admission, ContentStore, StoreLimits, Usage};
pub use writer::{WriterFailed, WriterTask};
