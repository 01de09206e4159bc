//! Taking over a finished upload: read once, cut, hashed, synced, then moved into the store by the writer.

use crate::error::ImportError;
use crate::store::ContentStore;
use crate::writer::Command;
use sluice_content::{ChunkerParams, Cut, Cutter};
use sluice_model::Sha256;
use sluice_model::limits::ARTIFACT_BYTES_MAX;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;

/// Read at once: large enough that system calls do not show, small beside the cutter's buffer.
const READ_BYTES: usize = 1 << 20;

/// What became of a file.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Its chunks and hashes.
    pub cut: Cut,
    /// Whether the same content was here before; it is stored once.
    pub was_known: bool,
}

impl ContentStore {
    /// Takes the file at `path` into the store, whole and durable, and away from `path`. It must lie on the store's file
    /// system and nobody may write to it any more. It is read once; memory does not grow with it. `expected` is compared
    /// before anything is changed. `progress` hears how many bytes were read.
    ///
    /// Dropping the future before it is done leaves either the file at `path` or the artifact in the store.
    pub async fn import(
        &self,
        path: &Path,
        expected: Option<Sha256>,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<Imported, ImportError> {
        let source = path.to_path_buf();
        let cut = tokio::task::spawn_blocking(move || cut_file(&source, expected, progress))
            .await
            .map_err(|_| ImportError::Closed)??;
        let (reply, answer) = oneshot::channel();
        let command = Command::Adopt { path: path.to_path_buf(), cut: Box::new(cut.clone()), reply };
        self.send(command).await.ok_or(ImportError::Closed)?;
        let was_known = answer.await.map_err(|_| ImportError::Closed)??;
        Ok(Imported { cut, was_known })
    }
}

fn cut_file(path: &PathBuf, expected: Option<Sha256>, mut progress: impl FnMut(u64)) -> Result<Cut, ImportError> {
    let io_error = |source: io::Error| ImportError::Io { path: path.clone(), source };
    let mut file = File::open(path).map_err(io_error)?;
    let length = file.metadata().map_err(io_error)?.len();
    if length > ARTIFACT_BYTES_MAX {
        return Err(ImportError::TooLarge { bytes: length, bytes_max: ARTIFACT_BYTES_MAX });
    }
    let mut cutter = Cutter::new(ChunkerParams::for_length(length));
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = file.read(&mut buffer).map_err(io_error)?;
        if count == 0 {
            break;
        }
        if cutter.length() + count as u64 > length {
            return Err(ImportError::Changed { expected: length, got: cutter.length() + count as u64 });
        }
        cutter.push(&buffer[..count]);
        progress(cutter.length());
    }
    let cut = cutter.finish();
    if cut.length != length {
        return Err(ImportError::Changed { expected: length, got: cut.length });
    }
    if let Some(expected) = expected.filter(|expected| *expected != cut.sha256) {
        return Err(ImportError::WrongSha256 { got: cut.sha256, expected });
    }
    file.sync_data().map_err(io_error)?;
    Ok(cut)
}
