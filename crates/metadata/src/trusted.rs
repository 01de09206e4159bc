//! What is trusted now, and the checks by which it moves forward (TUF 1.0.34, section 5, and our stricter rules).
//!
//! Decides whether a file may be believed. Does not fetch, store or read the clock. A refused file changes nothing.
//!
//! Invariants
//! - A held file was verified against the keys, hash, length and version that the held files above it name.
//! - A held role is kept for the parent that delegated to it, so it has no authority by another path.
//! - What a change of keys makes doubtful is dropped, never re-interpreted; the snapshot still forbids going back.

use crate::body::{FileMeta, Header, Root, Snapshot, Targets, TimestampBody};
use crate::envelope::{RoleKeys, Unverified};
use crate::json::sha256;
use crate::{MetadataError, RepositoryProfile, RoleName, RoleVersion};
use sluice_model::{LogHead, Sha256, Timestamp};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

mod advance;
mod lookup;

pub use lookup::{ForeignTarget, Lookup, percent_encoded};

/// Largest root.
pub(crate) const ROOT_BYTES_MAX: u64 = 64 << 10;
/// Largest timestamp.
pub(crate) const TIMESTAMP_BYTES_MAX: u64 = 4 << 10;
/// Largest snapshot.
pub(crate) const SNAPSHOT_BYTES_MAX: u64 = 512 << 10;
/// Largest targets or delegated role.
pub(crate) const ROLE_BYTES_MAX: u64 = 1 << 20;
/// Largest files of a foreign repository, by role: those of python-tuf.
const FOREIGN_BYTES_MAX: [(&str, u64); 3] = [("root", 512_000), ("timestamp", 16_384), ("snapshot", 2_000_000)];
const FOREIGN_ROLE_BYTES_MAX: u64 = 5_000_000;
/// Roots followed in one walk: more than a rotation a week for four years.
const ROOTS_MAX: usize = 256;

/// Which rules a repository is held to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Our own repository: Ed25519, one SHA-256, key id is the hash of its key, flat terminating delegations.
    Strict,
    /// Any repository by the letter of the specification: ECDSA and RSA too, nested delegations, optional lengths and
    /// hashes, members unknown to us. What such a repository does not say (`x-repo-id`, `x-issued`, retractions) is empty
    /// or zero, and it has no [`crate::View`].
    Foreign,
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
    /// Who delegates to it; `root` for the four roles on top.
    pub(crate) parent: RoleName,
}

/// The outcome of [`Trusted::apply`].
#[derive(Clone)]
pub struct Applied {
    /// Whole and consistent.
    pub trusted: Trusted,
    /// File names and bytes that are new, to be stored together.
    pub changed: Vec<(String, Arc<[u8]>)>,
}

/// Verified metadata of one repository. Cloning is cheap; shells work on a clone and keep it when it is complete.
#[derive(Clone)]
pub struct Trusted {
    profile: Profile,
    /// From the first that was trusted to the newest, without gaps.
    roots: BTreeMap<u64, Arc<[u8]>>,
    root: Arc<Root>,
    timestamp: Option<Held<TimestampBody>>,
    snapshot: Option<Held<Snapshot>>,
    targets: Option<Held<Targets>>,
    /// By parent and role. The only parent of the strict profile is `targets`.
    delegated: BTreeMap<(RoleName, RoleName), Held<Targets>>,
    floor: BTreeMap<RoleName, u64>,
}

#[derive(Clone)]
struct Held<T> {
    bytes: Arc<[u8]>,
    sha256: Sha256,
    body: Arc<T>,
}

impl<T> Held<T> {
    fn new(bytes: &[u8], body: T) -> Self {
        Self { bytes: bytes.into(), sha256: sha256(bytes), body: Arc::new(body) }
    }
}

impl Held<Targets> {
    fn is_as_in(&self, meta: &FileMeta) -> bool {
        self.body.header.version == meta.version && is_of(self, meta)
    }
}

/// Whether the bytes held are the ones that `meta` means, where it says so.
fn is_of<T>(held: &Held<T>, meta: &FileMeta) -> bool {
    meta.length.is_none_or(|length| length == held.bytes.len() as u64)
        && meta.hashes.is_of_hashed(&held.sha256, &held.bytes)
}

