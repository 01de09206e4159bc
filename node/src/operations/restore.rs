//! Brings back what an earlier run stored: the node's place, its metadata, every tombstone.

use super::advance::{self, AdvanceError};
use crate::view::{NodeView, Place};
use sluice_metadata::{MetadataError, Profile, Trusted};
use sluice_model::MemberKey;
use sluice_state_store::{StateError, StateStore};
use std::net::SocketAddr;

const SITE: &str = "site";
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
    Ok(advance::build(place, trusted, documents, &store.tombstones()?, None)?)
}
