//! The client workflow of the specification (1.0.34, section 5) as a shell: the verifier says what it wants next, this
//! fetches and stores it.

use super::TufError;
use super::store::Store;
use sluice_api_client::{FileClient, Timeouts};
use sluice_metadata::{Change, Lookup, MetadataError, Profile, RoleName, Trusted, Wanted};
use sluice_model::Timestamp;

/// Roots in one refresh.
const ROOTS_MAX: usize = 256;

/// One run against one repository.
pub struct Session {
    pub trusted: Trusted,
    store: Store,
    files: FileClient,
    now: Timestamp,
}

impl Session {
    /// Takes up what the store holds. No request is made.
    pub fn open(store: Store, url: &str, now: Timestamp) -> Result<Self, TufError> {
        let root = RoleName::root();
        let broken = |role: &RoleName, source| TufError::StoreBroken { path: store.path(role), source };
        let bytes = store.read(&root)?.ok_or_else(|| TufError::NotTrusted { path: store.path(&root) })?;
        let mut trusted = Trusted::new(&bytes, Profile::Foreign).map_err(|source| broken(&root, source))?;
        // Both forbid going back, so leaving one out because it is unreadable would let an attacker roll back.
        for role in [RoleName::timestamp(), RoleName::snapshot()] {
            if let Some(bytes) = store.read(&role)? {
                trusted.take_stored(&role, &bytes).map_err(|source| broken(&role, source))?;
            }
        }
        // Only saves a fetch: stored targets that the snapshot no longer names are no loss.
        if let Some(bytes) = store.read(&RoleName::targets())? {
            let _ = trusted.take_stored(&RoleName::targets(), &bytes);
        }
        Ok(Self { trusted, store, files: FileClient::open(url, Timeouts::default())?, now })
    }

    /// Root, timestamp, snapshot, targets; each is stored as soon as it is accepted.
    pub async fn refresh(&mut self) -> Result<(), TufError> {
        self.follow_roots().await?;
        let wanted = self.trusted.next_timestamp();
        self.take(&wanted).await?;
        while let Some(wanted) = self.trusted.next_needed().first() {
            self.take(wanted).await?;
        }
        Ok(self.trusted.check_not_expired(self.now)?)
    }

    async fn follow_roots(&mut self) -> Result<(), TufError> {
        for _ in 0..ROOTS_MAX {
            let wanted = self.trusted.next_root();
            let Some(bytes) = self.files.get(&wanted.file, wanted.length_max).await? else { return Ok(()) };
            self.trusted.accept(&wanted, &bytes, self.now)?;
            // What the new root's keys no longer vouch for goes first: a crash in between loses it, and not the rotation.
            for role in [RoleName::timestamp(), RoleName::snapshot()] {
                if self.trusted.bytes_of(&role).is_none() {
                    self.store.remove(&role)?;
                }
            }
            self.store.write(&wanted.role, &bytes)?;
        }
        Err(TufError::TooManyRoots { max: ROOTS_MAX })
    }

    async fn take(&mut self, wanted: &Wanted) -> Result<(), TufError> {
        let bytes = self.files.get(&wanted.file, wanted.length_max).await?;
        let bytes = bytes.ok_or_else(|| MetadataError::Missing { file: wanted.file.clone() })?;
        match self.trusted.accept(wanted, &bytes, self.now)? {
            Change::Newer => self.store.write(&wanted.role, &bytes),
            Change::Same => Ok(()),
        }
    }

    /// Looks a target up, with delegated roles from the store where they are still right, else fetched.
    pub async fn find(&mut self, name: &str) -> Result<sluice_metadata::ForeignTarget, TufError> {
        loop {
            match self.trusted.find(name)? {
                Lookup::Found(target) => return Ok(target),
                Lookup::NotFound => return Err(TufError::NoSuchTarget(name.to_owned())),
                Lookup::Wanted(wanted) => match self.store.read(&wanted.role)? {
                    Some(bytes) if self.trusted.accept(&wanted, &bytes, self.now).is_ok() => {}
                    _ => self.take(&wanted).await?,
                },
            }
        }
    }
}
