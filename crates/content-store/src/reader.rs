//! Reading one artifact.

use crate::error::ReadError;
use crate::slot::{FromDisk, Slot};
use crate::store::Shared;
use crate::writer::Command;
use bytes::Bytes;
use sluice_content::{Bitmap, Manifest};
use sluice_model::{ArtifactId, Sha256};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Reads chunks of one artifact. Cheap to clone; holds no open file while it is idle.
#[derive(Clone)]
pub struct ArtifactReader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) commands: mpsc::Sender<Command>,
}

impl ArtifactReader {
    /// The artifact.
    pub fn artifact(&self) -> ArtifactId {
        self.slot.artifact
    }

    /// SHA-256 of the whole artifact, as it was admitted.
    pub fn sha256(&self) -> Sha256 {
        self.slot.sha256
    }

    /// Its chunks.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.slot.manifest
    }

    /// Whether chunk `idx` can be read now.
    pub fn has(&self, idx: u32) -> bool {
        self.slot.has(idx)
    }

    /// Whether every chunk can be read now.
    pub fn is_complete(&self) -> bool {
        !self.slot.is_removed() && self.slot.bits().present.is_complete()
    }

    /// The chunks that can be read now; a copy.
    pub fn bitmap(&self) -> Bitmap {
        let bits = self.slot.bits();
        if self.slot.is_removed() { Bitmap::empty(bits.present.len()) } else { bits.present.clone() }
    }

    /// How many bytes can be read now.
    pub fn present_bytes(&self) -> u64 {
        if self.slot.is_removed() { 0 } else { self.slot.bits().present_bytes }
    }

    /// Whether it was removed.
    pub fn is_removed(&self) -> bool {
        self.slot.is_removed()
    }

    /// Wakes after each change of what can be read, the removal among them. The value is a count of changes.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.slot.watch()
    }

    /// The bytes of chunk `idx`, verified. From memory at once; from disk they are verified each time. A chunk whose
    /// bytes are wrong no longer counts, durably, when this returns [`ReadError::Corrupt`]. Dropping the future is safe.
    pub async fn read(&self, idx: u32) -> Result<Bytes, ReadError> {
        if let Some(bytes) = self.known(idx)? {
            return Ok(bytes);
        }
        // Those who want the same chunk wait for one read instead of making their own.
        let _one_at_a_time = self.shared.read_turn(self.slot.artifact, idx).lock().await;
        if let Some(bytes) = self.known(idx)? {
            return Ok(bytes);
        }
        let slot = Arc::clone(&self.slot);
        let read =
            tokio::task::spawn_blocking(move || slot.read_from_disk(idx)).await.map_err(|_| ReadError::Closed)?;
        match read {
            FromDisk::Verified(bytes) => {
                self.shared.cache.insert(self.slot.artifact, idx, bytes.clone());
                Ok(bytes)
            }
            FromDisk::Failed(source) => Err(ReadError::Io { artifact: self.slot.artifact, idx, source }),
            FromDisk::Damaged(reason) => {
                tracing::warn!(artifact = %self.slot.artifact, idx, reason, "a chunk is damaged on disk");
                self.report_damage(idx).await
            }
        }
    }

    fn known(&self, idx: u32) -> Result<Option<Bytes>, ReadError> {
        if self.slot.is_removed() {
            return Err(ReadError::Removed(self.slot.artifact));
        }
        if !self.slot.has(idx) {
            return Err(ReadError::Missing { artifact: self.slot.artifact, idx });
        }
        Ok(self.shared.cache.get(self.slot.artifact, idx))
    }

    async fn report_damage(&self, idx: u32) -> Result<Bytes, ReadError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Damaged { slot: Arc::clone(&self.slot), idx, reply };
        self.commands.send(command).await.map_err(|_| ReadError::Closed)?;
        answer.await.map_err(|_| ReadError::Closed)?;
        Err(ReadError::Corrupt { artifact: self.slot.artifact, idx })
    }
}