/// Versions only: the files would fill a log.
impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.versions()).finish()
    }
}

impl fmt::Debug for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed: Vec<&String> = self.changed.iter().map(|(name, _)| name).collect();
        f.debug_struct("Applied").field("trusted", &self.trusted).field("changed", &changed).finish()
    }
}

impl Trusted {
    /// Begins with a root that the caller trusts already (by its hash in a token, or because it was stored).
    pub fn new(root: &[u8], profile: Profile) -> Result<Self, MetadataError> {
        let role = RoleName::root();
        check_size(&role, root, bytes_max(&role, profile))?;
        let file = Unverified::parse(&role, root, profile)?;
        let body = Root::parse(file.danger_unverified(), profile)?;
        file.check_threshold(body.role(&role), version_of(&role, &body.header))?;
        Ok(Self {
            profile,
            roots: BTreeMap::from([(body.header.version, root.into())]),
            root: Arc::new(body),
            timestamp: None,
            snapshot: None,
            targets: None,
            delegated: BTreeMap::new(),
            floor: BTreeMap::new(),
        })
    }

    /// Takes up stored files ([`Trusted::files`]) again: every signature, version and hash is checked as at first, but
    /// not the time (see [`Trusted::lease_until`]). Files missing in the middle are an error, not an empty state; roots
    /// alone are fine. Nothing below `floor` (role, version) is taken, now or later.
    pub fn restore(
        files: &[(String, Arc<[u8]>)],
        profile: Profile,
        floor: &[(String, u64)],
    ) -> Result<Self, MetadataError> {
        let by_name: BTreeMap<&str, &Arc<[u8]>> = files.iter().map(|(name, bytes)| (name.as_str(), bytes)).collect();
        let first = by_name
            .keys()
            .filter_map(|name| name.strip_suffix(".root.json")?.parse::<u64>().ok())
            .min()
            .ok_or_else(|| MetadataError::Missing { file: "N.root.json".into() })?;
        let first = by_name
            .get(format!("{first}.root.json").as_str())
            .ok_or_else(|| MetadataError::Missing { file: format!("{first}.root.json") })?;
        let mut trusted = Self::new(first, profile)?;
        trusted.set_floor(floor);
        let read = &mut |name: &str| by_name.get(name).map(|bytes| bytes.to_vec());
        trusted.walk(read, None)?;
        if trusted.timestamp.is_none() && files.len() > trusted.roots.len() {
            return Err(MetadataError::Missing { file: "timestamp.json".into() });
        }
        Ok(trusted)
    }

    /// Sets the versions below which no role is accepted, for instance an enrolment's answer. Texts that name no role
    /// are passed over.
    pub fn set_floor(&mut self, floor: &[(String, u64)]) {
        self.floor = floor.iter().filter_map(|(role, version)| Some((role.parse().ok()?, *version))).collect();
    }

    /// The whole walk (roots, timestamp, snapshot, roles) over a source that answers at once: gossiped or stored files.
    /// `read` gets a file name. A timestamp that `read` does not have means that there is nothing new.
    pub fn apply(
        &self,
        read: &mut dyn FnMut(&str) -> Option<Vec<u8>>,
        now: Timestamp,
    ) -> Result<Applied, MetadataError> {
        let mut trusted = self.clone();
        trusted.walk(read, Some(now))?;
        if self.timestamp.is_some() && trusted.timestamp.is_none() {
            return Err(MetadataError::Missing { file: "timestamp.json".into() });
        }
        let before: BTreeMap<String, Arc<[u8]>> = self.files().into_iter().collect();
        let mut changed = trusted.files();
        changed.retain(|(name, bytes)| before.get(name) != Some(bytes));
        Ok(Applied { trusted, changed })
    }

