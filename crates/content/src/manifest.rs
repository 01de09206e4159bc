//! The manifest: the ordered list of an artifact's chunks, and its bytes.
//!
//! Layout, big end first: `SLMF`, version 1, chunker code, two zero bytes, artifact id (32), artifact length (u64),
//! chunk count (u32); then for each chunk its id (32) and length (u32). Its name is the BLAKE3 of these bytes, which
//! signed metadata gives; nothing of them is read before that was compared.

use crate::{ChunkerParams, UnknownChunker, hash_chunk};
use sluice_model::limits::{ARTIFACT_BYTES_MAX, MANIFEST_BYTES_MAX};
use sluice_model::{ArtifactId, ChunkId, ManifestId, ManifestRef};
use std::ops::Range;

/// Bytes before the first row.
pub const HEADER_BYTES: usize = 52;
/// Bytes of a row.
pub const ROW_BYTES: usize = 36;
const MAGIC: [u8; 4] = *b"SLMF";
const VERSION: u8 = 1;

/// The chunks of an artifact, in order, end to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    params: ChunkerParams,
    artifact: ArtifactId,
    chunks: Vec<ChunkId>,
    /// Where each chunk ends; so the last is the artifact's length.
    ends: Vec<u64>,
}

/// Why bytes are not the manifest that signed metadata names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than any manifest or artifact may be.
    #[error("{what} of {bytes} bytes exceeds the bound of {bytes_max}")]
    TooLarge {
        /// `a manifest` or `an artifact`.
        what: &'static str,
        /// How long it says it is.
        bytes: u64,
        /// How long it may be.
        bytes_max: u64,
    },
    /// Not the promised number of bytes.
    #[error("the manifest has {got} bytes, signed metadata says {expected}")]
    WrongLength {
        /// Promised.
        expected: u64,
        /// Received.
        got: u64,
    },
    /// Not the promised bytes.
    #[error("the manifest's hash is {got}, signed metadata says {expected}")]
    WrongHash {
        /// Promised.
        expected: ManifestId,
        /// Received.
        got: ManifestId,
    },
    /// Cut in a way that this program does not know.
    #[error(transparent)]
    UnknownChunker(#[from] UnknownChunker),
    /// The right bytes, but they break a rule of the format.
    #[error("the manifest is malformed: {0}")]
    Malformed(&'static str),
}

/// Bytes that are not those of the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chunk {idx} should be {expected}, the bytes are {got}")]
pub struct WrongBytes {
    /// Which chunk.
    pub idx: u32,
    /// What the manifest says; all zeros when it has no such chunk.
    pub expected: ChunkId,
    /// What came.
    pub got: ChunkId,
}

impl Manifest {
    /// The manifest of chunks that were just cut.
    pub(crate) fn of_rows(params: ChunkerParams, artifact: ArtifactId, rows: Vec<(ChunkId, u32)>) -> Self {
        let mut end = 0;
        let ends = rows.iter().map(|(_, length)| {
            end += u64::from(*length);
            end
        });
        let ends = ends.collect();
        Self { params, artifact, chunks: rows.into_iter().map(|(id, _)| id).collect(), ends }
    }

    /// Reads the manifest that `reference` names, of an artifact of `artifact_length` bytes. Allocates 40 bytes for each
    /// chunk, and only after length and hash were right.
    pub fn decode(bytes: &[u8], reference: &ManifestRef, artifact_length: u64) -> Result<Self, ManifestError> {
        check_size("a manifest", reference.length, MANIFEST_BYTES_MAX)?;
        if bytes.len() as u64 != reference.length {
            return Err(ManifestError::WrongLength { expected: reference.length, got: bytes.len() as u64 });
        }
        let got = ManifestId::from_bytes(*blake3::hash(bytes).as_bytes());
        if got != reference.blake3 {
            return Err(ManifestError::WrongHash { expected: reference.blake3, got });
        }
        let params: ChunkerParams = reference.chunker.parse()?;
        let manifest = Self::decode_trusted(bytes)?;
        if manifest.params != params {
            return Err(ManifestError::Malformed("it names another chunker than signed metadata"));
        }
        if manifest.length() != artifact_length {
            return Err(ManifestError::Malformed("its chunks do not sum to the artifact's length"));
        }
        Ok(manifest)
    }

    /// Reads bytes whose origin was checked before, for instance those that this program stored. Every rule of the format
    /// is checked all the same; never panics.
    pub fn decode_trusted(bytes: &[u8]) -> Result<Self, ManifestError> {
        check_size("a manifest", bytes.len() as u64, MANIFEST_BYTES_MAX)?;
        let (header, rows) =
            bytes.split_at_checked(HEADER_BYTES).ok_or(ManifestError::Malformed("it ends within the header"))?;
        if header[..4] != MAGIC || header[4] != VERSION || header[6..8] != [0, 0] {
            return Err(ManifestError::Malformed("it does not begin with SLMF and version 1"));
        }
        let params = ChunkerParams::of_code(header[5]).ok_or(ManifestError::Malformed("its chunker has no name"))?;
        let artifact = ArtifactId::from_bytes(array(&header[8..40]));
        let length = u64::from_be_bytes(array(&header[40..48]));
        let count = u32::from_be_bytes(array(&header[48..52])) as usize;
        check_size("an artifact", length, ARTIFACT_BYTES_MAX)?;
        if rows.len() != count * ROW_BYTES {
            return Err(ManifestError::Malformed("its rows are not as many as it says"));
        }
        let (mut chunks, mut ends, mut end) = (Vec::with_capacity(count), Vec::with_capacity(count), 0u64);
        for (idx, row) in rows.chunks_exact(ROW_BYTES).enumerate() {
            let chunk_length = u32::from_be_bytes(array(&row[32..]));
            let bytes_min = if idx + 1 == count { 1 } else { params.bytes_min };
            if !(bytes_min..=params.bytes_max).contains(&chunk_length) {
                return Err(ManifestError::Malformed("a chunk is smaller or larger than its chunker allows"));
            }
            end += u64::from(chunk_length);
            chunks.push(ChunkId::from_bytes(array(&row[..32])));
            ends.push(end);
        }
        if end != length {
            return Err(ManifestError::Malformed("its chunks do not sum to its length"));
        }
        Ok(Self { params, artifact, chunks, ends })
    }

    /// Its bytes: one form only, so that equal manifests have equal ids.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.chunks.len() * ROW_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, self.params.code(), 0, 0]);
        bytes.extend_from_slice(self.artifact.as_bytes());
        bytes.extend_from_slice(&self.length().to_be_bytes());
        bytes.extend_from_slice(&self.chunk_count().to_be_bytes());
        for idx in 0..self.chunk_count() {
            bytes.extend_from_slice(self.chunk_id(idx).as_bytes());
            bytes.extend_from_slice(&self.chunk_length(idx).to_be_bytes());
        }
        bytes
    }

    /// BLAKE3 of [`Self::encode`]. Costs the encoding: keep the answer.
    pub fn id(&self) -> ManifestId {
        ManifestId::from_bytes(*blake3::hash(&self.encode()).as_bytes())
    }

    /// Name, length and chunker, as signed metadata carries them.
    pub fn reference(&self) -> ManifestRef {
        let length = (HEADER_BYTES + self.chunks.len() * ROW_BYTES) as u64;
        ManifestRef { blake3: self.id(), length, chunker: self.params.to_string() }
    }

    /// The artifact.
    pub fn artifact(&self) -> ArtifactId {
        self.artifact
    }

    /// How it was cut.
    pub fn params(&self) -> ChunkerParams {
        self.params
    }

    /// Bytes of the artifact.
    pub fn length(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// How many chunks it has.
    pub fn chunk_count(&self) -> u32 {
        self.chunks.len() as u32
    }

    /// The id of chunk `idx`, which must be less than [`Self::chunk_count`].
    pub fn chunk_id(&self, idx: u32) -> ChunkId {
        self.chunks[idx as usize]
    }

    /// Where chunk `idx` lies in the artifact; `idx` must be less than [`Self::chunk_count`].
    pub fn range(&self, idx: u32) -> Range<u64> {
        let start = if idx == 0 { 0 } else { self.ends[idx as usize - 1] };
        start..self.ends[idx as usize]
    }

    /// Bytes of chunk `idx`; `idx` must be less than [`Self::chunk_count`].
    pub fn chunk_length(&self, idx: u32) -> u32 {
        let range = self.range(idx);
        (range.end - range.start) as u32
    }

    /// The chunk that holds the byte at `offset`; `None` behind the end. O(log chunks).
    pub fn chunk_at(&self, offset: u64) -> Option<u32> {
        let idx = self.ends.partition_point(|end| *end <= offset);
        (idx < self.ends.len()).then_some(idx as u32)
    }

    /// Whether `bytes` are chunk `idx`. Total: an index behind the end is wrong, too.
    pub fn verify(&self, idx: u32, bytes: &[u8]) -> Result<(), WrongBytes> {
        let got = hash_chunk(bytes);
        let expected = self.chunks.get(idx as usize).copied();
        if expected == Some(got) {
            return Ok(());
        }
        Err(WrongBytes { idx, expected: expected.unwrap_or(ChunkId::from_bytes([0; 32])), got })
    }
}

fn check_size(what: &'static str, bytes: u64, bytes_max: u64) -> Result<(), ManifestError> {
    if bytes > bytes_max { Err(ManifestError::TooLarge { what, bytes, bytes_max }) } else { Ok(()) }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller sliced N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cutter;
    use proptest::prelude::*;

    fn sample() -> Manifest {
        let rows = vec![
            (ChunkId::from_bytes([1; 32]), 65_536),
            (ChunkId::from_bytes([2; 32]), 1 << 20),
            (ChunkId::from_bytes([3; 32]), 5),
        ];
        Manifest::of_rows(ChunkerParams::SMALL, ArtifactId::from_bytes([9; 32]), rows)
    }

    fn named(bytes: &[u8]) -> ManifestRef {
        ManifestRef {
            blake3: ManifestId::from_bytes(*blake3::hash(bytes).as_bytes()),
            length: bytes.len() as u64,
            chunker: "fastcdc-2020/64K-256K-1M".to_owned(),
        }
    }

    #[test]
    fn the_bytes_of_a_manifest_are_the_format() {
        let expected = [
            "534c4d4601010000".to_owned(),
            "09".repeat(32),
            "000000000011000500000003".to_owned(),
            format!("{}00010000", "01".repeat(32)),
            format!("{}00100000", "02".repeat(32)),
            format!("{}00000005", "03".repeat(32)),
        ];
        let bytes = sample().encode();
        assert_eq!(hex::encode(&bytes), expected.concat());
        assert_eq!(bytes.len() as u64, sample().reference().length);
        assert_eq!(Manifest::decode(&bytes, &sample().reference(), 1_114_117), Ok(sample()));
    }

    #[test]
    fn a_manifest_is_refused_before_it_is_read_when_it_is_not_the_promised_one() {
        let bytes = sample().encode();
        let mut reference = sample().reference();
        reference.length = MANIFEST_BYTES_MAX + 1;
        assert!(matches!(Manifest::decode(&bytes, &reference, 1_114_117), Err(ManifestError::TooLarge { .. })));
        assert!(matches!(
            Manifest::decode(&bytes[1..], &sample().reference(), 1_114_117),
            Err(ManifestError::WrongLength { .. })
        ));
        let mut flipped = bytes.clone();
        flipped[60] ^= 1;
        assert!(matches!(
            Manifest::decode(&flipped, &sample().reference(), 1_114_117),
            Err(ManifestError::WrongHash { .. })
        ));
        assert!(matches!(Manifest::decode(&bytes, &sample().reference(), 1_114_118), Err(ManifestError::Malformed(_))));
        let other = ManifestRef { chunker: "fastcdc-2020/256K-1M-4M".to_owned(), ..sample().reference() };
        assert!(matches!(Manifest::decode(&bytes, &other, 1_114_117), Err(ManifestError::Malformed(_))));
    }

    #[test]
    fn a_manifest_with_a_chunk_out_of_bounds_or_a_wrong_sum_is_malformed() {
        let check = |offset: usize, value: u32| {
            let mut bytes = sample().encode();
            bytes[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
            let reference = named(&bytes);
            assert!(
                matches!(
                    Manifest::decode(&bytes, &reference, 1_114_117),
                    Err(ManifestError::Malformed(_) | ManifestError::TooLarge { .. })
                ),
                "{offset} {value}"
            );
        };
        let first_length = HEADER_BYTES + 32;
        check(first_length, 65_535);
        check(first_length, (1 << 20) + 1);
        check(first_length, u32::MAX);
        check(first_length + 2 * ROW_BYTES, 0);
        check(first_length + 2 * ROW_BYTES, 6);
        check(48, 4);
        check(48, u32::MAX);
        check(40, u32::MAX);
        check(4, 0);
    }

    #[test]
    fn the_chunk_of_an_offset_is_the_one_whose_range_holds_it() {
        let manifest = sample();
        for (offset, idx) in
            [(0, Some(0)), (65_535, Some(0)), (65_536, Some(1)), (1_114_116, Some(2)), (1_114_117, None)]
        {
            assert_eq!(manifest.chunk_at(offset), idx, "{offset}");
        }
        assert_eq!(manifest.range(1), 65_536..1_114_112);
    }

    #[test]
    fn bytes_verify_only_as_the_chunk_that_they_are() {
        let mut cutter = Cutter::new(ChunkerParams::SMALL);
        cutter.push(b"payload");
        let manifest = cutter.finish().manifest;
        assert_eq!(manifest.verify(0, b"payload"), Ok(()));
        assert!(manifest.verify(0, b"Payload").is_err());
        assert!(manifest.verify(1, b"payload").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            offset in 0usize..160,
        ) {
            let _ = Manifest::decode_trusted(&bytes);
            let mut damaged = sample().encode();
            for (to, from) in damaged[offset.min(100)..].iter_mut().zip(&bytes) {
                *to = *from;
            }
            let reference = named(&damaged);
            if let Ok(manifest) = Manifest::decode(&damaged, &reference, 1_114_117) {
                prop_assert_eq!(manifest.encode(), damaged);
            }
        }
    }
}
