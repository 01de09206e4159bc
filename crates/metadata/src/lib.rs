//! The trust of Sluice: verifies and writes TUF metadata, signs, and wraps signed reports (DSSE).
//!
//! Pure core: bytes and `now` come in, verdicts and bytes go out. It knows no socket, no file, no clock and makes no
//! entropy; keys are made from seeds that the caller drew.
//!
//! Invariants
//! - Versions of a role only move forward, except through a root that replaced the timestamp or snapshot keys.
//! - Nothing is looked at before its length was checked, and nothing is believed before its signatures were.
//! - The bytes that were signed are the bytes that are kept, hashed and served; nothing is serialised a second time.
#![warn(missing_docs)]

mod body;
pub mod dsse;
mod envelope;
mod error;
mod json;
mod pattern;
mod role;
mod signer;
mod trusted;
mod view;
mod write;

pub use error::{MetadataError, RoleVersion};
pub use role::{RepositoryProfile, RoleName, RoleNameError, TargetEntry};
pub use signer::{BadSignature, KeyFileError, KeyId, Signer, verify_purpose};
pub use trusted::{Applied, Change, Profile, Trusted, Wanted};
pub use view::{DocumentError, DocumentRef, IgnoredTarget, View, ViewError, read_document, verify_document};
pub use write::{InitParams, Keyring, Publication, WriteError, Writer, dev_roles};
