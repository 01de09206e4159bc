//! The handle that everybody else holds: finding artifacts, and asking the writer to change them.

use crate::cache::ChunkCache;
use crate::error::{AdmitError, FlushError, OpenError, PutError, RemoveError};
use crate::files::ArtifactFolder;
use crate::index::{BitmapCommit, Index, Record, RecordState, Stored};
use crate::reader::ArtifactReader;
use crate::slot::{Bits, Slot};
use crate::writer::{Command, WriterTask};
use bytes::Bytes;
use sluice_content::Manifest;
use sluice_model::{ArtifactId, ManifestId, Sha256, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for the writer. Eight largest chunks are 32 MiB: one batch.
const COMMANDS_MAX: usize = 8;
/// Locks over which readings are spread; more than threads that read at once.
const READ_TURNS: usize = 64;
/// A use is worth a write only when the last one that was written is older.
const LAST_USED_STEP_MS: u64 = 60_000;

/// Bounds of a store.
#[derive(Clone, Debug)]
pub struct StoreLimits {
    /// Bytes of the disk that are never used, so that the index and everything else there can still write.
    pub reserve_bytes: u64,
    /// Verified chunks kept in memory, in bytes.
    pub memory_bytes: usize,
    /// A batch is made durable when it holds this many bytes,
    pub batch_bytes: u64,
    /// or when its first chunk is this old.
    pub batch_after: Duration,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            reserve_bytes: 256 << 20,
            memory_bytes: 64 << 20,
            batch_bytes: 32 << 20,
            batch_after: Duration::from_secs(1),
        }
    }
}

/// An artifact that may be stored, because signed metadata lists it.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Its chunks; verified against the signed manifest id.
    pub manifest: Arc<Manifest>,
    /// SHA-256 of the whole, from signed metadata.
    pub sha256: Sha256,
}

/// What the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many artifacts.
    pub artifacts: u64,
    /// Bytes of their chunks that can be read.
    pub stored_bytes: u64,
    /// Bytes that their files take.
    pub allocated_bytes: u64,
    /// Bytes of the disk above the reserve.
    pub free_bytes: u64,
}

/// What readers and the writer share.
pub(crate) struct Shared {
    pub(crate) folder: ArtifactFolder,
    pub(crate) cache: ChunkCache,
    pub(crate) limits: StoreLimits,
    slots: RwLock<Slots>,
    read_turns: Vec<tokio::sync::Mutex<()>>,
    trouble: Mutex<Option<(Trouble, String)>>,
}

/// What stands in the way of storing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No room: over when something fits again.
    Full,
    /// Index or file system errors: over when a batch is durable again.
    Write,
}

#[derive(Default)]
struct Slots {
    by_id: BTreeMap<ArtifactId, Arc<Slot>>,
    by_sha256: HashMap<Sha256, ArtifactId>,
    by_manifest: HashMap<ManifestId, ArtifactId>,
}

/// A content store. Cheap to clone; needs its [`WriterTask`] to run. Manifests stay in memory: 40 bytes a chunk, 40 MiB
/// for a terabyte.
#[derive(Clone)]
pub struct ContentStore {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::Sender<Command>,
}

impl ContentStore {
    /// Opens the store in the folder `dir`, or makes it. Blocking: reads the index, looks at each file's length, removes
    /// files that the index does not know. A chunk beyond the end of its file no longer counts afterwards.
    pub fn open(dir: &Path, limits: StoreLimits) -> Result<(Self, WriterTask), OpenError> {
        let io_error = |source| OpenError::Io { path: dir.to_path_buf(), source };
        let folder = ArtifactFolder::open(dir, limits.reserve_bytes).map_err(io_error)?;
        let mut index = Index::open(dir.join("index.redb"))?;
        let mut slots = Slots::default();
        let mut lost = Vec::new();
        for stored in index.load()? {
            let slot = slot_of(&folder, stored).map_err(io_error)?;
            lost.extend(slot.1);
            slots.insert(Arc::new(slot.0));
        }
        if !lost.is_empty() {
            let path = index.path().to_path_buf();
            index.commit(&lost).map_err(|source| OpenError::Index { path, source })?;
        }
        folder.unlink_strangers(|artifact| slots.by_id.contains_key(artifact)).map_err(io_error)?;
        let shared = Arc::new(Shared {
            folder,
            cache: ChunkCache::new(limits.memory_bytes),
            limits,
            slots: RwLock::new(slots),
            read_turns: (0..READ_TURNS).map(|_| tokio::sync::Mutex::new(())).collect(),
            trouble: Mutex::new(None),
        });
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        Ok((Self { shared: Arc::clone(&shared), commands }, WriterTask::new(shared, index, queue)))
    }

