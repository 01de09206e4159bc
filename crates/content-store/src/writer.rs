//! The one that writes: artifact files and the index.
//!
//! Commands are worked off in order, in blocking threads, one batch of them at a time; between them the chunks that a new
//! artifact shares with others are copied, a few MiB a step. What was written becomes durable together: files are synced,
//! then the bitmaps are committed in one transaction.
//!
//! When the index fails, chunks stay readable and dirty; each later batch opens the index again and tries once more. When
//! a file cannot be synced, its chunks of the batch no longer count: the kernel may have dropped them.

use crate::error::{AdmitError, FlushError, ImportError, PutError, RemoveError};
use crate::files::{AllocateError, is_full};
use crate::index::{BitmapCommit, Index};
use crate::slot::{Bits, FromDisk, Slot};
use crate::store::{Admission, Shared, Trouble};
use bytes::Bytes;
use sluice_content::{Bitmap, Cut};
use sluice_model::ArtifactId;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Commands worked off in one go: as many as may queue.
const COMMANDS_PER_STEP: usize = 8;
/// Bytes copied between commands.
const COPY_BYTES_PER_STEP: u64 = 8 << 20;
/// Places tried for one known chunk: a second one in case the first is damaged.
const PLACES_PER_CHUNK: usize = 3;

pub(crate) enum Command {
    Admit { admission: Admission, reply: oneshot::Sender<Result<(), AdmitError>> },
    Put { slot: Arc<Slot>, idx: u32, bytes: Bytes, reply: oneshot::Sender<Result<(), PutError>> },
    Damaged { slot: Arc<Slot>, idx: u32, reply: oneshot::Sender<()> },
    Touched { slot: Arc<Slot> },
    Flush { reply: oneshot::Sender<Result<(), FlushError>> },
    Adopt { path: PathBuf, cut: Box<Cut>, reply: oneshot::Sender<Result<bool, ImportError>> },
    Remove { slot: Arc<Slot>, reply: oneshot::Sender<Result<(), RemoveError>> },
}

/// The writer panicked or its last batch could not be made durable.
#[derive(Debug, thiserror::Error)]
pub enum WriterFailed {
    /// An invariant broke.
    #[error("the content store's writer panicked")]
    Panicked,
    /// At the end.
    #[error("the last batch of content is not durable")]
    LastFlush(#[source] FlushError),
}

/// Writes, until it is cancelled or every handle is gone. To be spawned by the program's wiring.
pub struct WriterTask {
    writer: Box<Writer>,
    queue: mpsc::Receiver<Command>,
}

impl WriterTask {
    pub(crate) fn new(shared: Arc<Shared>, index: Index, queue: mpsc::Receiver<Command>) -> Self {
        let (dirty, copies) = (BTreeMap::new(), VecDeque::new());
        Self { writer: Box::new(Writer { shared, index, dirty, dirty_bytes: 0, copies }), queue }
    }

