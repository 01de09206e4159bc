//! Which chunk sizes an artifact gets. The parameters are part of the format: they stand in every manifest, and only
//! the sets listed here are accepted.

use sluice_model::limits::CHUNK_BYTES_MAX;
use std::fmt;
use std::str::FromStr;

/// Artifacts from this length on get the large chunks: below it, 1 MiB chunks would leave too few to share among peers.
const LARGE_FROM_BYTES: u64 = 16 << 20;

/// Sizes of FastCDC v2020 with normalisation level 1, in bytes, all even.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkerParams {
    /// No chunk but the last is smaller.
    pub bytes_min: u32,
    /// What most chunks come near.
    pub bytes_avg: u32,
    /// No chunk is larger.
    pub bytes_max: u32,
}

/// The chunker that signed metadata names is not one of [`ChunkerParams::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chunker {0:?} is not known here")]
pub struct UnknownChunker(pub String);

impl ChunkerParams {
    /// 64 KiB to 1 MiB, 256 KiB on average.
    pub const SMALL: Self = Self { bytes_min: 64 << 10, bytes_avg: 256 << 10, bytes_max: 1 << 20 };
    /// 256 KiB to 4 MiB, 1 MiB on average.
    pub const LARGE: Self = Self { bytes_min: 256 << 10, bytes_avg: 1 << 20, bytes_max: CHUNK_BYTES_MAX };
    /// Every accepted set.
    pub const ALL: [Self; 2] = [Self::SMALL, Self::LARGE];

    /// The sizes for an artifact of `artifact_bytes`.
    pub const fn for_length(artifact_bytes: u64) -> Self {
        if artifact_bytes < LARGE_FROM_BYTES { Self::SMALL } else { Self::LARGE }
    }

    /// The byte that stands for it in an encoded manifest.
    pub(crate) fn code(self) -> u8 {
        if self == Self::SMALL { 1 } else { 2 }
    }

    /// The set that the byte in an encoded manifest stands for.
    pub(crate) fn of_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::SMALL),
            2 => Some(Self::LARGE),
            _ => None,
        }
    }
}

/// As signed metadata writes it: `fastcdc-2020/64K-256K-1M`.
impl fmt::Display for ChunkerParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if *self == Self::SMALL { "fastcdc-2020/64K-256K-1M" } else { "fastcdc-2020/256K-1M-4M" })
    }
}

impl FromStr for ChunkerParams {
    type Err = UnknownChunker;

    fn from_str(text: &str) -> Result<Self, UnknownChunker> {
        let known = Self::ALL.into_iter().find(|params| params.to_string() == text);
        known.ok_or_else(|| UnknownChunker(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_chunker_is_read_back_and_others_are_refused() {
        for params in ChunkerParams::ALL {
            assert_eq!(params.to_string().parse(), Ok(params));
            assert_eq!(ChunkerParams::of_code(params.code()), Some(params));
        }
        for text in ["", "fastcdc-2020", "fastcdc-2016/64K-256K-1M", "fastcdc-2020/64K-256K-2M"] {
            assert!(text.parse::<ChunkerParams>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn sixteen_mebibytes_are_the_first_length_with_large_chunks() {
        assert_eq!(ChunkerParams::for_length(0), ChunkerParams::SMALL);
        assert_eq!(ChunkerParams::for_length((16 << 20) - 1), ChunkerParams::SMALL);
        assert_eq!(ChunkerParams::for_length(16 << 20), ChunkerParams::LARGE);
    }
}