    /// Makes room for an artifact, and copies those of its chunks that other artifacts have. Known already: nothing
    /// happens. Takes as long as the copying; dropping the future is safe, the work goes on.
    pub async fn admit(&self, admission: Admission) -> Result<(), AdmitError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Admit { admission, reply }).await.ok_or(AdmitError::Closed)?;
        answer.await.map_err(|_| AdmitError::Closed)?
    }

    /// Verifies and stores a chunk. When this returns it can be read; it is durable after the next batch. Verifying happens
    /// here, on the caller's thread (0.3 ms a MiB). Dropping the future is safe. `bytes` may be kept in memory: give a
    /// buffer that is not a part of a much larger one.
    pub async fn put(&self, artifact: &ArtifactId, idx: u32, bytes: Bytes) -> Result<(), PutError> {
        let slot = self.shared.slot(artifact).ok_or(PutError::Unknown(*artifact))?;
        slot.manifest.verify(idx, &bytes)?;
        if slot.has(idx) {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.send(Command::Put { slot, idx, bytes, reply }).await.ok_or(PutError::Closed)?;
        answer.await.map_err(|_| PutError::Closed)?
    }

    /// Returns when everything that was put before is durable.
    pub async fn flush(&self) -> Result<(), FlushError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Flush { reply }).await.ok_or(FlushError::Closed)?;
        answer.await.map_err(|_| FlushError::Closed)?
    }

    /// Takes an artifact away: at once for new readings, then from the index, then its file. Unknown is as good.
    pub async fn remove(&self, artifact: &ArtifactId) -> Result<(), RemoveError> {
        let Some(slot) = self.shared.slot_or_removed(artifact) else { return Ok(()) };
        slot.mark_removed();
        self.shared.cache.forget_artifact(*artifact);
        let (reply, answer) = oneshot::channel();
        self.send(Command::Remove { slot, reply }).await.ok_or(RemoveError::Closed)?;
        answer.await.map_err(|_| RemoveError::Closed)?
    }

    /// The artifact of that id; `None` when it was not admitted or was removed.
    pub fn reader(&self, artifact: &ArtifactId) -> Option<ArtifactReader> {
        let slot = self.shared.slot(artifact)?;
        Some(ArtifactReader { shared: Arc::clone(&self.shared), slot, commands: self.commands.clone() })
    }

    /// The artifact of that SHA-256.
    pub fn by_sha256(&self, sha256: &Sha256) -> Option<ArtifactId> {
        let artifact = self.shared.read_slots(|slots| slots.by_sha256.get(sha256).copied())?;
        self.shared.slot(&artifact).map(|slot| slot.artifact)
    }

    /// The bytes of a manifest of an artifact that is here.
    pub fn manifest_bytes(&self, manifest: &ManifestId) -> Option<Vec<u8>> {
        self.manifest(manifest).map(|manifest| manifest.encode())
    }

    /// The manifest of that id, of an artifact that is here.
    pub fn manifest(&self, manifest: &ManifestId) -> Option<Arc<Manifest>> {
        let artifact = self.shared.read_slots(|slots| slots.by_manifest.get(manifest).copied())?;
        self.shared.slot(&artifact).map(|slot| Arc::clone(&slot.manifest))
    }

    /// Every artifact, by id.
    pub fn artifacts(&self) -> Vec<ArtifactId> {
        self.shared.read_slots(|slots| {
            slots.by_id.values().filter(|slot| !slot.is_removed()).map(|slot| slot.artifact).collect()
        })
    }

    /// Somebody used the artifact at `at`. Kept to the minute.
    pub fn touch(&self, artifact: &ArtifactId, at: Timestamp) {
        let Some(slot) = self.shared.slot(artifact) else { return };
        let before = slot.last_used_ms.load(Ordering::Relaxed);
        if at.as_millis() >= before.saturating_add(LAST_USED_STEP_MS) {
            slot.last_used_ms.store(at.as_millis(), Ordering::Relaxed);
            // Lost when the writer is busy: then the next use a minute later is written.
            let _ = self.commands.try_send(Command::Touched { slot });
        }
    }

    /// When the artifact was last used, as [`Self::touch`] was told.
    pub fn last_used(&self, artifact: &ArtifactId) -> Option<Timestamp> {
        self.shared.slot(artifact).map(|slot| Timestamp::from_millis(slot.last_used_ms.load(Ordering::Relaxed)))
    }

    /// What is held. O(artifacts) and one system call.
    pub fn usage(&self) -> io::Result<Usage> {
        let free_bytes = self.shared.folder.free_bytes()?;
        let mut usage = Usage { free_bytes, ..Usage::default() };
        self.shared.read_slots(|slots| {
            for slot in slots.by_id.values().filter(|slot| !slot.is_removed()) {
                usage.artifacts += 1;
                usage.stored_bytes += slot.bits().present_bytes;
                usage.allocated_bytes += slot.manifest.length();
            }
        });
        Ok(usage)
    }

    /// Why the store cannot take more at the moment, for people; `None` when it can.
    pub fn trouble(&self) -> Option<String> {
        self.shared.lock_trouble().as_ref().map(|(_, text)| text.clone())
    }

    pub(crate) async fn send(&self, command: Command) -> Option<()> {
        self.commands.send(command).await.ok()
    }
}

