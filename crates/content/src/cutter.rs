//! Cuts an artifact into chunks and hashes it, all in one pass over bytes that arrive in pieces of any size.
//!
//! A cut is decided only when a whole largest chunk lies in the buffer or the artifact ended, so that the decision sees
//! the same window whatever the pieces were. Memory: two largest chunks (8 MiB) and 40 bytes a chunk.

use crate::{ChunkerParams, Manifest, hash_chunk};
use fastcdc::v2020;
use sluice_model::{ArtifactId, ChunkId, Sha256, Sha512};

/// An artifact being cut.
pub struct Cutter {
    params: ChunkerParams,
    mask_strict: u64,
    mask_relaxed: u64,
    /// Bytes not yet cut are `buffer[start..]`.
    buffer: Vec<u8>,
    start: usize,
    rows: Vec<(ChunkId, u32)>,
    length: u64,
    blake3: blake3::Hasher,
    sha256: ring::digest::Context,
    sha512: ring::digest::Context,
}

/// Everything that is known of an artifact after its last byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Its chunks.
    pub manifest: Manifest,
    /// BLAKE3 of the whole.
    pub artifact: ArtifactId,
    /// SHA-256 of the whole.
    pub sha256: Sha256,
    /// SHA-512 of the whole.
    pub sha512: Sha512,
    /// Bytes.
    pub length: u64,
}

impl Cutter {
    /// Begins an artifact.
    pub fn new(params: ChunkerParams) -> Self {
        let (mask_strict, mask_relaxed) = v2020::select_masks(params.bytes_avg as usize, v2020::Normalization::Level1);
        Self {
            params,
            mask_strict,
            mask_relaxed,
            buffer: Vec::with_capacity(2 * params.bytes_max as usize),
            start: 0,
            rows: Vec::new(),
            length: 0,
            blake3: blake3::Hasher::new(),
            sha256: ring::digest::Context::new(&ring::digest::SHA256),
            sha512: ring::digest::Context::new(&ring::digest::SHA512),
        }
    }

