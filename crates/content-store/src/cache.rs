//! Hot chunks in memory: bytes that verified, shared by everybody who sends them.
//!
//! Bounded by bytes; the least recently used chunk goes first. A chunk larger than the bound is never kept.

use bytes::Bytes;
use sluice_model::ArtifactId;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

type Key = (ArtifactId, u32);

#[derive(Default)]
struct Kept {
    chunks: HashMap<Key, (Bytes, u64)>,
    /// By last use, which is a counter.
    order: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

/// Verified chunks.
pub(crate) struct ChunkCache {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

impl ChunkCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::default() }
    }

    pub(crate) fn get(&self, artifact: ArtifactId, idx: u32) -> Option<Bytes> {
        let mut guard = self.lock();
        let kept = &mut *guard;
        let (bytes, used) = kept.chunks.get_mut(&(artifact, idx))?;
        kept.order.remove(used);
        kept.uses += 1;
        *used = kept.uses;
        kept.order.insert(kept.uses, (artifact, idx));
        Some(bytes.clone())
    }

    pub(crate) fn insert(&self, artifact: ArtifactId, idx: u32, bytes: Bytes) {
        if bytes.len() > self.bytes_max {
            return;
        }
        let mut kept = self.lock();
        kept.forget((artifact, idx));
        while kept.bytes + bytes.len() > self.bytes_max {
            let Some(oldest) = kept.order.first_key_value().map(|(_, key)| *key) else { break };
            kept.forget(oldest);
        }
        kept.uses += 1;
        let used = kept.uses;
        kept.bytes += bytes.len();
        kept.order.insert(used, (artifact, idx));
        kept.chunks.insert((artifact, idx), (bytes, used));
    }

    pub(crate) fn forget(&self, artifact: ArtifactId, idx: u32) {
        self.lock().forget((artifact, idx));
    }

    /// O(kept chunks): at most some hundreds.
    pub(crate) fn forget_artifact(&self, artifact: ArtifactId) {
        let mut kept = self.lock();
        let keys: Vec<Key> = kept.chunks.keys().filter(|key| key.0 == artifact).copied().collect();
        for key in keys {
            kept.forget(key);
        }
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn forget(&mut self, key: Key) {
        if let Some((bytes, used)) = self.chunks.remove(&key) {
            self.order.remove(&used);
            self.bytes -= bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARTIFACT: ArtifactId = ArtifactId::from_bytes([1; 32]);

    #[test]
    fn the_least_recently_used_chunk_goes_first_and_the_bound_holds() {
        let cache = ChunkCache::new(100);
        for idx in 0..3 {
            cache.insert(ARTIFACT, idx, Bytes::from(vec![idx as u8; 40]));
            assert!(cache.bytes() <= 100);
            cache.get(ARTIFACT, 0);
        }
        let kept: Vec<u32> = (0..3).filter(|idx| cache.get(ARTIFACT, *idx).is_some()).collect();
        assert_eq!(kept, [0, 2]);
        cache.insert(ARTIFACT, 9, Bytes::from(vec![0; 101]));
        assert!(cache.get(ARTIFACT, 9).is_none());
        cache.forget_artifact(ARTIFACT);
        assert_eq!(cache.bytes(), 0);
    }
}