impl Shared {
    /// The slot of an artifact that was not removed.
    pub(crate) fn slot(&self, artifact: &ArtifactId) -> Option<Arc<Slot>> {
        self.slot_or_removed(artifact).filter(|slot| !slot.is_removed())
    }

    /// The slot of an artifact whose removal may be unfinished.
    pub(crate) fn slot_or_removed(&self, artifact: &ArtifactId) -> Option<Arc<Slot>> {
        self.read_slots(|slots| slots.by_id.get(artifact).map(Arc::clone))
    }

    pub(crate) fn insert(&self, slot: Arc<Slot>) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).insert(slot);
    }

    pub(crate) fn forget(&self, slot: &Slot) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.by_id.remove(&slot.artifact);
        slots.by_sha256.remove(&slot.sha256);
        slots.by_manifest.remove(&slot.manifest_id);
    }

    /// Whose turn it is to read a chunk from disk.
    pub(crate) fn read_turn(&self, artifact: ArtifactId, idx: u32) -> &tokio::sync::Mutex<()> {
        let spread = usize::from(artifact.as_bytes()[0]).wrapping_add(idx as usize);
        &self.read_turns[spread % READ_TURNS]
    }

    pub(crate) fn set_trouble(&self, kind: Trouble, text: String) {
        let mut current = self.lock_trouble();
        if current.as_ref().is_none_or(|(_, before)| *before != text) {
            tracing::warn!(trouble = text, "the content store cannot take more");
            *current = Some((kind, text));
        }
    }

    /// What is over when something of `kind` worked.
    pub(crate) fn clear_trouble(&self, kind: Trouble) {
        let mut current = self.lock_trouble();
        if current.as_ref().is_some_and(|(now, _)| *now == kind) {
            tracing::info!("the content store takes content again");
            *current = None;
        }
    }

    fn lock_trouble(&self) -> MutexGuard<'_, Option<(Trouble, String)>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_slots<T>(&self, read: impl FnOnce(&Slots) -> T) -> T {
        read(&self.slots.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Slots {
    fn insert(&mut self, slot: Arc<Slot>) {
        self.by_sha256.insert(slot.sha256, slot.artifact);
        self.by_manifest.insert(slot.manifest_id, slot.artifact);
        self.by_id.insert(slot.artifact, slot);
    }
}

impl Slot {
    /// What the index keeps of it.
    pub(crate) fn record(&self) -> Record {
        Record {
            state: RecordState::Released,
            manifest: self.manifest_id,
            sha256: self.sha256,
            last_used_ms: self.last_used_ms.load(Ordering::Relaxed),
        }
    }
}

/// The slot of a stored artifact; and what to write when chunks of it lie beyond the end of its file.
fn slot_of(folder: &ArtifactFolder, stored: Stored) -> io::Result<(Slot, Option<BitmapCommit>)> {
    let Stored { record, manifest, mut committed } = stored;
    let path = folder.path_of(&manifest.artifact());
    let held = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let gone: Vec<u32> = committed.iter().filter(|idx| manifest.range(*idx).end > held).collect();
    for idx in &gone {
        committed.clear(*idx);
    }
    let lost = (!gone.is_empty()).then(|| {
        tracing::warn!(artifact = %manifest.artifact(), chunks = gone.len(), "the artifact's file is missing or cut off");
        BitmapCommit { manifest: Arc::clone(&manifest), record, committed: committed.clone(), fresh: Vec::new() }
    });
    let bits = Bits::of_committed(committed, &manifest);
    Ok((Slot::new(manifest, record.sha256, path, bits, record.last_used_ms), lost))
}