    fn walk(
        &mut self,
        read: &mut dyn FnMut(&str) -> Option<Vec<u8>>,
        now: Option<Timestamp>,
    ) -> Result<(), MetadataError> {
        for _ in 0..ROOTS_MAX {
            let Some(bytes) = read(&self.next_root().file) else { break };
            self.update_root(&bytes)?;
        }
        if let Some(bytes) = read(&self.next_timestamp().file) {
            self.take_timestamp(&bytes, now)?;
        }
        // Each round brings a level: snapshot, targets, delegated roles.
        for _ in 0..3 {
            for wanted in self.next_needed() {
                let bytes = read(&wanted.file).ok_or(MetadataError::Missing { file: wanted.file.clone() })?;
                self.take(&wanted, &bytes, now)?;
            }
        }
        debug_assert!(self.next_needed().is_empty());
        Ok(())
    }

    /// The next root to ask for, `N.root.json`; that it does not exist is the usual answer.
    pub fn next_root(&self) -> Wanted {
        Wanted {
            file: format!("{}.root.json", self.root_version() + 1),
            length_max: bytes_max(&RoleName::root(), self.profile),
            sha256: None,
            role: RoleName::root(),
            parent: RoleName::root(),
        }
    }

    /// `timestamp.json`.
    pub fn next_timestamp(&self) -> Wanted {
        Wanted {
            file: "timestamp.json".into(),
            length_max: bytes_max(&RoleName::timestamp(), self.profile),
            sha256: None,
            role: RoleName::timestamp(),
            parent: RoleName::root(),
        }
    }

    /// The files that are missing for what the newest timestamp says; empty: complete, or no timestamp yet. Delegated
    /// roles of a foreign repository are not among them: [`Trusted::find`] asks for those that it needs.
    pub fn next_needed(&self) -> Vec<Wanted> {
        let Some(timestamp) = &self.timestamp else { return Vec::new() };
        let meta = timestamp.body.snapshot;
        let Some(snapshot) = self.current_snapshot() else {
            return vec![self.wanted(&RoleName::snapshot(), &RoleName::root(), &meta)];
        };
        let role = RoleName::targets();
        let meta = snapshot.meta.get(&role).expect("a parsed snapshot lists targets");
        let Some(targets) = self.targets.as_ref().filter(|held| held.is_as_in(meta)) else {
            return vec![self.wanted(&role, &RoleName::root(), meta)];
        };
        if self.profile == Profile::Foreign {
            return Vec::new();
        }
        targets
            .body
            .delegations
            .iter()
            .filter_map(|delegation| {
                let meta = snapshot.meta.get(&delegation.name)?;
                let held = self.delegated.get(&(role.clone(), delegation.name.clone()));
                (!held.is_some_and(|held| held.is_as_in(meta))).then(|| self.wanted(&delegation.name, &role, meta))
            })
            .collect()
    }

    /// Takes the bytes of a file that [`Trusted::next_needed`], `next_root` or `next_timestamp` asked for.
    pub fn accept(&mut self, wanted: &Wanted, bytes: &[u8], now: Timestamp) -> Result<Change, MetadataError> {
        self.take(wanted, bytes, Some(now))
    }

    fn take(&mut self, wanted: &Wanted, bytes: &[u8], now: Option<Timestamp>) -> Result<Change, MetadataError> {
        match wanted.role.as_str() {
            "root" => self.update_root(bytes),
            "timestamp" => self.take_timestamp(bytes, now),
            "snapshot" => self.take_snapshot(bytes, now),
            _ => self.take_role(&wanted.role, &wanted.parent, bytes, now),
        }
    }

    /// Whether everything that the timestamp leads to is here.
    pub fn is_complete(&self) -> bool {
        self.timestamp.is_some() && self.next_needed().is_empty()
    }

    /// The snapshot, if it is the one that the timestamp names.
    fn current_snapshot(&self) -> Option<&Snapshot> {
        let meta = &self.timestamp.as_ref()?.body.snapshot;
        let held = self.snapshot.as_ref()?;
        (held.body.header.version == meta.version && is_of(held, meta)).then_some(&*held.body)
    }

    /// Until when this may be served and installed from: the earliest `expires` of the roles, as a rule the timestamp's.
    /// Release roles are left out: each bounds its own ring ([`crate::View::lapses`]). `None` until complete.
    pub fn lease_until(&self) -> Option<Timestamp> {
        if !self.is_complete() {
            return None;
        }
        let bounds = self.delegated.iter().filter(|((_, role), _)| !self.is_bound_of_one_ring(role));
        let roles = self.targets.iter().chain(bounds.map(|(_, held)| held)).map(|held| held.body.header.expires);
        let timestamp = self.timestamp.iter().map(|held| held.body.header.expires);
        let snapshot = self.snapshot.iter().map(|held| held.body.header.expires);
        roles.chain(timestamp).chain(snapshot).chain([self.root.header.expires]).min()
    }

