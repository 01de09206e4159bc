//! Brings back what an earlier run stored: the node's place, its metadata, every tombstone.

use super::advance::{self, AdvanceError};
use crate::clock;
use crate::view::{NodeView, Place};
use serde::{Deserialize, Serialize};
use sluice_metadata::{MetadataError, Profile, Trusted};
use sluice_model::{MemberKey, Timestamp};
use sluice_rollout::TrustedClock;
use sluice_state_store::{StateError, StateStore};
use std::net::SocketAddr;
use std::time::Duration;

const SITE: &str = "site";
const CLOCK: &str = "trusted_clock";
const ORIGIN_ADDRESSES: &str = "origin_addresses";

/// Why a node cannot start from its folder.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// `join` was never run here, or did not finish.
    #[error("this node has not joined a repository; run: sluice-node join --repository URL --token TOKEN --data DIR")]
    NotJoined,
    /// The state file failed.
    #[error("the state of this node cannot be read")]
    Store(#[from] StateError),
    /// The stored metadata does not verify: the file was altered, or is damaged.
    #[error(
        "the stored metadata does not verify; nothing is served from it. Move the data folder away and join again with a new token"
    )]
    Metadata(#[from] MetadataError),
    /// The stored metadata has no meaning.
    #[error("the stored metadata cannot be used")]
    Advance(#[from] AdvanceError),
}

/// What `join` leaves for `serve`, beside metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Key and site.
    pub place: Place,
    /// Where the origin was reached.
    pub origin_addresses: Vec<SocketAddr>,
}

/// Remembers a finished enrolment. The last step of `join`.
pub fn remember(store: &StateStore, joined: &Joined) -> Result<(), StateError> {
    let addresses: Vec<String> = joined.origin_addresses.iter().map(ToString::to_string).collect();
    store.put(ORIGIN_ADDRESSES, addresses.join("\n").as_bytes())?;
    store.put(SITE, joined.place.site.as_str().as_bytes())
}

/// What [`remember`] stored; `None` when this folder never joined.
pub fn joined(store: &StateStore, key: MemberKey) -> Result<Option<Joined>, StateError> {
    let text = |key: &str| Ok::<_, StateError>(store.get(key)?.and_then(|bytes| String::from_utf8(bytes).ok()));
    let Some(site) = text(SITE)?.and_then(|site| site.parse().ok()) else { return Ok(None) };
    let addresses = text(ORIGIN_ADDRESSES)?.unwrap_or_default();
    let origin_addresses = addresses.lines().filter_map(|line| line.parse().ok()).collect();
    Ok(Some(Joined { place: Place { key, site }, origin_addresses }))
}

/// The view of what is stored: every signature is checked again, and nothing below the floor is taken. Its lease may have
/// run out.
pub fn restore(store: &StateStore, place: &Place) -> Result<NodeView, RestoreError> {
    let (files, documents) = advance::split_stored(store.metadata_files()?);
    if files.is_empty() {
        return Err(RestoreError::NotJoined);
    }
    let trusted = Trusted::restore(&files, Profile::Strict, &store.floor()?)?;
    let issued_at = trusted.issued_at().unwrap_or_default();
    let clock = match stored_clock(store)? {
        Some(stored) => TrustedClock::restored(issued_at, stored, clock::since_boot()),
        None => TrustedClock::loaded(issued_at),
    };
    Ok(advance::build(place, trusted, documents, &store.tombstones()?, clock)?)
}

/// What an earlier process of the same boot knew of the time. The wall clock itself is never stored.
#[derive(Serialize, Deserialize)]
struct StoredClock {
    boot: String,
    floor: Timestamp,
    up_ms: u64,
}

/// Keeps what is known of the time for the next process of this boot.
pub fn store_clock(store: &StateStore, clock: TrustedClock) -> Result<(), StateError> {
    let (Some((floor, up)), Some(boot)) = (clock.to_store(), clock::boot_id()) else { return Ok(()) };
    let stored = StoredClock { boot, floor, up_ms: u64::try_from(up.as_millis()).unwrap_or(u64::MAX) };
    store.put(CLOCK, &serde_json::to_vec(&stored).expect("a clock is text and numbers"))
}

fn stored_clock(store: &StateStore) -> Result<Option<(Timestamp, Duration)>, StateError> {
    let stored = store.get(CLOCK)?.and_then(|bytes| serde_json::from_slice::<StoredClock>(&bytes).ok());
    let stored = stored.filter(|stored| Some(&stored.boot) == clock::boot_id().as_ref());
    Ok(stored.map(|stored| (stored.floor, Duration::from_millis(stored.up_ms))))
}
