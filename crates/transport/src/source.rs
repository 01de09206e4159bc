//! What a server of the exchange protocol asks its program for, and what its signature on a chunk means.

use bytes::Bytes;
use sluice_exchange::evidence;
use sluice_exchange::frame::{Refusal, TRAILER_LEN};
use sluice_model::{ArtifactId, ChunkId, ManifestId, MemberKey};
use std::future::Future;

/// The answer to one question of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// Here it is.
    Here(T),
    /// Not had.
    NotHere,
    /// Another member of the asker's site has the chunk or is being sent it. For chunks only.
    Elsewhere(MemberKey),
    /// The whole request is refused.
    Refused(Refusal),
}

/// A chunk that was verified when it was read, with the id that it was verified against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedChunk {
    /// The chunk, at most `CHUNK_BYTES_MAX`.
    pub bytes: Bytes,
    /// BLAKE3 of `bytes`: what the trailer vouches for.
    pub id: ChunkId,
}

/// Where served bytes come from. Each method first decides whether `peer` may have this at all: every frame is asked
/// for separately, so a retraction or a revocation takes hold at the next chunk.
pub trait ChunkSource: Send + Sync + 'static {
    /// An encoded manifest.
    fn manifest(&self, peer: &MemberKey, manifest: &ManifestId) -> impl Future<Output = Answer<Bytes>> + Send;

    /// Resolves when the chunk is here; `NotHere` when nobody is fetching it. The server drops the future when the
    /// asker's window is over. It must hold no chunk bytes: many of these wait at once.
    fn available(
        &self,
        peer: &MemberKey,
        artifact: &ArtifactId,
        index: u32,
    ) -> impl Future<Output = Answer<()>> + Send {
        let _ = (peer, artifact, index);
        async { Answer::Here(()) }
    }

    /// The chunk as it is now, without waiting for it to be fetched. At most two of these are held for a connection.
    /// `insists`: not [`Answer::Elsewhere`].
    fn chunk(
        &self,
        peer: &MemberKey,
        artifact: &ArtifactId,
        index: u32,
        insists: bool,
    ) -> impl Future<Output = Answer<ServedChunk>> + Send;

    /// The body of a `have` reply: an encoded [`sluice_exchange::have::Have`].
    fn have(&self, peer: &MemberKey, artifact: &ArtifactId) -> impl Future<Output = Answer<Bytes>> + Send;
}

/// Whether `sender` signed that it sent bytes with the BLAKE3 `sent` to `receiver` as chunk `index` of `artifact`. With
/// a manifest that says otherwise, that is evidence against the sender.
pub fn trailer_holds(
    sender: &MemberKey,
    receiver: &MemberKey,
    artifact: &ArtifactId,
    index: u32,
    sent: &[u8; 32],
    trailer: &[u8; TRAILER_LEN],
) -> bool {
    let statement = evidence::statement(receiver, artifact, index, sent);
    sluice_metadata::verify_purpose(sender.as_bytes(), evidence::PURPOSE, &statement, trailer).is_ok()
}
