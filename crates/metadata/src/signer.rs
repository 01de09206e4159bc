//! Ed25519 keys: signs bytes, and reads and writes key files (PKCS#8 v1 PEM, which OpenSSL 3.0 reads too).

use std::fmt;
use zeroize::Zeroizing;

/// The id of a key: SHA-256 of its canonical JSON, lower-case hex.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) String);

/// A key that signs. Its secret is wiped when it is dropped; `Debug` prints the key id only.
#[derive(Clone)]
pub struct Signer {
    key: ed25519_dalek::SigningKey,
}

/// Why a key file was refused. The text of the file is never part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 private key in PKCS#8 PEM")]
pub struct KeyFileError;

/// The signature does not verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl Signer {
    /// The key of a seed: 32 bytes from the system's random source.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { key: ed25519_dalek::SigningKey::from_bytes(&seed) }
    }

    /// Reads PKCS#8 PEM, version 1 or 2.
    pub fn from_pkcs8_pem(_pem: &str) -> Result<Self, KeyFileError> {
        todo!()
    }

    /// Writes PKCS#8 version 1 PEM.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        todo!()
    }

    /// The seed, for libraries that take the key themselves (libp2p).
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes())
    }

    /// The public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// Its TUF key id.
    pub fn key_id(&self) -> KeyId {
        todo!()
    }

    /// Signs the bytes as they are.
    pub fn sign(&self, _bytes: &[u8]) -> [u8; 64] {
        todo!()
    }

    /// Signs `sluice/<purpose>/1\0` and the bytes, so that a signature for one purpose is worth nothing for another.
    pub fn sign_purpose(&self, _purpose: &str, _bytes: &[u8]) -> [u8; 64] {
        todo!()
    }
}

/// Checks a signature of [`Signer::sign_purpose`].
pub fn verify_purpose(_key: &[u8; 32], _purpose: &str, _bytes: &[u8], _signature: &[u8]) -> Result<(), BadSignature> {
    todo!()
}

impl KeyId {
    /// Lower-case hex.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("key_id", &self.key_id()).finish_non_exhaustive()
    }
}
