//! The metadata that this endpoint trusts: loaded, moved forward, stored before it is acted on, and its age.

use crate::clock;
use crate::nodes::Source;
use serde::{Deserialize, Serialize};
use sluice_api_client::{RefreshError, Times, refresh};
use sluice_metadata::{DocumentError, MetadataError, Profile, RepositoryProfile, Trusted, View, ViewError};
use sluice_model::{RingName, TargetName, Timestamp, Tombstone};
use sluice_rollout::{Freshness, Tombstones, TrustedClock};
use sluice_state_store::{StateError, StateStore};
use std::sync::Arc;
use std::time::Duration;

/// Where the trusted clock is kept for the next process of the same boot.
const CLOCK: &str = "trusted_clock";

/// Why metadata could not be moved forward or used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Stored metadata does not verify: damage, or somebody wrote into the data folder.
    #[error("the stored metadata does not verify; enrol this endpoint again")]
    Stored(#[source] MetadataError),
    /// Not fetched, or refused.
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    /// No meaning.
    #[error("the metadata cannot be used")]
    View(#[from] ViewError),
    /// Retractions that were never seen here are in an archive that nobody gave.
    #[error("{0} holds retractions that are not known here, and it could not be had")]
    ArchiveMissing(TargetName),
    /// An archive was refused.
    #[error("an archive of retractions was refused")]
    Archive(#[from] DocumentError),
    /// The store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// A development root where nobody allowed one.
    #[error(
        "the repository's root is a development root: every key lies on one server. Enrol with --accept-dev-root if that is meant"
    )]
    DevRoot,
}

impl TrustError {
    /// Whether the source had metadata whose lease has run out: what it forbids holds all the same.
    pub fn is_expired(&self) -> bool {
        matches!(self, Self::Refresh(RefreshError::Refused(MetadataError::Expired { .. })))
    }

    /// What a node said that somebody holds at its machine.
    pub fn hold(&self) -> Option<&str> {
        let Self::Refresh(RefreshError::Fetch(error)) = self else { return None };
        let problem = error.problem().filter(|problem| problem.is(sluice_api::problem::ProblemType::Held))?;
        Some(&problem.detail)
    }
}

/// What newer metadata is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// For everything: it must be within its lease.
    Whole,
    /// For what it forbids and where it leads back to: it may have run out. Every use of it asks for its age, so that
    /// nothing is installed on it but the way back from a retraction.
    Forbids,
}

/// Verified metadata with what it means.
pub struct Trust {
    store: StateStore,
    trusted: Trusted,
    /// `None` as well while retractions are known to be missing.
    view: Option<Arc<View>>,
    tombstones: Arc<Tombstones>,
    clock: TrustedClock,
    accepts_dev_root: bool,
}

impl Trust {
    /// What is stored; `None` when nothing is. Everything but the time is verified again.
    pub fn load(store: StateStore, accepts_dev_root: bool) -> Result<Option<Self>, TrustError> {
        let files = store.metadata_files()?;
        if files.is_empty() {
            return Ok(None);
        }
        let trusted = Trusted::restore(&files, Profile::Strict, &store.floor()?).map_err(TrustError::Stored)?;
        let known = store.tombstones()?;
        let view = if trusted.is_complete() { Some(View::of(&trusted)?) } else { None };
        let view = view.filter(|view| view.archives.iter().all(|archive| archive.is_covered_by(&known)));
        let issued_at = trusted.issued_at().unwrap_or_default();
        let clock = match stored_clock(&store)? {
            Some(stored) => TrustedClock::restored(issued_at, stored, clock::since_boot()),
            None => TrustedClock::loaded(issued_at),
        };
        let tombstones = Arc::new(Tombstones::new(&known));
        let trust = Self { store, trusted, view: view.map(Arc::new), tombstones, clock, accepts_dev_root };
        trust.check_profile(&trust.trusted)?;
        Ok(Some(trust))
    }

    /// Moves forward from `source`; `true` when something is newer. Stored before it returns.
    pub async fn refresh(&mut self, source: &Source, taking: Taking) -> Result<bool, TrustError> {
        let now = match taking {
            Taking::Whole => Times { trusted: self.now_for_checks(), system: clock::timestamp() },
            Taking::Forbids => Timestamp::default().into(),
        };
        let refreshed = refresh(&self.trusted, source, now).await?;
        if !refreshed.is_newer && self.view.is_some() {
            return Ok(false);
        }
        self.check_profile(&refreshed.trusted)?;
        let view = View::of(&refreshed.trusted)?;
        let mut tombstones = self.archived(&view, source).await?;
        tombstones.extend(view.tombstones.iter().cloned());
        let clock = self.clock_after(&refreshed.trusted);
        tokio::task::block_in_place(|| {
            self.store.commit_metadata(&refreshed.trusted.files(), &tombstones)?;
            self.tombstones = Arc::new(Tombstones::new(&self.store.tombstones()?));
            if clock == self.clock { Ok(()) } else { store_clock(&self.store, clock) }
        })?;
        self.trusted = refreshed.trusted;
        self.view = Some(Arc::new(view));
        self.clock = clock;
        Ok(true)
    }

