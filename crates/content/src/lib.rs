//! What content is: how an artifact is cut into chunks, what its manifest says, which chunks are there, which bytes of
//! it an HTTP request selects ([`range`]), how that is answered ([`mod@answer`]), what download clients are told to check
//! ([`pieces`], [`metalink`]) and which nodes they are sent to ([`nearest`]).
//!
//! Pure core: no file, no socket, no clock. Bytes come as slices, answers go out as values.
//!
//! Invariants
//! - Equal bytes and equal [`ChunkerParams`] give equal cut points, however the bytes were pushed.
//! - A [`Manifest`] that exists is consistent: its chunks lie end to end and sum to the artifact's length.
//! - The bytes of a manifest were compared with the id that signed metadata gave before anything in them was read.

#![warn(missing_docs)]

pub mod answer;
mod bitmap;
mod chunker;
mod cutter;
mod manifest;
pub mod metalink;
pub mod nearest;
pub mod pieces;
pub mod range;
#[cfg(test)]
mod sample;

pub use bitmap::{Bitmap, BitmapError};
pub use chunker::{ChunkerParams, UnknownChunker};
pub use cutter::{Cut, Cutter};
pub use manifest::{HEADER_BYTES, Manifest, ManifestError, ROW_BYTES, WrongBytes};

use sluice_model::ChunkId;

/// The id of a chunk: BLAKE3 of its bytes. About 0.3 ms a MiB.
pub fn hash_chunk(bytes: &[u8]) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(bytes).as_bytes())
}
