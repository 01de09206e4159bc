//! Writes and signs the repository's metadata: only roles that changed get a new version, then snapshot and timestamp.
//!
//! Decides versions, expiries and what is renewed. Draws no entropy and stores nothing.
//!
//! Invariants
//! - Every publication is verified by [`Trusted`] before it is handed out, so nothing is published that a client would
//!   refuse.
//! - A signing that fails leaves the writer as it was.
//! - Tombstones are only ever added.

use crate::archive;
use crate::body::{self, DELEGATIONS_MAX, TARGETS_MAX};
use crate::ceremony::{CeremonyError, DraftFile, ReleasePlan, Terms};
use crate::json::{self, Json};
use crate::trusted::{ROLE_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use crate::{MetadataError, Profile, RepositoryProfile, RoleName, Signer, TargetEntry, Trusted, View, ViewError};
use sluice_model::{LogHead, RingName, TargetName, Timestamp};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

mod init;
mod sign;

pub use init::{InitPlan, RINGS_MAX, RingPlan, dev_roles, online_roles};
use sign::Signing;
pub(crate) use sign::{encode_targets, header, lifetime};

/// What our files conform to.
const SPEC_VERSION: &str = "1.0.31";
/// Tombstones of the retractions role; older ones are folded into archives beyond that.
const TOMBSTONES_MAX: usize = sluice_model::limits::TOMBSTONES_LISTED_MAX;
/// `expires` has whole seconds, so a shorter lease could be over when it is signed.
const LEASE_MIN: Duration = Duration::from_secs(2);

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

    /// The keys held here that `terms` names.
    pub fn named(&self, role: &RoleName, terms: &Terms) -> Vec<Signer> {
        let named = |signer: &&Signer| terms.keys.contains_key(&signer.key_id());
        self.signers(role).iter().filter(named).cloned().collect()
    }

    /// Whether the keys held here are enough for `terms`.
    pub fn reaches(&self, role: &RoleName, terms: &Terms) -> bool {
        self.named(role, terms).len() as u64 >= u64::from(terms.threshold)
    }

    /// Every role with its keys.
    pub fn iter(&self) -> impl Iterator<Item = (&RoleName, &[Signer])> {
        self.signers.iter().map(|(role, signers)| (role, signers.as_slice()))
    }
}