    /// Whether the expiry of a role stops one ring only: whoever neglects it, or keeps its key back, stops no other.
    fn is_bound_of_one_ring(&self, role: &RoleName) -> bool {
        self.profile == Profile::Strict && role.ring().is_some()
    }

    /// `x-issued` of the timestamp.
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.timestamp.as_ref().map(|held| held.body.issued_at)
    }

    /// `x-log` of the timestamp: the audit log that the server stands by. Whether it continues the one before is for
    /// witnesses to ask; that they doubt it holds up nothing.
    pub fn log_head(&self) -> Option<LogHead> {
        self.timestamp.as_ref().and_then(|held| held.body.log)
    }

    /// Version of the timestamp; 0 before the first.
    pub fn timestamp_version(&self) -> u64 {
        self.timestamp.as_ref().map_or(0, |held| held.body.header.version)
    }

    /// Version of root.
    pub fn root_version(&self) -> u64 {
        self.root.header.version
    }

    /// Every role with its version, to be given to others as their floor.
    pub fn versions(&self) -> Vec<(String, u64)> {
        let mut versions = vec![("root".to_owned(), self.root_version())];
        versions.extend(self.timestamp.iter().map(|held| ("timestamp".to_owned(), held.body.header.version)));
        versions.extend(self.snapshot.iter().map(|held| ("snapshot".to_owned(), held.body.header.version)));
        versions.extend(self.targets.iter().map(|held| ("targets".to_owned(), held.body.header.version)));
        versions.extend(
            self.delegated.iter().map(|((_, role), held)| (role.as_str().to_owned(), held.body.header.version)),
        );
        versions
    }

    /// Every role with the time when it runs out.
    pub fn expiries(&self) -> Vec<(RoleName, Timestamp)> {
        let mut expiries = vec![(RoleName::root(), self.root.header.expires)];
        expiries.extend(self.timestamp.iter().map(|held| (RoleName::timestamp(), held.body.header.expires)));
        expiries.extend(self.snapshot.iter().map(|held| (RoleName::snapshot(), held.body.header.expires)));
        expiries.extend(self.targets.iter().map(|held| (RoleName::targets(), held.body.header.expires)));
        let delegated = self.delegated.iter();
        expiries.extend(delegated.map(|((_, role), held)| (role.clone(), held.body.header.expires)));
        expiries
    }

    /// `x-profile` of root.
    pub fn repository_profile(&self) -> RepositoryProfile {
        self.root.profile
    }

    /// `x-repo-id` of root.
    pub fn repo_id(&self) -> &str {
        &self.root.repo_id
    }

    /// Every file as it was received, by name: all roots, `timestamp.json`, `N.snapshot.json`, `N.<role>.json`.
    pub fn files(&self) -> Vec<(String, Arc<[u8]>)> {
        let mut files: Vec<(String, Arc<[u8]>)> =
            self.roots.iter().map(|(version, bytes)| (format!("{version}.root.json"), bytes.clone())).collect();
        for ((_, role), held) in &self.delegated {
            files.push((self.file_name(role, held.body.header.version), held.bytes.clone()));
        }
        if let Some(held) = &self.targets {
            files.push((self.file_name(&RoleName::targets(), held.body.header.version), held.bytes.clone()));
        }
        if let Some(held) = &self.snapshot {
            files.push((self.file_name(&RoleName::snapshot(), held.body.header.version), held.bytes.clone()));
        }
        if let Some(held) = &self.timestamp {
            files.push(("timestamp.json".to_owned(), held.bytes.clone()));
        }
        files
    }

    fn wanted(&self, role: &RoleName, parent: &RoleName, meta: &FileMeta) -> Wanted {
        let length_max = bytes_max(role, self.profile);
        Wanted {
            file: self.file_name(role, meta.version),
            length_max: meta.length.map_or(length_max, |length| length.min(length_max)),
            sha256: meta.hashes.sha256,
            role: role.clone(),
            parent: parent.clone(),
        }
    }

    /// `N.<role>.json`; without the version where a foreign repository does not keep old files.
    fn file_name(&self, role: &RoleName, version: u64) -> String {
        match self.root.is_consistent {
            true => format!("{version}.{}.json", percent_encoded(role.as_str())),
            false => format!("{}.json", percent_encoded(role.as_str())),
        }
    }

    pub(crate) fn root_body(&self) -> &Root {
        &self.root
    }

    pub(crate) fn timestamp_body(&self) -> Option<&TimestampBody> {
        self.timestamp.as_ref().map(|held| &*held.body)
    }

    pub(crate) fn snapshot_body(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref().map(|held| &*held.body)
    }

    /// `targets`, or a role that it delegates to.
    pub(crate) fn role_body(&self, role: &RoleName) -> Option<&Targets> {
        let targets = RoleName::targets();
        let held = match *role == targets {
            true => self.targets.as_ref(),
            false => self.delegated.get(&(targets, role.clone())),
        };
        held.map(|held| &*held.body)
    }
}

