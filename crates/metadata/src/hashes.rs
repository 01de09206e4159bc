//! What signed metadata says that bytes must hash to.

use crate::json::sha256;
use sluice_model::Sha256;

/// Our own repository names exactly a SHA-256; foreign ones name either, both, or for metadata files none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hashes {
    pub(crate) sha256: Option<Sha256>,
    pub(crate) sha512: Option<[u8; 64]>,
}

impl Hashes {
    pub(crate) fn of_sha256(sha256: Sha256) -> Self {
        Self { sha256: Some(sha256), sha512: None }
    }

    /// Whether no hash is named that could be checked.
    pub fn is_empty(&self) -> bool {
        self.sha256.is_none() && self.sha512.is_none()
    }

    /// In lower-case hex, as consistent snapshots put it before a target's name: SHA-256 where it is known.
    pub fn to_hex(&self) -> Option<String> {
        self.sha256.map(|hash| hash.to_hex()).or_else(|| self.sha512.map(hex::encode))
    }

    /// Whether both name a hash of one kind, and not the same.
    pub(crate) fn contradict(&self, other: &Self) -> bool {
        self.sha256.zip(other.sha256).is_some_and(|(one, other)| one != other)
            || self.sha512.zip(other.sha512).is_some_and(|(one, other)| one != other)
    }

    /// Whether the bytes have every hash that is named. True when none is.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        self.is_of_hashed(&sha256(bytes), bytes)
    }

    /// As [`Hashes::is_of`], for bytes whose SHA-256 is known.
    pub(crate) fn is_of_hashed(&self, known: &Sha256, bytes: &[u8]) -> bool {
        self.sha256.is_none_or(|expected| expected == *known)
            && self
                .sha512
                .is_none_or(|expected| ring::digest::digest(&ring::digest::SHA512, bytes).as_ref() == expected)
    }
}

/// Hashes a stream of bytes for [`Hashes`].
pub struct Hasher {
    sha256: ring::digest::Context,
    sha512: ring::digest::Context,
    length: u64,
}

impl Default for Hasher {
    fn default() -> Self {
        let context = ring::digest::Context::new;
        Self { sha256: context(&ring::digest::SHA256), sha512: context(&ring::digest::SHA512), length: 0 }
    }
}

impl Hasher {
    /// Takes the next part.
    pub fn update(&mut self, part: &[u8]) {
        self.sha256.update(part);
        self.sha512.update(part);
        self.length += part.len() as u64;
    }

    /// Bytes taken so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether the bytes have every hash that is named, and at least one is.
    pub fn is_as_in(self, hashes: &Hashes) -> bool {
        let sha256 = self.sha256.finish();
        let sha512 = self.sha512.finish();
        !hashes.is_empty()
            && hashes.sha256.is_none_or(|expected| expected.as_bytes()[..] == *sha256.as_ref())
            && hashes.sha512.is_none_or(|expected| expected[..] == *sha512.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(bytes: &[u8]) -> Hashes {
        let sha512 = ring::digest::digest(&ring::digest::SHA512, bytes);
        Hashes { sha256: Some(sha256(bytes)), sha512: Some(sha512.as_ref().try_into().unwrap()) }
    }

    #[test]
    fn every_named_hash_counts() {
        let right = hashes(b"bytes");
        assert!(right.is_of(b"bytes"));
        let other = hashes(b"other");
        for wrong in [Hashes { sha256: other.sha256, ..right }, Hashes { sha512: other.sha512, ..right }] {
            assert!(!wrong.is_of(b"bytes"));
            let mut hasher = Hasher::default();
            hasher.update(b"by");
            hasher.update(b"tes");
            assert_eq!(hasher.length(), 5);
            assert!(!hasher.is_as_in(&wrong));
        }
        let mut hasher = Hasher::default();
        hasher.update(b"bytes");
        assert!(hasher.is_as_in(&right));
        assert!(!Hasher::default().is_as_in(&Hashes::default()), "no hash proves nothing");
    }
}
