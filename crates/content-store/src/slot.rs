//! One artifact of the store in memory: its manifest, which chunks are there, and who waits for more.

use bytes::{Bytes, BytesMut};
use sluice_content::{Bitmap, Manifest};
use sluice_model::{ArtifactId, ManifestId, Sha256};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::watch;

/// What is there.
#[derive(Clone, Debug)]
pub(crate) struct Bits {
    /// Can be read now.
    pub(crate) present: Bitmap,
    /// Will count after a crash. Always a part of `present`.
    pub(crate) committed: Bitmap,
    /// Bytes of the present chunks.
    pub(crate) present_bytes: u64,
}

/// An artifact. Shared by readers and the writer.
pub(crate) struct Slot {
    pub(crate) artifact: ArtifactId,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) manifest_id: ManifestId,
    pub(crate) sha256: Sha256,
    path: PathBuf,
    bits: Mutex<Bits>,
    /// The open file, as long as somebody uses it: descriptors are bounded by running reads, not by artifacts.
    file: Mutex<Weak<File>>,
    removed: AtomicBool,
    /// Milliseconds since 1970, as the last user said.
    pub(crate) last_used_ms: AtomicU64,
    /// Counts changes of `bits` and the removal.
    changes: watch::Sender<u64>,
}

/// What reading a chunk from disk gave.
#[derive(Debug)]
pub(crate) enum FromDisk {
    Verified(Bytes),
    /// Wrong bytes, too few, or the disk cannot read them.
    Damaged(String),
    Failed(io::Error),
}

impl Slot {
    pub(crate) fn new(manifest: Arc<Manifest>, sha256: Sha256, path: PathBuf, bits: Bits, last_used_ms: u64) -> Self {
        Self {
            artifact: manifest.artifact(),
            manifest_id: manifest.id(),
            manifest,
            sha256,
            path,
            bits: Mutex::new(bits),
            file: Mutex::new(Weak::new()),
            removed: AtomicBool::new(false),
            last_used_ms: AtomicU64::new(last_used_ms),
            changes: watch::Sender::new(0),
        }
    }

    pub(crate) fn bits(&self) -> MutexGuard<'_, Bits> {
        self.bits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has(&self, idx: u32) -> bool {
        !self.is_removed() && self.bits().present.has(idx)
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// From now on nothing is read from it.
    pub(crate) fn mark_removed(&self) {
        self.removed.store(true, Ordering::Release);
        self.tell();
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Chunk `idx` can be read from now on.
    pub(crate) fn set_present(&self, idx: u32) {
        self.bits().set_present(idx, &self.manifest);
        self.tell();
    }

    /// Chunks that no longer count.
    pub(crate) fn clear(&self, chunks: impl IntoIterator<Item = u32>) {
        {
            let mut bits = self.bits();
            for idx in chunks {
                bits.clear(idx, &self.manifest);
            }
        }
        self.tell();
    }

    pub(crate) fn tell(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// The open file.
    pub(crate) fn file(&self) -> io::Result<Arc<File>> {
        let mut shared = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = shared.upgrade() {
            return Ok(file);
        }
        let file = Arc::new(OpenOptions::new().read(true).write(true).open(&self.path)?);
        *shared = Arc::downgrade(&file);
        Ok(file)
    }

    /// The file at the path is another one now.
    pub(crate) fn forget_file(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Weak::new();
    }

    /// Reads chunk `idx` and compares it with the manifest. Blocking; about 0.4 ms a MiB.
    pub(crate) fn read_from_disk(&self, idx: u32) -> FromDisk {
        match self.read_bytes(idx) {
            Ok(bytes) => match self.manifest.verify(idx, &bytes) {
                Ok(()) => FromDisk::Verified(bytes),
                Err(wrong) => FromDisk::Damaged(wrong.to_string()),
            },
            Err(error) if is_damage(&error) => FromDisk::Damaged(error.to_string()),
            Err(error) => FromDisk::Failed(error),
        }
    }

    fn read_bytes(&self, idx: u32) -> io::Result<Bytes> {
        let range = self.manifest.range(idx);
        let mut bytes = BytesMut::zeroed((range.end - range.start) as usize);
        self.file()?.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.freeze())
    }
}

impl Bits {
    pub(crate) fn empty(chunks: u32) -> Self {
        Self { present: Bitmap::empty(chunks), committed: Bitmap::empty(chunks), present_bytes: 0 }
    }

    /// All of `committed` is there.
    pub(crate) fn of_committed(committed: Bitmap, manifest: &Manifest) -> Self {
        let present_bytes = committed.iter().map(|idx| u64::from(manifest.chunk_length(idx))).sum();
        Self { present: committed.clone(), committed, present_bytes }
    }

    pub(crate) fn set_present(&mut self, idx: u32, manifest: &Manifest) {
        if self.present.set(idx) {
            self.present_bytes += u64::from(manifest.chunk_length(idx));
        }
    }

    pub(crate) fn clear(&mut self, idx: u32, manifest: &Manifest) {
        self.committed.clear(idx);
        if self.present.clear(idx) {
            self.present_bytes -= u64::from(manifest.chunk_length(idx));
        }
    }
}

/// The bytes are gone, as opposed to out of reach for the moment.
fn is_damage(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) || error.raw_os_error() == Some(EIO)
}
