//! Hashes of pieces of one length, as download clients check them: our own chunks are cut by content and named by
//! BLAKE3, and no Metalink has a form for that.

use ring::digest::{Context, SHA256};
use sluice_model::{ArtifactId, Sha256};
use std::collections::VecDeque;
use std::sync::Arc;

/// Pieces of one artifact: their hashes take 128 KiB in memory and 400 KiB in a document.
pub const PIECES_MAX: u64 = 4_096;
/// Shortest piece; for artifacts above 4 GiB they grow.
const PIECE_BYTES_MIN: u64 = 1 << 20;

/// Every piece of an artifact, in order; only the last is shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces {
    /// Of each piece, bytes.
    pub length: u64,
    /// One a piece.
    pub sha256: Vec<Sha256>,
}

/// Hashes pieces of verified bytes as they come.
pub struct PieceHasher {
    pieces: Pieces,
    open: Context,
    open_bytes: u64,
}

impl PieceHasher {
    /// For an artifact of `length` bytes.
    pub fn new(length: u64) -> Self {
        let mut piece = PIECE_BYTES_MIN;
        while length.div_ceil(piece) > PIECES_MAX {
            piece *= 2;
        }
        let pieces = Pieces { length: piece, sha256: Vec::new() };
        Self { pieces, open: Context::new(&SHA256), open_bytes: 0 }
    }

    /// Takes the next bytes; in whatever portions. 0.5 to 3 ms a MiB.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let left = self.pieces.length - self.open_bytes;
            let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            self.open.update(now);
            self.open_bytes += now.len() as u64;
            if self.open_bytes == self.pieces.length {
                self.close();
            }
            bytes = later;
        }
    }

    /// After the last byte.
    pub fn finish(mut self) -> Pieces {
        if self.open_bytes > 0 {
            self.close();
        }
        self.pieces
    }

    fn close(&mut self) {
        let done = std::mem::replace(&mut self.open, Context::new(&SHA256)).finish();
        let mut hash = [0; 32];
        hash.copy_from_slice(done.as_ref());
        self.pieces.sha256.push(Sha256::from_bytes(hash));
        self.open_bytes = 0;
    }
}

/// Pieces that were hashed before: 64 artifacts of [`PIECES_MAX`] take 8 MiB.
const BOOK_ARTIFACTS_MAX: usize = 64;

/// The pieces of artifacts that were asked for last.
#[derive(Debug, Default)]
pub struct PieceBook(VecDeque<(ArtifactId, Arc<Pieces>)>);

impl PieceBook {
    /// Those of `artifact`. O(artifacts kept).
    pub fn get(&self, artifact: &ArtifactId) -> Option<Arc<Pieces>> {
        self.0.iter().find(|(known, _)| known == artifact).map(|(_, pieces)| Arc::clone(pieces))
    }

    /// Keeps those of `artifact`; the oldest go when there are too many.
    pub fn keep(&mut self, artifact: ArtifactId, pieces: Arc<Pieces>) {
        self.0.retain(|(known, _)| *known != artifact);
        self.0.push_back((artifact, pieces));
        if self.0.len() > BOOK_ARTIFACTS_MAX {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::digest::digest;

    #[test]
    fn the_book_forgets_what_was_kept_first() {
        let mut book = PieceBook::default();
        let artifact = |n: u8| ArtifactId::from_bytes([n; 32]);
        for n in 0..=BOOK_ARTIFACTS_MAX as u8 {
            book.keep(artifact(n), Arc::new(PieceHasher::new(1).finish()));
        }
        assert!(book.get(&artifact(0)).is_none() && book.get(&artifact(1)).is_some());
        assert_eq!(book.0.len(), BOOK_ARTIFACTS_MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn each_piece_has_the_hash_of_its_bytes_however_they_came(
            length in 0usize..3_500_000,
            portion in 1usize..2_000_000,
        ) {
            let bytes: Vec<u8> = (0..length).map(|at| ((at * 31) >> 7) as u8).collect();
            let mut hasher = PieceHasher::new(length as u64);
            bytes.chunks(portion).for_each(|portion| hasher.push(portion));
            let pieces = hasher.finish();
            let expected: Vec<String> =
                bytes.chunks(1 << 20).map(|piece| hex::encode(digest(&SHA256, piece))).collect();
            prop_assert_eq!(pieces.length, 1 << 20);
            prop_assert_eq!(pieces.sha256.iter().map(Sha256::to_hex).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn no_artifact_has_too_many_pieces(length in 0u64..64 << 30) {
            prop_assert!(length.div_ceil(PieceHasher::new(length).pieces.length) <= PIECES_MAX);
        }
    }
}
