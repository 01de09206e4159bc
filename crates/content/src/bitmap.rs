//! Which chunks of an artifact are there: one bit each.

/// A fixed number of bits, one a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    len: u32,
    ones: u32,
}

/// Why bytes are not a bitmap of the expected length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BitmapError {
    /// Too few or too many bytes.
    #[error("a bitmap of {bits} bits has {expected} bytes, not {got}")]
    WrongLength {
        /// How many bits were expected.
        bits: u32,
        /// How many bytes these take.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// A bit behind the end is set.
    #[error("a bit behind the end of the bitmap is set")]
    BitBehindEnd,
}

impl Bitmap {
    /// `len` bits, none set.
    pub fn empty(len: u32) -> Self {
        Self { words: vec![0; (len as usize).div_ceil(64)], len, ones: 0 }
    }

    /// `len` bits, all set.
    pub fn full(len: u32) -> Self {
        let mut bitmap = Self::empty(len);
        for idx in 0..len {
            bitmap.set(idx);
        }
        bitmap
    }

    /// How many bits it has.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it has no bits at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many are set.
    pub fn count(&self) -> u32 {
        self.ones
    }

    /// Whether all are set.
    pub fn is_complete(&self) -> bool {
        self.ones == self.len
    }

    /// Whether bit `idx` is set; behind the end none is.
    pub fn has(&self, idx: u32) -> bool {
        idx < self.len && self.words[idx as usize / 64] >> (idx % 64) & 1 == 1
    }

    /// Sets bit `idx`; true when it was not set. Nothing happens behind the end.
    pub fn set(&mut self, idx: u32) -> bool {
        let is_new = idx < self.len && !self.has(idx);
        if is_new {
            self.words[idx as usize / 64] |= 1 << (idx % 64);
            self.ones += 1;
        }
        is_new
    }

    /// Clears bit `idx`; true when it was set.
    pub fn clear(&mut self, idx: u32) -> bool {
        let was_set = self.has(idx);
        if was_set {
            self.words[idx as usize / 64] &= !(1 << (idx % 64));
            self.ones -= 1;
        }
        was_set
    }

    /// The set bits, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len).filter(|idx| self.has(*idx))
    }

    /// The bits that are not set, ascending.
    pub fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len).filter(|idx| !self.has(*idx))
    }

    /// One bit a chunk, bit 0 lowest in the first byte; the length is not part of it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate((self.len as usize).div_ceil(8));
        bytes
    }

    /// Reads `len` bits.
    pub fn decode(len: u32, bytes: &[u8]) -> Result<Self, BitmapError> {
        let expected = (len as usize).div_ceil(8);
        if bytes.len() != expected {
            return Err(BitmapError::WrongLength { bits: len, expected, got: bytes.len() });
        }
        let mut words = vec![0u64; (len as usize).div_ceil(64)];
        for (at, byte) in bytes.iter().enumerate() {
            words[at / 8] |= u64::from(*byte) << (at % 8 * 8);
        }
        let used = len % 64;
        if used != 0 && words.last().is_some_and(|last| last >> used != 0) {
            return Err(BitmapError::BitBehindEnd);
        }
        let ones = words.iter().map(|word| word.count_ones()).sum();
        Ok(Self { words, len, ones })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bit_behind_the_end_is_refused_and_never_set() {
        assert_eq!(Bitmap::decode(3, &[0b1000]), Err(BitmapError::BitBehindEnd));
        assert!(matches!(Bitmap::decode(9, &[0]), Err(BitmapError::WrongLength { .. })));
        let mut bitmap = Bitmap::full(3);
        assert!(bitmap.is_complete() && !bitmap.set(3) && !bitmap.has(3));
        assert!(Bitmap::empty(0).is_complete());
    }

    proptest! {
        #[test]
        fn a_bitmap_is_a_set_of_numbers_and_survives_its_bytes(
            len in 1u32..300,
            steps in proptest::collection::vec((any::<bool>(), 0u32..310), 0..200),
        ) {
            let mut bitmap = Bitmap::empty(len);
            let mut model = std::collections::BTreeSet::new();
            for (set, idx) in steps {
                if set {
                    prop_assert_eq!(bitmap.set(idx), idx < len && model.insert(idx));
                } else {
                    prop_assert_eq!(bitmap.clear(idx), model.remove(&idx));
                }
            }
            prop_assert_eq!(bitmap.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(bitmap.count() as usize, model.len());
            prop_assert_eq!(bitmap.missing().count(), len as usize - model.len());
            prop_assert_eq!(Bitmap::decode(len, &bitmap.encode()), Ok(bitmap));
        }
    }
}
