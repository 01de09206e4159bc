//! What is trusted now, and the checks by which it moves forward (TUF 1.0.34, section 5, and our stricter rules).

use crate::{MetadataError, RepositoryProfile, RoleName};
use sluice_model::{Sha256, Timestamp};
use std::sync::Arc;

/// Which rules a repository is held to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Profile {
    /// Our own repository: Ed25519, one SHA-256, key id is the hash of its key, flat terminating delegations.
    Strict,
}

/// Whether a file said something new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is trusted now.
    Newer,
    /// These very bytes were trusted already.
    Same,
}

/// A file to fetch next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Its name below `/tuf/metadata/`, for instance `7.rel-pilot.json`.
    pub file: String,
    /// Read no more than this.
    pub length_max: u64,
    /// What its bytes must hash to, where that is known.
    pub sha256: Option<Sha256>,
    /// Its role.
    pub role: RoleName,
}

/// The outcome of [`Trusted::apply`].
#[derive(Clone, Debug)]
pub struct Applied {
    /// Whole and consistent.
    pub trusted: Trusted,
    /// File names and bytes that are new, to be stored (and gossiped) together.
    pub changed: Vec<(String, Arc<[u8]>)>,
}

/// Verified metadata of one repository. Cloning is cheap; shells work on a clone and keep it when it is complete.
#[derive(Clone, Debug)]
pub struct Trusted {}

impl Trusted {
    /// Begins with a root that the caller trusts already (by its hash in a token, or because it was stored).
    pub fn new(_root: &[u8], _profile: Profile) -> Result<Self, MetadataError> {
        todo!()
    }

    /// Takes up stored files ([`Trusted::files`]) again: every signature, version and hash is checked as at first, but
    /// not the time (see [`Trusted::lease_until`]). Files missing in the middle are an error, not an empty state; roots
    /// alone are fine. Nothing below `floor` (role, version) is taken, now or later.
    pub fn restore(
        _files: &[(String, Arc<[u8]>)],
        _profile: Profile,
        _floor: &[(String, u64)],
    ) -> Result<Self, MetadataError> {
        todo!()
    }

    /// Sets the versions below which no role is accepted, for instance an enrolment's answer.
    pub fn set_floor(&mut self, _floor: &[(String, u64)]) {
        todo!()
    }

    /// The next root to ask for, `N.root.json`; that it does not exist is the usual answer.
    pub fn next_root(&self) -> Wanted {
        todo!()
    }

    /// `timestamp.json`.
    pub fn next_timestamp(&self) -> Wanted {
        todo!()
    }

    /// The files that are missing for what the newest timestamp says; empty: complete.
    pub fn next_needed(&self) -> Vec<Wanted> {
        todo!()
    }

    /// Takes the bytes of a file that [`Trusted::next_needed`], `next_root` or `next_timestamp` asked for.
    pub fn accept(&mut self, _wanted: &Wanted, _bytes: &[u8], _now: Timestamp) -> Result<Change, MetadataError> {
        todo!()
    }

    /// The whole walk (roots, timestamp, snapshot, roles) over a source that answers at once: gossiped or stored files.
    /// `read` gets a file name. A timestamp that `read` does not have means that there is nothing new.
    pub fn apply(
        &self,
        _read: &mut dyn FnMut(&str) -> Option<Vec<u8>>,
        _now: Timestamp,
    ) -> Result<Applied, MetadataError> {
        todo!()
    }

    /// The next version of root, signed by a threshold of the old and of the new keys.
    pub fn update_root(&mut self, _bytes: &[u8]) -> Result<Change, MetadataError> {
        todo!()
    }

    /// A newer timestamp.
    pub fn update_timestamp(&mut self, _bytes: &[u8], _now: Timestamp) -> Result<Change, MetadataError> {
        todo!()
    }

    /// The snapshot that the timestamp names.
    pub fn update_snapshot(&mut self, _bytes: &[u8], _now: Timestamp) -> Result<Change, MetadataError> {
        todo!()
    }

    /// `targets` (parent `root`) or a role that `parent` delegates to, in the version that the snapshot names.
    pub fn update_role(
        &mut self,
        _role: &RoleName,
        _parent: &RoleName,
        _bytes: &[u8],
        _now: Timestamp,
    ) -> Result<Change, MetadataError> {
        todo!()
    }

    /// Whether everything that the timestamp leads to is here.
    pub fn is_complete(&self) -> bool {
        todo!()
    }

    /// Until when this may be served and installed from: the earliest `expires` of all roles, as a rule the timestamp's.
    /// `None` until complete.
    pub fn lease_until(&self) -> Option<Timestamp> {
        todo!()
    }

    /// `x-issued` of the timestamp.
    pub fn issued_at(&self) -> Option<Timestamp> {
        todo!()
    }

    /// Version of the timestamp; 0 before the first.
    pub fn timestamp_version(&self) -> u64 {
        todo!()
    }

    /// Version of root.
    pub fn root_version(&self) -> u64 {
        todo!()
    }

    /// Every role with its version, to be given to others as their floor.
    pub fn versions(&self) -> Vec<(String, u64)> {
        todo!()
    }

    /// `x-profile` of root.
    pub fn repository_profile(&self) -> RepositoryProfile {
        todo!()
    }

    /// `x-repo-id` of root.
    pub fn repo_id(&self) -> &str {
        todo!()
    }

    /// Every file as it was received, by name: all roots, `timestamp.json`, `N.snapshot.json`, `N.<role>.json`.
    pub fn files(&self) -> Vec<(String, Arc<[u8]>)> {
        todo!()
    }
}
