//! Why the store could not do what it was asked.

use sluice_content::WrongBytes;
use sluice_model::{ArtifactId, Sha256};
use std::io;
use std::path::PathBuf;

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0} is in use by another process; stop that one first")]
    InUse(PathBuf),
    /// A file or folder cannot be made, listed or removed.
    #[error("cannot prepare {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The index cannot be opened or read.
    #[error("cannot read the index {path}")]
    Index {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// A row of the index is not what this program writes.
    #[error("the index {path} has a row that cannot be read: {reason}")]
    Row {
        /// Which index.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// An artifact cannot be admitted.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// Its file does not fit.
    #[error("{needed} bytes are needed, {free} are free above the reserve")]
    Full {
        /// Bytes of the artifact.
        needed: u64,
        /// Bytes that may still be used.
        free: u64,
    },
    /// The file cannot be made.
    #[error("cannot make the file of artifact {artifact}")]
    Io {
        /// Which artifact.
        artifact: ArtifactId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The index cannot take it; the store reopens the index by itself, trying again is right.
    #[error("cannot write the index")]
    Index(#[source] Box<redb::Error>),
    /// The artifact is known under another SHA-256 or with another manifest.
    #[error("artifact {0} is here with another manifest or SHA-256")]
    Contradiction(ArtifactId),
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
}

/// A chunk was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The bytes are not the chunk's: whoever sent them is to blame.
    #[error(transparent)]
    WrongBytes(#[from] WrongBytes),
    /// The artifact was not admitted, or was removed meanwhile.
    #[error("artifact {0} is not in the store")]
    Unknown(ArtifactId),
    /// The disk is full.
    #[error("{needed} bytes are needed, {free} are free above the reserve")]
    Full {
        /// Bytes of the chunk.
        needed: u64,
        /// Bytes that may still be used.
        free: u64,
    },
    /// The file cannot be written.
    #[error("cannot write chunk {idx} of artifact {artifact}")]
    Io {
        /// Which artifact.
        artifact: ArtifactId,
        /// Which chunk.
        idx: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
}

/// A chunk cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not here (yet).
    #[error("chunk {idx} of artifact {artifact} is not here")]
    Missing {
        /// Which artifact.
        artifact: ArtifactId,
        /// Which chunk.
        idx: u32,
    },
    /// It was here and its bytes are wrong or gone; it no longer counts and must be fetched again.
    #[error("chunk {idx} of artifact {artifact} was damaged on disk")]
    Corrupt {
        /// Which artifact.
        artifact: ArtifactId,
        /// Which chunk.
        idx: u32,
    },
    /// The artifact was removed meanwhile.
    #[error("artifact {0} was removed")]
    Removed(ArtifactId),
    /// The file cannot be read.
    #[error("cannot read chunk {idx} of artifact {artifact}")]
    Io {
        /// Which artifact.
        artifact: ArtifactId,
        /// Which chunk.
        idx: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
}

/// What was written is not durable.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// The index could not be written; the store reopens it and tries again by itself.
    #[error("cannot write the index: {0}")]
    Index(String),
    /// A file could not be synced: its chunks since the last flush no longer count.
    #[error("cannot sync the file of artifact {artifact}: {reason}")]
    Sync {
        /// Which artifact.
        artifact: ArtifactId,
        /// Why.
        reason: String,
    },
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
}

/// A file could not be imported. It is still where it was, unless said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is larger than an artifact may be.
    #[error("the file has {bytes} bytes, an artifact at most {bytes_max}")]
    TooLarge {
        /// Of the file.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// It changed while it was read.
    #[error("the file had {expected} bytes when it was opened and {got} when it was read")]
    Changed {
        /// At first.
        expected: u64,
        /// In the end.
        got: u64,
    },
    /// It is not the content that the caller expected.
    #[error("the file has SHA-256 {got}, expected {expected}")]
    WrongSha256 {
        /// Expected.
        expected: Sha256,
        /// What it has.
        got: Sha256,
    },
    /// It cannot be read, synced or moved.
    #[error("cannot import {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The index cannot take it. The file was moved into the store already and will be dropped at the next start, or
    /// taken over when the same content is imported again.
    #[error("cannot write the index")]
    Index(#[source] Box<redb::Error>),
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
}

/// An artifact could not be removed for good; it is no longer readable all the same.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The index could not be written.
    #[error("cannot write the index")]
    Index(#[source] Box<redb::Error>),
    /// The file could not be unlinked.
    #[error("cannot unlink the file of artifact {artifact}")]
    Io {
        /// Which artifact.
        artifact: ArtifactId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
}
