//! The origin as a source of chunks: only for nodes of the roster, only what a live release lists, only within the lease.
//!
//! Each frame is asked for separately, so a retraction or a revocation takes hold at the next chunk. A site gets each chunk
//! once: a second node that asks for it is told which node has it, unless it insists.

use crate::clock;
use crate::counters::SiteLink;
use crate::served::Served;
use crate::state::Shared;
use bytes::Bytes;
use sluice_exchange::claims::{ConnectionId, Judgement};
use sluice_exchange::frame::Refusal;
use sluice_exchange::have::Have;
use sluice_model::{ArtifactId, ManifestId, MemberKey};
use sluice_transport::{Answer, ChunkSource, ServedChunk};
use std::sync::Arc;

/// What one connection of a node may ask.
pub struct Origin {
    app: Shared,
    /// Where what this connection sends is counted.
    link: Arc<SiteLink>,
    /// This connection among those of its site.
    connection: ConnectionId,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.link.claims().disconnected(self.connection);
    }
}

impl Origin {
    /// For a connection of `node` over `link`.
    pub fn new(app: Shared, link: Arc<SiteLink>, node: MemberKey) -> Self {
        let connection = link.claims().connected(node);
        Self { app, link, connection }
    }

    /// The state that allows `peer` to ask, or the refusal.
    fn admit(&self, peer: &MemberKey) -> Result<Arc<Served>, Refusal> {
        let served = self.app.served();
        if served.site_of_node(peer).is_none() {
            return Err(Refusal::NotAMember);
        }
        if clock::timestamp() >= served.view.lease_until {
            return Err(Refusal::LeaseExpired);
        }
        Ok(served)
    }

    fn admit_artifact(&self, peer: &MemberKey, artifact: &ArtifactId) -> Result<(), Refusal> {
        let served = self.admit(peer)?;
        if served.artifact_retracted_by(artifact).is_some() {
            return Err(Refusal::Retracted);
        }
        served.live(artifact).map(|_| ()).ok_or(Refusal::NotReleased)
    }
}

impl ChunkSource for Origin {
    async fn manifest(&self, peer: &MemberKey, manifest: &ManifestId) -> Answer<Bytes> {
        let served = match self.admit(peer) {
            Ok(served) => served,
            Err(refusal) => return Answer::Refused(refusal),
        };
        let Some(artifact) = served.artifact_of_manifest(manifest) else {
            return Answer::Refused(Refusal::NotReleased);
        };
        match self.app.content.reader(&artifact) {
            Some(reader) => Answer::Here(Bytes::from(reader.manifest().encode())),
            None => Answer::NotHere,
        }
    }

    async fn chunk(&self, peer: &MemberKey, artifact: &ArtifactId, index: u32, insists: bool) -> Answer<ServedChunk> {
        if let Err(refusal) = self.admit_artifact(peer, artifact) {
            return Answer::Refused(refusal);
        }
        let Some(reader) = self.app.content.reader(artifact) else { return Answer::NotHere };
        let count = reader.manifest().chunk_count();
        if index >= count {
            return Answer::NotHere;
        }
        let judged = self.link.claims().judge(self.connection, (artifact, count), index, insists);
        if let Judgement::Elsewhere(member) = judged {
            tracing::debug!(peer = %peer.short(), artifact = %artifact.short(), index, at = %member.short(), "a chunk is at its site");
            return Answer::Elsewhere(member);
        }
        let id = reader.manifest().chunk_id(index);
        match reader.read(index).await {
            Ok(bytes) => {
                self.link.add_chunk(id, bytes.len() as u64);
                tracing::debug!(peer = %peer.short(), artifact = %artifact.short(), index, bytes = bytes.len(), "sending a chunk");
                Answer::Here(ServedChunk { bytes, id })
            }
            Err(error) => {
                tracing::error!(%artifact, index, error = &error as &dyn std::error::Error, "a chunk of the origin cannot be read");
                Answer::NotHere
            }
        }
    }

    async fn have(&self, peer: &MemberKey, artifact: &ArtifactId) -> Answer<Bytes> {
        if let Err(refusal) = self.admit_artifact(peer, artifact) {
            return Answer::Refused(refusal);
        }
        let Some(reader) = self.app.content.reader(artifact) else { return Answer::NotHere };
        let count = reader.manifest().chunk_count();
        let here = (0..count).map(|index| reader.has(index)).collect();
        let have = Have { progress: 0, here, fetching: vec![false; count as usize] };
        Answer::Here(Bytes::from(have.encode()))
    }
}
