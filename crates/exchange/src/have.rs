//! The body of a `have` reply: which chunks of an artifact a member has, which it is fetching across the WAN.
//!
//! Layout, big end first: chunk count (4 bytes), progress (8), bitmap of what is here, bitmap of what is being fetched
//! from the origin; a bitmap is `ceil(count / 8)` bytes, chunk 0 the lowest bit of the first byte, unused bits zero.
//! It is a hint from a peer: it decides whom to ask, never what to believe.

use sluice_model::limits::ARTIFACT_BYTES_MAX;

/// Smallest chunk of an artifact of the largest size: bounds the count.
const CHUNK_BYTES_MIN: u64 = 256 << 10;
/// Most chunks of an artifact: 64 GiB of 256 KiB.
pub const CHUNKS_MAX: u64 = ARTIFACT_BYTES_MAX / CHUNK_BYTES_MIN + 1;
/// Largest body: two bitmaps of 32 KiB and the head.
pub const HAVE_BYTES_MAX: u64 = HEAD_LEN as u64 + 2 * CHUNKS_MAX.div_ceil(8);

const HEAD_LEN: usize = 12;

/// Why bytes are not a `have` body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HaveError {
    /// Its length does not fit its chunk count.
    #[error("a have body of {got} bytes, expected {expected}")]
    WrongLength {
        /// What came.
        got: usize,
        /// What the count asks for.
        expected: usize,
    },
    /// More chunks than an artifact can have.
    #[error("a have body for {got} chunks")]
    TooManyChunks {
        /// What came.
        got: u32,
    },
    /// A bit beyond the last chunk is set.
    #[error("a have body with a bit beyond its last chunk")]
    StrayBit,
}

/// What one member says of one artifact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Have {
    /// Grows whenever the member received anything across the WAN: a leader that works is not stalled.
    pub progress: u64,
    /// Chunk by chunk: verified and readable there.
    pub here: Vec<bool>,
    /// Chunk by chunk: being fetched from the origin by that member.
    pub fetching: Vec<bool>,
}

impl Have {
    /// The body. `here` and `fetching` have the same length, at most [`CHUNKS_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        let count = self.here.len();
        let mut bytes = Vec::with_capacity(HEAD_LEN + 2 * count.div_ceil(8));
        bytes.extend_from_slice(&(count as u32).to_be_bytes());
        bytes.extend_from_slice(&self.progress.to_be_bytes());
        pack(&self.here, &mut bytes);
        pack(&self.fetching, &mut bytes);
        bytes
    }

    /// Reads a body.
    pub fn decode(bytes: &[u8]) -> Result<Self, HaveError> {
        let wrong_length = |expected| HaveError::WrongLength { got: bytes.len(), expected };
        let Some((head, maps)) = bytes.split_first_chunk::<HEAD_LEN>() else {
            return Err(wrong_length(HEAD_LEN));
        };
        let count = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        if u64::from(count) > CHUNKS_MAX {
            return Err(HaveError::TooManyChunks { got: count });
        }
        let map_len = (count as usize).div_ceil(8);
        if maps.len() != 2 * map_len {
            return Err(wrong_length(HEAD_LEN + 2 * map_len));
        }
        let progress = u64::from_be_bytes([head[4], head[5], head[6], head[7], head[8], head[9], head[10], head[11]]);
        let (here, fetching) = maps.split_at(map_len);
        Ok(Self { progress, here: unpack(here, count as usize)?, fetching: unpack(fetching, count as usize)? })
    }
}

fn pack(bits: &[bool], bytes: &mut Vec<u8>) {
    for eight in bits.chunks(8) {
        bytes.push(eight.iter().enumerate().fold(0, |byte, (at, bit)| byte | (u8::from(*bit) << at)));
    }
}

fn unpack(bytes: &[u8], count: usize) -> Result<Vec<bool>, HaveError> {
    let stray = bytes.last().is_some_and(|last| !count.is_multiple_of(8) && last >> (count % 8) != 0);
    if stray {
        return Err(HaveError::StrayBit);
    }
    Ok((0..count).map(|at| bytes[at / 8] >> (at % 8) & 1 == 1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_have_body_has_this_layout() {
        let here = vec![true, false, true, false, false, false, false, false, true];
        let fetching = vec![false, true, false, false, false, false, false, true, false];
        let have = Have { progress: 0x0102, here, fetching };
        let bytes = have.encode();
        assert_eq!(bytes, [0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1, 2, 0b101, 1, 0b1000_0010, 0]);
        assert_eq!(Have::decode(&bytes).unwrap(), have);
    }

    #[test]
    fn bodies_that_do_not_fit_their_count_are_refused() {
        let good = Have { progress: 0, here: vec![true; 9], fetching: vec![false; 9] }.encode();
        assert!(matches!(Have::decode(&good[..good.len() - 1]), Err(HaveError::WrongLength { .. })));
        assert!(matches!(Have::decode(&[]), Err(HaveError::WrongLength { .. })));
        let mut stray = good.clone();
        stray[13] = 0b11;
        assert_eq!(Have::decode(&stray), Err(HaveError::StrayBit));
        let mut many = good;
        many[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(Have::decode(&many), Err(HaveError::TooManyChunks { got: u32::MAX }));
    }
}
