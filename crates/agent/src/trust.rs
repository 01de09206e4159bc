//! The metadata that this endpoint trusts: loaded, moved forward, stored before it is acted on, and its age.

use crate::clock;
use sluice_api_client::{MetadataSource, RefreshError, refresh};
use sluice_metadata::{MetadataError, Profile, RepositoryProfile, Trusted, View, ViewError};
use sluice_model::Timestamp;
use sluice_rollout::{Freshness, Tombstones, trusted_now};
use sluice_state_store::{StateError, StateStore};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// The store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// A development root where nobody allowed one.
    #[error(
        "the repository's root is a development root: every key lies on one server. Enrol with --accept-dev-root if that is meant"
    )]
    DevRoot,
}

/// Verified metadata with what it means.
pub struct Trust {
    store: StateStore,
    trusted: Trusted,
    view: Option<Arc<View>>,
    tombstones: Arc<Tombstones>,
    /// When the newest timestamp arrived in this process; `None` when it was loaded.
    arrived: Option<Instant>,
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
        let view = if trusted.is_complete() { Some(Arc::new(View::of(&trusted)?)) } else { None };
        let tombstones = Arc::new(Tombstones::new(&store.tombstones()?));
        let trust = Self { store, trusted, view, tombstones, arrived: None, accepts_dev_root };
        trust.check_profile(&trust.trusted)?;
        Ok(Some(trust))
    }

    /// Moves forward from `source`; `true` when something is newer. Stored before it returns.
    pub async fn refresh(&mut self, source: &impl MetadataSource) -> Result<bool, TrustError> {
        let refreshed = refresh(&self.trusted, source, self.now_for_checks()).await?;
        if !refreshed.is_newer {
            return Ok(false);
        }
        self.check_profile(&refreshed.trusted)?;
        let view = View::of(&refreshed.trusted)?;
        let is_issued_later = refreshed.trusted.issued_at() > self.trusted.issued_at();
        tokio::task::block_in_place(|| {
            self.store.commit_metadata(&refreshed.trusted.files(), &view.tombstones)?;
            self.tombstones = Arc::new(Tombstones::new(&self.store.tombstones()?));
            Ok::<_, StateError>(())
        })?;
        self.trusted = refreshed.trusted;
        self.view = Some(Arc::new(view));
        if is_issued_later {
            self.arrived = Some(clock::now());
        }
        Ok(true)
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
        let system = clock::timestamp();
        let Some(issued_at) = self.trusted.issued_at() else { return Some(system) };
        trusted_now(system, issued_at, self.since_arrival())
    }

    /// How old the metadata is.
    pub fn freshness(&self) -> Freshness {
        match (self.trusted.issued_at(), self.trusted.lease_until()) {
            (Some(issued_at), Some(until)) => Freshness::of(issued_at, until, self.now()),
            _ => Freshness::Expired { since: Duration::ZERO },
        }
    }

    fn since_arrival(&self) -> Option<Duration> {
        self.arrived.map(|arrived| clock::now().saturating_duration_since(arrived))
    }

    /// A clock that is behind must not make an old file look valid.
    fn now_for_checks(&self) -> Timestamp {
        let system = clock::timestamp();
        self.trusted.issued_at().map_or(system, |issued_at| system.max(issued_at))
    }

    fn check_profile(&self, trusted: &Trusted) -> Result<(), TrustError> {
        let is_dev = trusted.repository_profile() == RepositoryProfile::Dev;
        if is_dev && !self.accepts_dev_root { Err(TrustError::DevRoot) } else { Ok(()) }
    }
}