    /// Archived tombstones that were never seen here.
    async fn archived(&self, view: &View, source: &Source) -> Result<Vec<Tombstone>, TrustError> {
        let known = tokio::task::block_in_place(|| self.store.tombstones())?;
        let mut found = Vec::new();
        for archive in view.archives.iter().filter(|archive| !archive.is_covered_by(&known)) {
            let bytes = source.document(&archive.target, &archive.document).await.map_err(RefreshError::from)?;
            let bytes = bytes.ok_or_else(|| TrustError::ArchiveMissing(archive.target.clone()))?;
            found.extend(archive.read(&bytes)?);
        }
        Ok(found)
    }

    /// The trusted clock once `next` is in force. What a key said that root has replaced since is void.
    fn clock_after(&self, next: &Trusted) -> TrustedClock {
        let (known, issued_at) = (self.trusted.issued_at().unwrap_or_default(), next.issued_at().unwrap_or_default());
        let up = clock::since_boot();
        match issued_at.cmp(&known) {
            std::cmp::Ordering::Equal => self.clock,
            std::cmp::Ordering::Greater => self.clock.learn(issued_at, up),
            std::cmp::Ordering::Less => TrustedClock::arrived(issued_at, up),
        }
    }

    /// What complete metadata says; `None` before the first refresh.
    pub fn view(&self) -> Option<Arc<View>> {
        self.view.clone()
    }

    /// Every tombstone ever seen.
    pub fn tombstones(&self) -> Arc<Tombstones> {
        self.tombstones.clone()
    }

    /// Version of the timestamp.
    pub fn timestamp_version(&self) -> u64 {
        self.trusted.timestamp_version()
    }

    /// The trusted clock; `None` when there is no time to trust.
    pub fn now(&self) -> Option<Timestamp> {
        self.clock.now(clock::timestamp(), clock::since_boot())
    }

    /// How old the metadata is.
    pub fn freshness(&self) -> Freshness {
        match (self.trusted.issued_at(), self.trusted.lease_until()) {
            (Some(issued_at), Some(until)) => Freshness::of(issued_at, until, self.now()),
            _ => Freshness::Expired { since: Duration::ZERO },
        }
    }

    /// How old the metadata is for a ring: what its approvers did not renew is as good as expired.
    pub fn freshness_in(&self, ring: Option<&RingName>) -> Freshness {
        let (Some(view), Some(now)) = (&self.view, self.now()) else { return self.freshness() };
        match ring.and_then(|ring| view.lapses.get(ring)) {
            Some(until) if *until <= now => Freshness::Expired { since: now.since(*until) },
            _ => self.freshness(),
        }
    }

    /// A clock that is behind must not make an old file look valid.
    fn now_for_checks(&self) -> Timestamp {
        let system = clock::timestamp();
        self.now().unwrap_or_else(|| self.trusted.issued_at().map_or(system, |issued_at| system.max(issued_at)))
    }

    fn check_profile(&self, trusted: &Trusted) -> Result<(), TrustError> {
        let is_dev = trusted.repository_profile() == RepositoryProfile::Dev;
        if is_dev && !self.accepts_dev_root { Err(TrustError::DevRoot) } else { Ok(()) }
    }
}

/// What an earlier process of the same boot knew of the time. The wall clock itself is never stored.
#[derive(Serialize, Deserialize)]
struct StoredClock {
    boot: String,
    floor: Timestamp,
    up_ms: u64,
}

fn store_clock(store: &StateStore, clock: TrustedClock) -> Result<(), StateError> {
    let (Some((floor, up)), Some(boot)) = (clock.to_store(), clock::boot_id()) else { return Ok(()) };
    let stored = StoredClock { boot, floor, up_ms: u64::try_from(up.as_millis()).unwrap_or(u64::MAX) };
    store.put(CLOCK, &serde_json::to_vec(&stored).expect("a clock is text and numbers"))
}

fn stored_clock(store: &StateStore) -> Result<Option<(Timestamp, Duration)>, StateError> {
    let stored = store.get(CLOCK)?.and_then(|bytes| serde_json::from_slice::<StoredClock>(&bytes).ok());
    let stored = stored.filter(|stored| Some(&stored.boot) == clock::boot_id().as_ref());
    Ok(stored.map(|stored| (stored.floor, Duration::from_millis(stored.up_ms))))
}
