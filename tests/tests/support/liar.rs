//! A member that claims to have everything and sends wrong bytes, which it signs.

use bytes::Bytes;
use sluice_content::{ChunkerParams, Cutter, Manifest, hash_chunk};
use sluice_exchange::have::Have;
use sluice_identity::DeviceKey;
use sluice_model::{ArtifactId, ManifestId, MemberKey};
use sluice_transport::{
    Answer, ChunkSource, DeviceListener, ServeCounters, ServeLimits, ServeOptions, ServedChunk, serve_exchange,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_util::sync::CancellationToken;

/// Claims to have everything and flips one bit of each chunk that it sends.
pub struct Liar {
    pub content: Vec<u8>,
    pub manifest: Manifest,
    pub lies: AtomicUsize,
    /// Who is lied to; everybody when there is none. The others get nothing.
    pub victim: Option<MemberKey>,
}

impl Liar {
    pub fn of(content: Vec<u8>) -> Self {
        let mut cutter = Cutter::new(ChunkerParams::for_length(content.len() as u64));
        cutter.push(&content);
        Self { manifest: cutter.finish().manifest, content, lies: AtomicUsize::new(0), victim: None }
    }
}

impl ChunkSource for Liar {
    async fn manifest(&self, _peer: &MemberKey, _manifest: &ManifestId) -> Answer<Bytes> {
        Answer::NotHere
    }

    async fn chunk(&self, peer: &MemberKey, _artifact: &ArtifactId, index: u32, _: bool) -> Answer<ServedChunk> {
        if self.victim.is_some_and(|victim| victim != *peer) {
            return Answer::NotHere;
        }
        let range = self.manifest.range(index);
        let mut bytes = self.content[range.start as usize..range.end as usize].to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.lies.fetch_add(1, Ordering::SeqCst);
        let id = hash_chunk(&bytes);
        Answer::Here(ServedChunk { bytes: bytes.into(), id })
    }

    async fn have(&self, _peer: &MemberKey, _artifact: &ArtifactId) -> Answer<Bytes> {
        let count = self.manifest.chunk_count() as usize;
        Answer::Here(Have { progress: 1, here: vec![true; count], fetching: vec![false; count] }.encode().into())
    }
}

/// Serves whoever asks until the test ends.
pub async fn lie(mut listener: DeviceListener, key: DeviceKey, liar: Arc<Liar>) {
    let options = ServeOptions {
        limits: ServeLimits::default(),
        pace: Vec::new(),
        sign_with: Some(key),
        counters: Arc::new(ServeCounters::default()),
    };
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        let (liar, options) = (liar.clone(), options.clone());
        connections.spawn(async move {
            let _ = serve_exchange(accepted.stream, accepted.peer, liar, &options, CancellationToken::new()).await;
        });
    }
}