/// What a new repository is.
#[derive(Clone, Debug)]
pub struct InitParams {
    /// `x-repo-id`: 1 to 64 lower-case letters, digits and '-'; part of gossip topic names.
    pub repo_id: String,
    /// `x-profile`; only `dev` can be made without a key ceremony.
    pub profile: RepositoryProfile,
    /// In lifecycle order, at least one, at most 29, each once.
    pub rings: Vec<RingName>,
    /// Now.
    pub now: Timestamp,
    /// How long a timestamp is valid; at least two seconds.
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
    /// No such role, or one that lists no targets.
    #[error("there is no role {0} that lists targets")]
    UnknownRole(RoleName),
    /// The role may not list that target.
    #[error("{role} may not list {target}")]
    ForeignTarget {
        /// Which role.
        role: RoleName,
        /// The name.
        target: TargetName,
    },
    /// More rows than a role may have.
    #[error(
        "{role} would list {count} targets and may list {count_max}: let retention remove superseded patches, or split the ring"
    )]
    RoleFull {
        /// Which role.
        role: RoleName,
        /// How many there would be.
        count: usize,
        /// How many there may be.
        count_max: usize,
    },
    /// More bytes than a role may have.
    #[error(
        "{role} would be {length} bytes and may be {length_max}: let retention remove superseded patches, or split the ring"
    )]
    RoleTooLarge {
        /// Which role.
        role: RoleName,
        /// How long it would be.
        length: u64,
        /// How long it may be.
        length_max: u64,
    },
    /// `custom` holds what signed metadata may not hold: a float, or an integer beyond 2^53 - 1, or is nested too deeply.
    #[error("{target}: custom: {reason}")]
    BadCustom {
        /// Of which target.
        target: TargetName,
        /// What is wrong.
        reason: String,
    },
    /// A tombstone would be removed or changed.
    #[error("{0} is a tombstone and can be neither removed nor changed")]
    TombstoneLost(TargetName),
    /// Keys are missing.
    #[error("{role} needs {threshold} signatures and this server holds {held} of its keys")]
    KeysMissing {
        /// Which role.
        role: RoleName,
        /// Held here.
        held: usize,
        /// Needed.
        threshold: u32,
    },
    /// The clock stands before the last signature: signing now would put leases into the past or teach clients a wrong time.
    #[error("the clock says {now}, but the last timestamp was issued at {issued_at}: set the clock")]
    ClockBehind {
        /// The clock.
        now: Timestamp,
        /// The last signature.
        issued_at: Timestamp,
    },
    /// The lease is below two seconds.
    #[error("a lease of {} ms is too short: at least two seconds", .0.as_millis())]
    LeaseTooShort(Duration),
    /// A profile that only a key ceremony makes.
    #[error("profile {} needs a key ceremony; only dev is made here", .0.as_str())]
    NeedsCeremony(RepositoryProfile),
    /// A file that people sign is needed: what is in force would not verify any more.
    #[error(
        "{role} must be signed anew, and {missing} of the {threshold} signatures that it needs are not here: let its holders sign {role} too and publish both together"
    )]
    Unsigned {
        /// Which role.
        role: RoleName,
        /// How many signatures are missing.
        missing: usize,
        /// How many it needs.
        threshold: u32,
    },
    /// A file that was signed for another state than the present one.
    #[error(
        "{role} is version {found}, but the next one is {expected}: it was drafted from another state; draft it again"
    )]
    NotNext {
        /// Which role.
        role: RoleName,
        /// What came.
        found: u64,
        /// What would be next.
        expected: u64,
    },
    /// A file that people signed and that cannot be read.
    #[error("a signed file cannot be used")]
    Draft(#[from] CeremonyError),
    /// A value of [`InitParams`] breaks its rule.
    #[error("{field}: {rule}")]
    BadParameter {
        /// Which.
        field: &'static str,
        /// Its rule.
        rule: String,
    },
    /// Stored or new metadata that our own verifier refuses.
    #[error("the metadata does not verify")]
    Refused(#[from] MetadataError),
    /// New metadata without a meaning.
    #[error("the metadata has no meaning")]
    NoView(#[from] ViewError),
    /// A row that would have no effect at any client.
    #[error("{role}: {target} would have no effect: {reason}")]
    NoEffect {
        /// Which role.
        role: RoleName,
        /// Which row.
        target: String,
        /// Why.
        reason: String,
    },
}

/// The repository's metadata with changes that are not signed yet.
///
/// A clone is cheap. To stay equal to the disk: change and commit a clone, store its publication, then keep the clone.
#[derive(Clone)]
pub struct Writer {
    /// What clients see after the last commit.
    trusted: Trusted,
    /// Its files by name.
    files: BTreeMap<String, Arc<[u8]>>,
    pending: BTreeMap<RoleName, BTreeMap<TargetName, TargetEntry>>,
    /// Files that people signed, for the next commit.
    given: BTreeMap<RoleName, DraftFile>,
    /// For the next timestamp; it says the same as the last one without it.
    log: Option<LogHead>,
    /// Versions that the next commit leaves out.
    skipped: u64,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending: Vec<&RoleName> = self.pending.keys().collect();
        f.debug_struct("Writer").field("trusted", &self.trusted).field("pending", &pending).finish()
    }
}

impl Writer {
    /// Takes up stored files ([`Trusted::files`], or every publication's with the newest of each role); they are
    /// verified, their time is not.
    pub fn load(files: &[(String, Arc<[u8]>)]) -> Result<Self, WriteError> {
        let trusted = Trusted::restore(files, Profile::Strict, &[])?;
        if !trusted.is_complete() {
            return Err(MetadataError::Missing { file: "timestamp.json".into() }.into());
        }
        Ok(Self::of(trusted))
    }

    fn of(trusted: Trusted) -> Self {
        let files = trusted.files().into_iter().collect();
        Self { trusted, files, pending: BTreeMap::new(), given: BTreeMap::new(), log: None, skipped: 0 }
    }

    /// What a role lists, with changes that are not committed; `None` for a role that lists no targets.
    pub fn entries(&self, role: &RoleName) -> Option<&BTreeMap<TargetName, TargetEntry>> {
        if *role == RoleName::targets() {
            return None;
        }
        self.pending.get(role).or_else(|| self.trusted.role_body(role).map(|body| &body.targets))
    }

    /// Sets the head of the audit log that the next timestamp signs (`x-log`). It must continue the one before.
    pub fn set_log_head(&mut self, head: LogHead) {
        self.log = Some(head);
    }

    /// Lets the next commit sign every role that this server can sign anew, `count` versions further than usual: past
    /// whatever was signed since a backup. Root is left out, because its versions are followed one by one.
    pub fn skip_versions(&mut self, count: u64) {
        self.skipped = count;
    }

    /// The version of the timestamp that the next commit signs.
    pub fn next_timestamp_version(&self) -> u64 {
        self.trusted.timestamp_version().saturating_add(1).saturating_add(self.skipped)
    }

    /// The highest serial of a retraction, with changes that are not committed.
    pub fn highest_serial(&self) -> u64 {
        self.entries(&RoleName::retractions()).map_or(0, |entries| archive::totals(entries).1)
    }

    /// Replaces what a role lists; signed by the next commit.
    pub fn set_entries(
        &mut self,
        role: &RoleName,
        entries: BTreeMap<TargetName, TargetEntry>,
    ) -> Result<(), WriteError> {
        let committed = self.entries(role).ok_or_else(|| WriteError::UnknownRole(role.clone()))?;
        let is_retractions = *role == RoleName::retractions();
        let is_lost = |name: &TargetName, row| entries.get(name) != Some(row) && !archive::holds(&entries, name);
        if is_retractions && let Some((lost, _)) = committed.iter().find(|(name, row)| is_lost(name, *row)) {
            return Err(WriteError::TombstoneLost(lost.clone()));
        }
        let count_max = if is_retractions { TOMBSTONES_MAX } else { TARGETS_MAX };
        if entries.len() > count_max {
            return Err(WriteError::RoleFull { role: role.clone(), count: entries.len(), count_max });
        }
        // What is listed already was right when it came; a ceremony may have taken its effect since.
        for (target, entry) in entries.iter().filter(|(target, entry)| committed.get(*target) != Some(*entry)) {
            self.check_entry(role, target, entry)?;
        }
        self.pending.insert(role.clone(), entries);
        Ok(())
    }

    fn check_entry(&self, role: &RoleName, target: &TargetName, entry: &TargetEntry) -> Result<(), WriteError> {
        let targets = self.trusted.role_body(&RoleName::targets());
        let decides = targets.and_then(|body| body.delegations.iter().find(|found| found.covers(target.as_str())));
        if decides.is_none_or(|delegation| delegation.name != *role) {
            return Err(WriteError::ForeignTarget { role: role.clone(), target: target.clone() });
        }
        if let Some(custom) = &entry.custom {
            json::from_value(custom).map_err(|reason| WriteError::BadCustom { target: target.clone(), reason })?;
        }
        Ok(())
    }

    /// Takes a file that people signed (root, targets, a delegated role) into the next commit. Its version must be the
    /// next one; whether it has enough signatures is judged by the commit, with the keys of the other files given.
    pub fn give(&mut self, draft: DraftFile) -> Result<(), WriteError> {
        let role = draft.role().clone();
        let expected = self.version_of(&role).unwrap_or(0) + 1;
        if draft.version() != expected {
            return Err(WriteError::NotNext { role, found: draft.version(), expected });
        }
        self.given.insert(role, draft);
        Ok(())
    }

    /// The next version of a role with these rows, to be signed by people.
    pub fn draft_role(
        &self,
        role: &RoleName,
        entries: BTreeMap<TargetName, TargetEntry>,
        now: Timestamp,
    ) -> Result<DraftFile, WriteError> {
        let version = self.version_of(role).ok_or_else(|| WriteError::UnknownRole(role.clone()))? + 1;
        ReleasePlan { role: role.clone(), version, expires: now.plus(lifetime(role)), entries }.to_draft()
    }

    fn version_of(&self, role: &RoleName) -> Option<u64> {
        let known = self.trusted.versions().into_iter();
        known.filter(|(name, _)| name == role.as_str()).map(|(_, version)| version).next()
    }

    /// Signs what changed (and what is near its expiry), the snapshot when anything did, and a new timestamp.
    ///
    /// `now` must not be before the last `x-issued`. Cost: the changed files' size, plus one signature a file.
    pub fn commit(&mut self, keyring: &Keyring, now: Timestamp, lease: Duration) -> Result<Publication, WriteError> {
        check_lease(lease)?;
        let issued_at = self.trusted.issued_at().unwrap_or_default();
        if now < issued_at {
            return Err(WriteError::ClockBehind { now, issued_at });
        }
        let mut signing = Signing::new(self, keyring, now)?;
        signing.sign_root()?;
        signing.sign_roles()?;
        let snapshot = signing.sign_snapshot()?;
        signing.sign_timestamp(snapshot, lease)?;
        let new = signing.files;

        // A root with other keys makes clients fetch everything below it again, so all of it must still verify.
        let kept = |name: &str| self.files.get(name).map(|bytes| bytes.to_vec());
        let applied = self.trusted.apply(&mut |name| new.get(name).cloned().or_else(|| kept(name)), now)?;
        let view = View::of(&applied.trusted)?;
        // Rows that lost their effect to a ceremony (a patch that targets blocks) stay until their ring is signed again.
        let is_new = |role: &RoleName, target: &str| {
            let before = self.trusted.role_body(role);
            !before.is_some_and(|body| body.targets.keys().any(|name| name.as_str() == target))
        };
        if let Some(row) = view.ignored.into_iter().find(|row| is_new(&row.role, &row.target)) {
            return Err(WriteError::NoEffect { role: row.role, target: row.target, reason: row.reason });
        }
        *self = Self::of(applied.trusted);
        Ok(Publication { files: applied.changed.into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect() })
    }

    /// A new timestamp over what was committed; roles near their expiry are renewed with it. Changes that were set and
    /// not committed stay so.
    pub fn resign_timestamp(
        &mut self,
        keyring: &Keyring,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Publication, WriteError> {
        let (pending, given) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.given));
        let result = self.commit(keyring, now, lease);
        (self.pending, self.given) = (pending, given);
        result
    }

    /// What clients see after the last commit.
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// The file of a role that is in force.
    fn current(&self, role: &RoleName) -> Result<DraftFile, WriteError> {
        let missing = || MetadataError::Missing { file: format!("{role}.json") };
        let version = self.version_of(role).ok_or_else(missing)?;
        let bytes = self.files.get(&format!("{version}.{role}.json")).ok_or_else(missing)?;
        Ok(DraftFile::read(role, bytes)?)
    }

    fn stored(&self, role: &RoleName, version: u64) -> Result<BTreeMap<String, Json>, WriteError> {
        let file = match role.as_str() {
            "timestamp" => "timestamp.json".to_owned(),
            _ => format!("{version}.{role}.json"),
        };
        let missing = || MetadataError::Missing { file: file.clone() };
        let bytes = self.files.get(&file).ok_or_else(missing)?;
        match json::parse(bytes) {
            Ok(Json::Object(mut members)) => match members.remove("signed") {
                Some(Json::Object(signed)) => Ok(signed),
                _ => Err(missing().into()),
            },
            _ => Err(missing().into()),
        }
    }
}

fn check_lease(lease: Duration) -> Result<(), WriteError> {
    if lease < LEASE_MIN { Err(WriteError::LeaseTooShort(lease)) } else { Ok(()) }
}
