//! A store with its writer running, and artifacts to put into it.
#![allow(dead_code, clippy::unwrap_used)]

use bytes::Bytes;
use sluice_content::{ChunkerParams, Cut, Cutter};
use sluice_content_store::{Admission, ContentStore, OpenError, StoreLimits, WriterFailed, WriterTask};
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Bytes that depend on `seed` alone.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub struct Artifact {
    pub bytes: Bytes,
    pub cut: Cut,
}

impl Artifact {
    pub fn of(bytes: Vec<u8>) -> Self {
        let mut cutter = Cutter::new(ChunkerParams::for_length(bytes.len() as u64));
        cutter.push(&bytes);
        Self { bytes: Bytes::from(bytes), cut: cutter.finish() }
    }

    pub fn noise(seed: u64, length: usize) -> Self {
        Self::of(noise(seed, length))
    }

    pub fn admission(&self) -> Admission {
        Admission { manifest: Arc::new(self.cut.manifest.clone()), sha256: self.cut.sha256 }
    }

    pub fn chunk(&self, idx: u32) -> Bytes {
        let range = self.cut.manifest.range(idx);
        self.bytes.slice(range.start as usize..range.end as usize)
    }

    pub fn count(&self) -> u32 {
        self.cut.manifest.chunk_count()
    }

    pub fn path(&self, dir: &Path) -> std::path::PathBuf {
        let hex = self.cut.artifact.to_hex();
        dir.join("artifacts").join(&hex[..2]).join(hex)
    }
}

/// No reserve and no waiting for a batch, unless a test wants it.
pub fn limits() -> StoreLimits {
    StoreLimits { reserve_bytes: 0, ..StoreLimits::default() }
}

/// Every read comes from disk.
pub fn without_memory() -> StoreLimits {
    StoreLimits { memory_bytes: 0, ..limits() }
}

pub struct Running {
    pub store: ContentStore,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), WriterFailed>>,
}

impl Running {
    pub fn open(dir: &Path, limits: StoreLimits) -> Self {
        // A write that ran when the store before crashed still holds the index for a moment.
        let (store, task) = loop {
            match ContentStore::open(dir, limits.clone()) {
                Err(OpenError::InUse(_)) => std::thread::sleep(std::time::Duration::from_millis(5)),
                opened => break opened.unwrap(),
            }
        };
        Self::of(store, task)
    }

    pub fn of(store: ContentStore, task: WriterTask) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(task.run(stop.clone()));
        Self { store, stop, tasks }
    }

    /// Ends as a program does that was told to stop.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
    }

    /// Ends without a last flush, as a crash does. The index file is free again afterwards.
    pub async fn crash(mut self) {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
    }

    pub async fn admit(&self, artifact: &Artifact) {
        self.store.admit(artifact.admission()).await.unwrap();
    }

    pub async fn put_all(&self, artifact: &Artifact) {
        for idx in 0..artifact.count() {
            self.store.put(&artifact.cut.artifact, idx, artifact.chunk(idx)).await.unwrap();
        }
    }

    pub async fn read_all(&self, artifact: &Artifact) {
        let reader = self.store.reader(&artifact.cut.artifact).unwrap();
        for idx in 0..artifact.count() {
            assert_eq!(reader.read(idx).await.unwrap(), artifact.chunk(idx), "chunk {idx}");
        }
    }
}
