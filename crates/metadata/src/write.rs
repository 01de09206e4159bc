//! Writes and signs the repository's metadata: only roles that changed get a new version, then snapshot and timestamp.
//!
//! Every publication is verified by [`Trusted`] before it is handed out, so nothing is published that a client would
//! refuse.

use crate::{RepositoryProfile, RoleName, Signer, TargetEntry, Trusted};
use sluice_model::{RingName, TargetName, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The keys that this process holds, by role.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    signers: BTreeMap<RoleName, Vec<Signer>>,
}

impl Keyring {
    /// Adds a key to a role.
    pub fn insert(&mut self, role: RoleName, signer: Signer) {
        self.signers.entry(role).or_default().push(signer);
    }

    /// The keys of a role.
    pub fn signers(&self, role: &RoleName) -> &[Signer] {
        self.signers.get(role).map_or(&[], Vec::as_slice)
    }

    /// Every role with its keys.
    pub fn iter(&self) -> impl Iterator<Item = (&RoleName, &[Signer])> {
        self.signers.iter().map(|(role, signers)| (role, signers.as_slice()))
    }
}

/// Every role of a repository with these rings: each needs a key in the keyring of [`Writer::init`].
pub fn dev_roles(_rings: &[RingName]) -> Vec<RoleName> {
    todo!()
}

/// What a new repository is.
#[derive(Clone, Debug)]
pub struct InitParams {
    /// `x-repo-id`: lower-case letters, digits and '-', 1 to 64; part of gossip topic names.
    pub repo_id: String,
    /// `x-profile`.
    pub profile: RepositoryProfile,
    /// In lifecycle order, at least one, at most 29.
    pub rings: Vec<RingName>,
    /// Now.
    pub now: Timestamp,
    /// How long a timestamp is valid.
    pub lease: Duration,
}

/// Files that changed, to be stored in one transaction and then served. The last is always `timestamp.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Name below `/tuf/metadata/`, and the signed bytes.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Why nothing was signed. The writer is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// No such role.
    #[error("there is no role {0}")]
    UnknownRole(RoleName),
}

/// The repository's metadata with changes that are not signed yet.
///
/// A clone is cheap. To stay equal to the disk: change and commit a clone, store its publication, then keep the clone.
#[derive(Clone, Debug)]
pub struct Writer {}

impl Writer {
    /// A new repository with an empty release role a ring. The keyring needs a key for each of [`dev_roles`].
    pub fn init(_params: InitParams, _keyring: &Keyring) -> Result<(Self, Publication), WriteError> {
        todo!()
    }

    /// Takes up stored files; they are verified, their time is not.
    pub fn load(_files: &[(String, Arc<[u8]>)]) -> Result<Self, WriteError> {
        todo!()
    }

    /// What a role lists, with changes that are not committed.
    pub fn entries(&self, _role: &RoleName) -> Option<&BTreeMap<TargetName, TargetEntry>> {
        todo!()
    }

    /// Replaces what a role lists; signed by the next commit.
    pub fn set_entries(
        &mut self,
        _role: &RoleName,
        _entries: BTreeMap<TargetName, TargetEntry>,
    ) -> Result<(), WriteError> {
        todo!()
    }

    /// Signs what changed (and what is near its expiry), the snapshot when anything did, and a new timestamp.
    pub fn commit(&mut self, _keyring: &Keyring, _now: Timestamp, _lease: Duration) -> Result<Publication, WriteError> {
        todo!()
    }

    /// A new timestamp over what was committed; roles near their expiry are renewed with it. Changes that were set and
    /// not committed stay so.
    pub fn resign_timestamp(
        &mut self,
        _keyring: &Keyring,
        _now: Timestamp,
        _lease: Duration,
    ) -> Result<Publication, WriteError> {
        todo!()
    }

    /// What clients see after the last commit.
    pub fn trusted(&self) -> &Trusted {
        todo!()
    }
}