    /// Takes the next bytes of the artifact. About 2 ms a MiB, hashing included.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.blake3.update_rayon(bytes);
        self.sha256.update(bytes);
        self.sha512.update(bytes);
        while !bytes.is_empty() {
            if self.buffer.len() == self.buffer.capacity() {
                // Less than one largest chunk is left here, because a whole one would have been cut.
                self.buffer.drain(..self.start);
                self.start = 0;
            }
            let room = self.buffer.capacity() - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            while self.buffer.len() - self.start >= self.params.bytes_max as usize {
                self.cut_one();
            }
        }
    }

    /// How many bytes were pushed so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Ends the artifact.
    pub fn finish(mut self) -> Cut {
        while self.start < self.buffer.len() {
            self.cut_one();
        }
        let artifact = ArtifactId::from_bytes(*self.blake3.finalize().as_bytes());
        let sha256 = self.sha256.finish().as_ref().try_into().expect("SHA-256 has 32 bytes");
        let sha512 = self.sha512.finish().as_ref().try_into().expect("SHA-512 has 64 bytes");
        Cut {
            manifest: Manifest::of_rows(self.params, artifact, self.rows),
            artifact,
            sha256: Sha256::from_bytes(sha256),
            sha512: Sha512::from_bytes(sha512),
            length: self.length,
        }
    }

    fn cut_one(&mut self) {
        let window = &self.buffer[self.start..];
        let (_, length) = v2020::cut(
            window,
            self.params.bytes_min as usize,
            self.params.bytes_avg as usize,
            self.params.bytes_max as usize,
            self.mask_strict,
            self.mask_relaxed,
            self.mask_strict << 1,
            self.mask_relaxed << 1,
        );
        self.rows.push((hash_chunk(&window[..length]), length as u32));
        self.start += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that every reader of the format can make again: splitmix64 from `seed`, little end first.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed;
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

    fn cut(bytes: &[u8], params: ChunkerParams) -> Cut {
        let mut cutter = Cutter::new(params);
        cutter.push(bytes);
        cutter.finish()
    }

    fn lengths(cut: &Cut) -> Vec<u64> {
        (0..cut.manifest.chunk_count())
            .map(|idx| cut.manifest.range(idx))
            .map(|range| range.end - range.start)
            .collect()
    }

    #[test]
    fn cut_points_ids_and_manifest_bytes_are_the_format() {
        let small = cut(&noise(1, 2_000_003), ChunkerParams::for_length(2_000_003));
        assert_eq!(lengths(&small), GOLDEN_SMALL_LENGTHS);
        assert_eq!(small.artifact.to_hex(), GOLDEN_SMALL_ARTIFACT);
        assert_eq!(small.sha256.to_hex(), GOLDEN_SMALL_SHA256);
        assert_eq!(small.manifest.id().to_hex(), GOLDEN_SMALL_MANIFEST);
        let large = cut(&noise(2, 20_000_001), ChunkerParams::for_length(20_000_001));
        assert_eq!(lengths(&large), GOLDEN_LARGE_LENGTHS);
        assert_eq!(large.manifest.id().to_hex(), GOLDEN_LARGE_MANIFEST);
    }

    const GOLDEN_SMALL_LENGTHS: &[u64] = &[278755, 88644, 296107, 404445, 750279, 181773];
    const GOLDEN_SMALL_ARTIFACT: &str = "96dd00062275d4700132aea19e5f5e104fd89e2b4a2ff4789d3ab7aa8ffe822f";
    const GOLDEN_SMALL_SHA256: &str = "d44f46c8b6c061ecd62d78a0da7b3134cc62383ebeea304e2d9d7e876a0d7ce3";
    const GOLDEN_SMALL_MANIFEST: &str = "a5012033d2a96d8dede2037793e6166d69ef3a49791559efafb0d97290c73f6b";
    const GOLDEN_LARGE_LENGTHS: &[u64] = &[
        1261617, 2820679, 1568514, 804029, 931142, 1241598, 1383699, 1197459, 1376132, 1273593, 1895610, 1133593,
        609476, 647380, 933840, 669054, 252586,
    ];
    const GOLDEN_LARGE_MANIFEST: &str = "c946c0269ba8afb5c51fdb6ff9d7f4e326e5afc1174e1a6e488e6cdaae6bb756";

    #[test]
    fn the_streaming_cutter_cuts_where_the_library_cuts_a_whole_slice() {
        for (params, length) in [(ChunkerParams::SMALL, 9_000_001), (ChunkerParams::LARGE, 30_000_000)] {
            let bytes = noise(3, length);
            let whole: Vec<u64> = v2020::FastCDC::new(
                &bytes,
                params.bytes_min as usize,
                params.bytes_avg as usize,
                params.bytes_max as usize,
            )
            .map(|chunk| chunk.length as u64)
            .collect();
            assert_eq!(lengths(&cut(&bytes, params)), whole);
        }
    }

    #[test]
    fn an_insertion_near_the_front_leaves_the_later_chunks_as_they_were() {
        let before = noise(4, 6 << 20);
        let mut after = before.clone();
        after.splice(100_000..100_000, *b"one more line\n");
        let ids = |bytes: &[u8]| {
            let manifest = cut(bytes, ChunkerParams::SMALL).manifest;
            (0..manifest.chunk_count()).map(|idx| manifest.chunk_id(idx)).collect::<std::collections::HashSet<_>>()
        };
        let (before, after) = (ids(&before), ids(&after));
        assert!(before.intersection(&after).count() + 3 >= before.len());
    }

    #[test]
    fn an_artifact_without_bytes_has_no_chunks_and_the_hashes_of_nothing() {
        let cut = Cutter::new(ChunkerParams::SMALL).finish();
        assert_eq!((cut.length, cut.manifest.chunk_count()), (0, 0));
        assert_eq!(cut.sha256.to_hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn bytes_that_never_offer_a_cut_become_largest_chunks() {
        let cut = cut(&vec![0; (5 << 19) + 7], ChunkerParams::SMALL);
        assert_eq!(lengths(&cut), [1 << 20, 1 << 20, (1 << 19) + 7]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn the_cut_does_not_depend_on_how_the_bytes_were_pushed(
            seed in any::<u64>(),
            length in 0usize..5_000_000,
            pieces in proptest::collection::vec(1usize..3_000_000, 1..12),
        ) {
            let bytes = noise(seed, length);
            let mut cutter = Cutter::new(ChunkerParams::SMALL);
            let mut rest = &bytes[..];
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at((*piece).min(rest.len()));
                cutter.push(now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(cutter.finish(), cut(&bytes, ChunkerParams::SMALL));
        }
    }
}
