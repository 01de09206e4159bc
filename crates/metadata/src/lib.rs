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

mod archive;
mod body;
mod ceremony;
mod delegation;
pub mod dsse;
mod duty;
mod envelope;
mod error;
mod forms;
mod hashes;
mod json;
mod key;
mod log_head;
mod pattern;
mod role;
mod signer;
mod trusted;
mod view;
mod write;

pub use archive::{ArchiveRef, Folded, fold};
pub use ceremony::{
    CeremonyError, DelegationPlan, DraftFile, ReleasePlan, RootPlan, RowChange, TargetsPlan, Terms, changed_rows,
    explain_release, explain_root, explain_targets,
};
pub use duty::{Duty, Nearness, duties, plans};
pub use error::{MetadataError, RoleVersion};
pub use forms::{JsonForms, json_forms, sha256_of};
pub use hashes::{Hasher, Hashes};
pub use log_head::log_head_signed_by;
pub use role::{RepositoryProfile, RoleName, RoleNameError, TargetEntry};
pub use signer::{
    BadSignature, EncryptedKeyError, KeyFileError, KeyId, Signer, public_key_pem, read_public_key_pem, verify_purpose,
};
pub use trusted::{Applied, Change, ForeignTarget, Lookup, Profile, Trusted, Wanted, percent_encoded};
pub use view::{DocumentError, DocumentRef, IgnoredTarget, View, ViewError, read_document, verify_document};
pub use write::{
    InitParams, InitPlan, Keyring, Publication, RINGS_MAX, RingPlan, WriteError, Writer, dev_roles, online_roles,
};