    /// Runs until `stop`; then what is queued is worked off, and everything made durable.
    pub async fn run(self, stop: CancellationToken) -> Result<(), WriterFailed> {
        let Self { mut writer, mut queue } = self;
        let mut commands = Vec::with_capacity(COMMANDS_PER_STEP);
        let mut flush_at: Option<Instant> = None;
        loop {
            let has_copies = !writer.copies.is_empty();
            tokio::select! {
                biased;
                () = stop.cancelled(), if !queue.is_closed() => queue.close(),
                count = queue.recv_many(&mut commands, COMMANDS_PER_STEP) => if count == 0 { break },
                () = at(flush_at), if flush_at.is_some() => {}
                () = std::future::ready(()), if has_copies => {}
            }
            let is_due = flush_at.is_some_and(|due| Instant::now() >= due);
            (writer, commands) = blocking(move || writer.step(commands, is_due)).await?;
            flush_at = match flush_at {
                _ if writer.dirty.is_empty() => None,
                Some(due) if !is_due => Some(due),
                _ => Some(Instant::now() + writer.shared.limits.batch_after),
            };
        }
        let last = blocking(move || writer.flush()).await?;
        last.map_err(WriterFailed::LastFlush)
    }
}

async fn at(instant: Option<Instant>) {
    if let Some(instant) = instant {
        tokio::time::sleep_until(instant).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, WriterFailed> {
    tokio::task::spawn_blocking(work).await.map_err(|_| WriterFailed::Panicked)
}

struct Writer {
    shared: Arc<Shared>,
    index: Index,
    /// What was changed since the last commit, by artifact.
    dirty: BTreeMap<ArtifactId, Dirty>,
    dirty_bytes: u64,
    copies: VecDeque<Copy>,
}

struct Dirty {
    slot: Arc<Slot>,
    /// Written to since the last sync.
    file: Option<Arc<File>>,
    chunks: Vec<u32>,
}

/// An admitted artifact whose known chunks are being copied.
struct Copy {
    slot: Arc<Slot>,
    next_idx: u32,
    copied: u32,
    reply: oneshot::Sender<Result<(), AdmitError>>,
}

impl Writer {
    fn step(mut self: Box<Self>, mut commands: Vec<Command>, is_due: bool) -> (Box<Self>, Vec<Command>) {
        for command in commands.drain(..) {
            self.obey(command);
            if self.dirty_bytes >= self.shared.limits.batch_bytes {
                let _ = self.flush();
            }
        }
        self.copy_some();
        if is_due || self.dirty_bytes >= self.shared.limits.batch_bytes {
            let _ = self.flush();
        }
        (self, commands)
    }

    /// Whoever asked may have gone: an answer that nobody takes is dropped.
    fn obey(&mut self, command: Command) {
        match command {
            Command::Admit { admission, reply } => match self.admit(&admission) {
                Ok(Some(slot)) => self.copies.push_back(Copy { slot, next_idx: 0, copied: 0, reply }),
                Ok(None) => drop(reply.send(Ok(()))),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Put { slot, idx, bytes, reply } => drop(reply.send(self.put(&slot, idx, bytes))),
            Command::Damaged { slot, idx, reply } => {
                self.recheck(&slot, idx);
                let _ = reply.send(());
            }
            Command::Touched { slot } => drop(self.dirty_entry(&slot)),
            Command::Flush { reply } => drop(reply.send(self.flush())),
            Command::Adopt { path, cut, reply } => drop(reply.send(self.adopt(path, *cut))),
            Command::Remove { slot, reply } => drop(reply.send(self.remove(&slot))),
        }
    }

    /// The new slot, or `None` when the artifact is here already.
    fn admit(&mut self, admission: &Admission) -> Result<Option<Arc<Slot>>, AdmitError> {
        let artifact = admission.manifest.artifact();
        if let Some(slot) = self.shared.slot_or_removed(&artifact) {
            if !slot.is_removed() {
                let is_same = slot.sha256 == admission.sha256 && *slot.manifest == *admission.manifest;
                return if is_same { Ok(None) } else { Err(AdmitError::Contradiction(artifact)) };
            }
            // Its removal failed earlier; it must be out of the index before it comes back.
            self.remove(&slot).map_err(|error| match error {
                RemoveError::Index(source) => AdmitError::Index(source),
                RemoveError::Io { artifact, source } => AdmitError::Io { artifact, source },
                RemoveError::Closed => AdmitError::Closed,
            })?;
        }
        let length = admission.manifest.length();
        self.allocate(&artifact, length).map_err(|error| match error {
            AllocateError::Full { needed, free } => AdmitError::Full { needed, free },
            AllocateError::Io(source) => AdmitError::Io { artifact, source },
        })?;
        let bits = Bits::empty(admission.manifest.chunk_count());
        let path = self.shared.folder.path_of(&artifact);
        let slot = Arc::new(Slot::new(Arc::clone(&admission.manifest), admission.sha256, path, bits, 0));
        let none = Bitmap::empty(admission.manifest.chunk_count());
        if let Err(error) = self.index.insert(&slot.record(), &slot.manifest, &none) {
            let _ = self.shared.folder.unlink(&artifact);
            self.shared.set_trouble(Trouble::Write, format!("the index cannot be written: {error}"));
            return Err(AdmitError::Index(error));
        }
        self.shared.insert(Arc::clone(&slot));
        self.shared.clear_trouble(Trouble::Full);
        Ok(Some(slot))
    }

    fn allocate(&self, artifact: &ArtifactId, length: u64) -> Result<File, AllocateError> {
        self.shared.folder.allocate(artifact, length).inspect_err(|error| {
            if let AllocateError::Full { needed, free } = error {
                let text = format!("disk full: {needed} bytes are needed, {free} are free above the reserve");
                self.shared.set_trouble(Trouble::Full, text);
            }
        })
    }

    fn put(&mut self, slot: &Arc<Slot>, idx: u32, bytes: Bytes) -> Result<(), PutError> {
        if slot.is_removed() {
            return Err(PutError::Unknown(slot.artifact));
        }
        if slot.has(idx) {
            return Ok(());
        }
        let needed = bytes.len() as u64;
        self.write_chunk(slot, idx, &bytes).map_err(|error| match error {
            AllocateError::Full { needed, free } => PutError::Full { needed, free },
            AllocateError::Io(source) if is_full(&source) => {
                self.shared.set_trouble(Trouble::Full, "disk full: a chunk could not be written".to_owned());
                PutError::Full { needed, free: 0 }
            }
            AllocateError::Io(source) => PutError::Io { artifact: slot.artifact, idx, source },
        })?;
        self.shared.cache.insert(slot.artifact, idx, bytes);
        slot.set_present(idx);
        Ok(())
    }

    /// Bytes to the file; the batch knows of them. They are not readable yet.
    fn write_chunk(&mut self, slot: &Arc<Slot>, idx: u32, bytes: &[u8]) -> Result<(), AllocateError> {
        let file = self.writable(slot)?;
        file.write_all_at(bytes, slot.manifest.range(idx).start).map_err(AllocateError::Io)?;
        self.dirty_bytes += bytes.len() as u64;
        let dirty = self.dirty_entry(slot);
        dirty.file = Some(file);
        dirty.chunks.push(idx);
        Ok(())
    }

    /// The artifact's file; made anew when somebody unlinked it, and then nothing of it counts any more.
    fn writable(&mut self, slot: &Arc<Slot>) -> Result<Arc<File>, AllocateError> {
        if let Some(file) = self.dirty.get(&slot.artifact).and_then(|dirty| dirty.file.as_ref()) {
            return Ok(Arc::clone(file));
        }
        let length = slot.manifest.length();
        match slot.file() {
            Ok(file) if file.metadata().map_err(AllocateError::Io)?.len() >= length => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tracing::warn!(artifact = %slot.artifact, "the artifact's file is gone; making it anew");
                if let Some(dirty) = self.dirty.get_mut(&slot.artifact) {
                    dirty.chunks.clear();
                }
                slot.clear(0..slot.manifest.chunk_count());
            }
            Err(error) => return Err(AllocateError::Io(error)),
        }
        self.allocate(&slot.artifact, length)?;
        slot.forget_file();
        slot.file().map_err(AllocateError::Io)
    }

    fn dirty_entry(&mut self, slot: &Arc<Slot>) -> &mut Dirty {
        let new = || Dirty { slot: Arc::clone(slot), file: None, chunks: Vec::new() };
        self.dirty.entry(slot.artifact).or_insert_with(new)
    }

    /// A reader found the chunk damaged. It is read again here, because it may have been repaired meanwhile.
    fn recheck(&mut self, slot: &Arc<Slot>, idx: u32) {
        if slot.is_removed() || !slot.has(idx) || matches!(slot.read_from_disk(idx), FromDisk::Verified(_)) {
            return;
        }
        self.shared.cache.forget(slot.artifact, idx);
        if let Some(dirty) = self.dirty.get_mut(&slot.artifact) {
            dirty.chunks.retain(|chunk| *chunk != idx);
        }
        slot.clear([idx]);
        // Not durable when this fails: then the next process finds the damage again when it reads the chunk.
        self.dirty_entry(slot);
        let _ = self.flush();
    }

    fn flush(&mut self) -> Result<(), FlushError> {
        let mut result = Ok(());
        let mut batch = Vec::with_capacity(self.dirty.len());
        for dirty in self.dirty.values_mut() {
            if let Err(error) = dirty.file.as_ref().map_or(Ok(()), |file| file.sync_data()) {
                tracing::error!(artifact = %dirty.slot.artifact, %error, "content could not be synced to disk");
                self.shared.set_trouble(Trouble::Write, format!("content cannot be synced to disk: {error}"));
                for idx in &dirty.chunks {
                    self.shared.cache.forget(dirty.slot.artifact, *idx);
                }
                dirty.slot.clear(dirty.chunks.drain(..));
                result = Err(FlushError::Sync { artifact: dirty.slot.artifact, reason: error.to_string() });
            }
            dirty.file = None;
            let mut committed = dirty.slot.bits().committed.clone();
            for idx in &dirty.chunks {
                committed.set(*idx);
            }
            let (manifest, record) = (Arc::clone(&dirty.slot.manifest), dirty.slot.record());
            batch.push(BitmapCommit { manifest, record, committed, fresh: dirty.chunks.clone() });
        }
        self.dirty_bytes = 0;
        if batch.is_empty() {
            return result;
        }
        if let Err(error) = self.index.commit(&batch) {
            tracing::error!(%error, "the index of the content store cannot be written; opening it again");
            self.shared.set_trouble(Trouble::Write, format!("the index cannot be written: {error}"));
            return Err(FlushError::Index(error.to_string()));
        }
        for (dirty, commit) in std::mem::take(&mut self.dirty).into_values().zip(batch) {
            dirty.slot.bits().committed = commit.committed;
        }
        if result.is_ok() {
            self.shared.clear_trouble(Trouble::Write);
        }
        result
    }

    fn adopt(&mut self, path: PathBuf, cut: Cut) -> Result<bool, ImportError> {
        let artifact = cut.artifact;
        let known = self.shared.slot_or_removed(&artifact);
        self.shared.folder.take_over(&path, &artifact).map_err(|source| ImportError::Io { path, source })?;
        if let Some(dirty) = self.dirty.remove(&artifact) {
            dirty.slot.forget_file();
        }
        let manifest = Arc::new(cut.manifest);
        let full = Bitmap::full(manifest.chunk_count());
        let bits = Bits::of_committed(full.clone(), &manifest);
        let at = self.shared.folder.path_of(&artifact);
        let fresh = Slot::new(Arc::clone(&manifest), cut.sha256, at, bits.clone(), 0);
        self.index.insert(&fresh.record(), &manifest, &full).map_err(ImportError::Index)?;
        match known {
            Some(slot) if !slot.is_removed() => {
                slot.forget_file();
                *slot.bits() = bits;
                slot.tell();
                Ok(true)
            }
            _ => {
                self.shared.insert(Arc::new(fresh));
                Ok(false)
            }
        }
    }

    fn remove(&mut self, slot: &Arc<Slot>) -> Result<(), RemoveError> {
        let is_current = self.shared.slot_or_removed(&slot.artifact).is_some_and(|now| Arc::ptr_eq(&now, slot));
        if !is_current {
            return Ok(());
        }
        self.dirty.remove(&slot.artifact);
        self.index.remove(&slot.manifest, &slot.manifest_id).map_err(RemoveError::Index)?;
        self.shared.forget(slot);
        self.shared.cache.forget_artifact(slot.artifact);
        let unlinked = self.shared.folder.unlink(&slot.artifact);
        unlinked.map_err(|source| RemoveError::Io { artifact: slot.artifact, source })?;
        self.shared.clear_trouble(Trouble::Full);
        Ok(())
    }

    /// Copies some chunks of the first artifact that waits for it.
    fn copy_some(&mut self) {
        let Some(mut copy) = self.copies.pop_front() else { return };
        let mut bytes_left = COPY_BYTES_PER_STEP;
        while bytes_left > 0 && !copy.slot.is_removed() && copy.next_idx < copy.slot.manifest.chunk_count() {
            let idx = copy.next_idx;
            copy.next_idx += 1;
            // Looking a chunk up costs as much as copying a small one.
            let mut cost = 64 << 10;
            if let Some(bytes) = self.known_bytes(&copy.slot, idx) {
                cost = u64::from(copy.slot.manifest.chunk_length(idx));
                match self.put(&copy.slot, idx, bytes) {
                    Ok(()) => copy.copied += 1,
                    Err(error) => {
                        tracing::warn!(artifact = %copy.slot.artifact, idx, %error, "a known chunk was not copied")
                    }
                }
            }
            bytes_left = bytes_left.saturating_sub(cost);
        }
        if !copy.slot.is_removed() && copy.next_idx < copy.slot.manifest.chunk_count() {
            self.copies.push_back(copy);
            return;
        }
        if copy.copied > 0 {
            tracing::info!(artifact = %copy.slot.artifact, chunks = copy.copied, "took chunks over from other artifacts");
        }
        let _ = copy.reply.send(Ok(()));
    }

    /// The bytes of a chunk, verified, from any artifact that has it.
    fn known_bytes(&mut self, slot: &Arc<Slot>, idx: u32) -> Option<Bytes> {
        if slot.has(idx) {
            return None;
        }
        let places = self.index.places(&slot.manifest.chunk_id(idx), PLACES_PER_CHUNK).ok()?;
        places.into_iter().find_map(|(artifact, at)| {
            let other = self.shared.slot(&artifact).filter(|other| other.has(at))?;
            match other.read_from_disk(at) {
                FromDisk::Verified(bytes) => Some(bytes),
                _ => None,
            }
        })
    }
}