fn bytes_max(role: &RoleName, profile: Profile) -> u64 {
    if profile == Profile::Foreign {
        let found = FOREIGN_BYTES_MAX.iter().find(|(name, _)| *name == role.as_str());
        return found.map_or(FOREIGN_ROLE_BYTES_MAX, |(_, bytes)| *bytes);
    }
    match role.as_str() {
        "root" => ROOT_BYTES_MAX,
        "timestamp" => TIMESTAMP_BYTES_MAX,
        "snapshot" => SNAPSHOT_BYTES_MAX,
        _ => ROLE_BYTES_MAX,
    }
}

fn check_size(role: &RoleName, bytes: &[u8], length_max: u64) -> Result<(), MetadataError> {
    let length = bytes.len() as u64;
    match length > length_max {
        true => Err(MetadataError::TooLarge { role: role.clone(), length, length_max }),
        false => Ok(()),
    }
}

fn version_of(role: &RoleName, header: &Header) -> RoleVersion {
    RoleVersion { role: role.clone(), version: header.version }
}

/// Size, length and hash, in this order and before any parsing (specification, sections 5.5.1, 5.5.2, 5.6.2).
fn check_bytes(role: &RoleName, bytes: &[u8], meta: &FileMeta, profile: Profile) -> Result<(), MetadataError> {
    check_size(role, bytes, bytes_max(role, profile))?;
    let length = bytes.len() as u64;
    if let Some(expected) = meta.length.filter(|expected| *expected != length) {
        return Err(MetadataError::WrongLength { role: role.clone(), length, expected });
    }
    let found = sha256(bytes);
    if let Some(expected) = meta.hashes.sha256.filter(|expected| *expected != found) {
        return Err(MetadataError::WrongHash { role: role.clone(), found, expected });
    }
    match meta.hashes.is_of_hashed(&found, bytes) {
        true => Ok(()),
        false => Err(MetadataError::OtherBytes { role: role.clone() }),
    }
}

fn check_version(role: &RoleName, found: u64, expected: u64) -> Result<(), MetadataError> {
    match found == expected {
        true => Ok(()),
        false => Err(MetadataError::WrongVersion { role: role.clone(), found, expected }),
    }
}

fn check_expiry(role: &RoleName, header: &Header, now: Option<Timestamp>) -> Result<(), MetadataError> {
    match now.is_some_and(|now| header.expires <= now) {
        true => Err(MetadataError::Expired { role: role.clone(), expired_at: header.expires }),
        false => Ok(()),
    }
}

/// A file's version and hash against the ones known before: never older, never other bytes under one version.
fn check_forward(role: &RoleName, found: &FileMeta, known: &FileMeta) -> Result<(), MetadataError> {
    if found.version < known.version {
        return Err(MetadataError::Rollback { role: role.clone(), found: found.version, trusted: known.version });
    }
    if found.version == known.version && found.hashes.contradict(&known.hashes) {
        return Err(MetadataError::SameVersionOtherBytes { role: role.clone(), version: found.version });
    }
    Ok(())
}
