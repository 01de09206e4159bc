//! What other nodes of the site get from this one: manifests, chunks, and word of which chunks are here.
//!
//! Invariants
//! - Every frame is judged by the newest view: the asker is a node of our site, the lease holds, a live release row lists
//!   the artifact, no tombstone names it.
//! - Bytes leave only after they matched the manifest, each time they are read.

use crate::exchange::manifest_hunt::PEER_PATIENCE;
use crate::exchange::members::{is_site_peer, live_row};
use crate::fetch::{FetchHandle, Unobtainable};
use crate::view::{NodeView, ViewHandle};
use bytes::Bytes;
use sluice_content_store::{ContentStore, ReadError};
use sluice_exchange::frame::Refusal;
use sluice_exchange::picker::LATE_MAX;
use sluice_model::{ArtifactId, ManifestId, MemberKey, ReleasedArtifact};
use sluice_rollout::WantedContent;
use sluice_transport::{Answer, ChunkSource, ServedChunk};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A connection has two chunks in memory, so at most two artifacts under way.
const SERVING_KEPT: usize = 3;

/// Serves one connection.
pub struct NodeSource {
    views: ViewHandle,
    store: ContentStore,
    fetch: FetchHandle,
    /// What was asked for last: when a view forbids one of them, the connection is cut.
    serving: Mutex<VecDeque<ArtifactId>>,
}

impl NodeSource {
    /// For one connection.
    pub fn new(views: ViewHandle, store: ContentStore, fetch: FetchHandle) -> Self {
        Self { views, store, fetch, serving: Mutex::default() }
    }

    /// Whether what was served last may go on under `view`, to `peer`.
    pub fn may_go_on(&self, view: &NodeView, peer: &MemberKey) -> bool {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        is_site_peer(view, peer) && serving.iter().all(|artifact| live_row(view, artifact).is_ok())
    }

    /// Noted before it is judged, so that a view that forbids it meets it here or there.
    fn note(&self, artifact: &ArtifactId) {
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        if serving.back() != Some(artifact) {
            serving.push_back(*artifact);
        }
        if serving.len() > SERVING_KEPT {
            serving.pop_front();
        }
    }

    /// The row that allows `peer` to have `artifact` now.
    fn judge(&self, peer: &MemberKey, artifact: &ArtifactId) -> Result<ReleasedArtifact, Refusal> {
        let view = self.views.load();
        admit(&view, peer, WantedContent::Blake3(*artifact))?;
        live_row(&view, artifact).cloned().map_err(|why| match why {
            Unobtainable::Retracted => Refusal::Retracted,
            _ => Refusal::NotReleased,
        })
    }

    fn row_of_manifest(&self, peer: &MemberKey, manifest: &ManifestId) -> Result<ReleasedArtifact, Refusal> {
        let view = self.views.load();
        if !is_site_peer(&view, peer) {
            return Err(Refusal::NotAMember);
        }
        let row = view.catalogue.live_artifacts().find(|row| row.custom.manifest.blake3 == *manifest);
        let row = row.cloned().ok_or(Refusal::NotReleased)?;
        admit(&view, peer, WantedContent::Blake3(row.custom.blake3))?;
        Ok(row)
    }
}

/// After the lease a peer gets only what leads back from a retraction; a node that is held gives nothing.
fn admit(view: &NodeView, peer: &MemberKey, wanted: WantedContent) -> Result<(), Refusal> {
    if !is_site_peer(view, peer) {
        return Err(Refusal::NotAMember);
    }
    let may_move = view.freshness().is_within_lease() || view.catalogue.is_rollback_target(wanted);
    if may_move && view.hold.is_none() { Ok(()) } else { Err(Refusal::LeaseExpired) }
}

impl ChunkSource for NodeSource {
    async fn manifest(&self, peer: &MemberKey, manifest: &ManifestId) -> Answer<Bytes> {
        let row = match self.row_of_manifest(peer, manifest) {
            Ok(row) => row,
            Err(refusal) => return Answer::Refused(refusal),
        };
        if let Some(bytes) = self.store.manifest_bytes(manifest) {
            return Answer::Here(bytes.into());
        }
        // Answered before the asker gives us up.
        let deadline = Instant::now() + PEER_PATIENCE - Duration::from_millis(500);
        match self.fetch.wait_manifest_for_peer(row.custom.blake3, deadline).await {
            Ok(()) => self.store.manifest_bytes(manifest).map_or(Answer::NotHere, |bytes| Answer::Here(bytes.into())),
            Err(why) => no(&why),
        }
    }

    async fn available(&self, peer: &MemberKey, artifact: &ArtifactId, index: u32) -> Answer<()> {
        if let Err(refusal) = self.judge(peer, artifact) {
            return Answer::Refused(refusal);
        }
        if self.store.reader(artifact).is_some_and(|reader| reader.has(index)) {
            return Answer::Here(());
        }
        match self.fetch.wait_for_peer(*artifact, index, Instant::now() + LATE_MAX).await {
            Ok(()) => Answer::Here(()),
            // A no would make the asker turn to the origin; the end of the connection makes it ask the others first.
            Err(Unobtainable::Stopping) => std::future::pending().await,
            Err(why) => no(&why),
        }
    }

    async fn chunk(&self, peer: &MemberKey, artifact: &ArtifactId, index: u32, _: bool) -> Answer<ServedChunk> {
        self.note(artifact);
        if let Err(refusal) = self.judge(peer, artifact) {
            return Answer::Refused(refusal);
        }
        let Some(reader) = self.store.reader(artifact) else { return Answer::NotHere };
        if !reader.has(index) {
            return Answer::NotHere;
        }
        match reader.read(index).await {
            Ok(bytes) => Answer::Here(ServedChunk { bytes, id: reader.manifest().chunk_id(index) }),
            Err(error) => {
                if matches!(error, ReadError::Corrupt { .. }) {
                    self.fetch.damaged(*artifact, index);
                }
                tracing::warn!(artifact = %artifact.short(), index, %error, "a chunk cannot be served to a peer");
                Answer::NotHere
            }
        }
    }

    async fn have(&self, peer: &MemberKey, artifact: &ArtifactId) -> Answer<Bytes> {
        if let Err(refusal) = self.judge(peer, artifact) {
            return Answer::Refused(refusal);
        }
        match self.fetch.have(*peer, *artifact).await {
            Some(have) => Answer::Here(have.encode().into()),
            None => Answer::NotHere,
        }
    }
}

fn no<T>(why: &Unobtainable) -> Answer<T> {
    match why {
        Unobtainable::Retracted => Answer::Refused(Refusal::Retracted),
        Unobtainable::NotReleased => Answer::Refused(Refusal::NotReleased),
        Unobtainable::Busy => Answer::Refused(Refusal::Busy),
        _ => Answer::NotHere,
    }
}
