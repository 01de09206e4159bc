//! Ed25519 keys: signs bytes, and reads and writes key files (PKCS#8 v1 PEM, which OpenSSL 3.0 reads too).

use crate::json::sha256;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes, spki::der::pem::LineEnding};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use pkcs8::pkcs5::pbes2;
use pkcs8::spki::{DecodePublicKey, EncodePublicKey};
use std::fmt;
use zeroize::Zeroizing;

/// The id of a key: SHA-256 of its canonical JSON, lower-case hex.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) String);

/// A key that signs. Its secret is wiped when it is dropped; `Debug` prints the key id only.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
}

/// Why a key file was refused. The text of the file is never part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 private key in PKCS#8 PEM")]
pub struct KeyFileError;

/// Why an encrypted key file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncryptedKeyError {
    /// Not encrypted with a method that this program reads.
    #[error("not an encrypted private key in PKCS#8 PEM (PBES2 with PBKDF2 or scrypt, and AES)")]
    Unreadable,
    /// It decrypts to nothing.
    #[error("the passphrase is wrong, or the file is damaged")]
    WrongPassphrase,
    /// It decrypts to another kind of key.
    #[error("the file holds no Ed25519 key")]
    OtherKey,
}

/// Rounds of PBKDF2 (OWASP, 2023, for HMAC-SHA-256): a third of a second for each guess. Not scrypt, as its usual cost
/// asks for more memory than OpenSSL 3.0 grants.
const PBKDF2_ROUNDS: u32 = 600_000;
/// What an encrypted key file begins with.
const ENCRYPTED_LABEL: &str = "ENCRYPTED PRIVATE KEY";

/// The signature does not verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

impl Signer {
    /// The key of a seed: 32 bytes from the system's random source.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self { key: SigningKey::from_bytes(&seed) }
    }

    /// Reads PKCS#8 PEM, version 1 or 2.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyFileError> {
        SigningKey::from_pkcs8_pem(pem).map(|key| Self { key }).map_err(|_| KeyFileError)
    }

    /// Writes PKCS#8 version 1 PEM.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        let pair = KeypairBytes { secret_key: self.key.to_bytes(), public_key: None };
        pair.to_pkcs8_pem(LineEnding::LF).expect("32 bytes always fit into PKCS#8")
    }

    /// Whether a key file asks for a passphrase.
    pub fn is_encrypted_pem(pem: &str) -> bool {
        pem.contains(ENCRYPTED_LABEL)
    }

    /// Reads encrypted PKCS#8 PEM. Takes as long as its author chose, a third of a second for ours.
    pub fn from_encrypted_pem(pem: &str, passphrase: &[u8]) -> Result<Self, EncryptedKeyError> {
        let (label, document) = pkcs8::Document::from_pem(pem).map_err(|_| EncryptedKeyError::Unreadable)?;
        if label != ENCRYPTED_LABEL {
            return Err(EncryptedKeyError::Unreadable);
        }
        let sealed = pkcs8::EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
            .map_err(|_| EncryptedKeyError::Unreadable)?;
        let der = sealed.decrypt(passphrase).map_err(|_| EncryptedKeyError::WrongPassphrase)?;
        SigningKey::from_pkcs8_der(der.as_bytes()).map(|key| Self { key }).map_err(|_| EncryptedKeyError::OtherKey)
    }

    /// Writes PKCS#8 version 1, encrypted with AES-256-CBC under PBKDF2, as PEM that OpenSSL 3.0 reads too. `salt` and
    /// `iv` are fresh random bytes.
    pub fn to_encrypted_pem(&self, passphrase: &[u8], salt: &[u8; 16], iv: [u8; 16]) -> Zeroizing<String> {
        let params = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(PBKDF2_ROUNDS, salt, iv)
            .expect("a salt of 16 bytes and these rounds are within bounds");
        let pair = KeypairBytes { secret_key: self.key.to_bytes(), public_key: None };
        let der = pair.to_pkcs8_der().expect("32 bytes always fit into PKCS#8");
        let info = pkcs8::PrivateKeyInfoRef::try_from(der.as_bytes()).expect("it was just written");
        let sealed = info.encrypt_with_params(params, passphrase).expect("some hundred bytes are always encrypted");
        sealed.to_pem(ENCRYPTED_LABEL, LineEnding::LF).expect("some hundred bytes are always PEM")
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
        KeyId::of(&self.public_key())
    }

    /// Signs the bytes as they are.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.key.sign(bytes).to_bytes()
    }

    /// Signs `sluice/<purpose>/1\0` and the bytes, so that a signature for one purpose is worth nothing for another.
    pub fn sign_purpose(&self, purpose: &str, bytes: &[u8]) -> [u8; 64] {
        self.sign(&with_purpose(purpose, bytes))
    }
}

/// Checks a signature of [`Signer::sign_purpose`].
pub fn verify_purpose(key: &[u8; 32], purpose: &str, bytes: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    verify_ed25519(key, &with_purpose(purpose, bytes), signature)
}

/// `verify_strict`: refuses weak keys and every second form of a signature.
pub(crate) fn verify_ed25519(key: &[u8; 32], bytes: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(key).map_err(|_| BadSignature)?;
    let signature = Signature::from_slice(signature).map_err(|_| BadSignature)?;
    key.verify_strict(bytes, &signature).map_err(|_| BadSignature)
}

/// A public key as PEM (SubjectPublicKeyInfo): what `openssl pkey -pubout` writes.
pub fn public_key_pem(public_key: &[u8; 32]) -> Result<String, KeyFileError> {
    let key = VerifyingKey::from_bytes(public_key).map_err(|_| KeyFileError)?;
    key.to_public_key_pem(LineEnding::LF).map_err(|_| KeyFileError)
}

/// Reads what [`public_key_pem`] writes. Weak keys are refused.
pub fn read_public_key_pem(pem: &str) -> Result<[u8; 32], KeyFileError> {
    let key = VerifyingKey::from_public_key_pem(pem).map_err(|_| KeyFileError)?;
    if key.is_weak() { Err(KeyFileError) } else { Ok(key.to_bytes()) }
}

fn with_purpose(purpose: &str, bytes: &[u8]) -> Vec<u8> {
    let mut message = format!("sluice/{purpose}/1\0").into_bytes();
    message.extend_from_slice(bytes);
    message
}

impl KeyId {
    /// The id of an Ed25519 key. The text hashed is its canonical JSON.
    pub fn of(public_key: &[u8; 32]) -> Self {
        let public = hex::encode(public_key);
        let canonical = format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{public}"}},"scheme":"ed25519"}}"#);
        Self(sha256(canonical.as_bytes()).to_hex())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_pkcs8_version_1_and_reads_back_as_the_same_key() {
        let signer = Signer::from_seed([7; 32]);
        let pem = signer.to_pkcs8_pem();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        // Version 1 holds nothing but the seed: 48 bytes are 64 characters of base64.
        assert_eq!(pem.lines().nth(1).unwrap().len(), 64);
        let read = Signer::from_pkcs8_pem(&pem).unwrap();
        assert_eq!(read.public_key(), signer.public_key());
        assert_eq!(Signer::from_pkcs8_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n").unwrap_err(), KeyFileError);
    }

    #[test]
    fn an_encrypted_key_file_opens_with_its_passphrase_only() {
        let signer = Signer::from_seed([7; 32]);
        let pem = signer.to_encrypted_pem(b"correct horse", &[1; 16], [2; 16]);
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n") && Signer::is_encrypted_pem(&pem));
        assert_eq!(Signer::from_encrypted_pem(&pem, b"correct horse").unwrap().public_key(), signer.public_key());
        assert_eq!(Signer::from_encrypted_pem(&pem, b"wrong horse").unwrap_err(), EncryptedKeyError::WrongPassphrase);
        let clear = signer.to_pkcs8_pem();
        assert_eq!(Signer::from_encrypted_pem(&clear, b"x").unwrap_err(), EncryptedKeyError::Unreadable);
        let public = public_key_pem(&signer.public_key()).unwrap();
        assert_eq!(read_public_key_pem(&public).unwrap(), signer.public_key());
        assert_eq!(read_public_key_pem(&clear), Err(KeyFileError));
    }

    #[test]
    fn the_debug_form_names_the_key_and_hides_the_secret() {
        let signer = Signer::from_seed([7; 32]);
        let text = format!("{signer:?}");
        assert!(text.contains(signer.key_id().as_str()));
        assert!(!text.contains(&hex::encode([7; 32])) && !text.contains("7, 7"));
    }

    #[test]
    fn a_signature_for_one_purpose_is_refused_for_another() {
        let signer = Signer::from_seed([7; 32]);
        let signature = signer.sign_purpose("ack", b"bytes");
        let key = signer.public_key();
        verify_purpose(&key, "ack", b"bytes", &signature).unwrap();
        assert!(verify_purpose(&key, "enrol", b"bytes", &signature).is_err());
        assert!(verify_purpose(&key, "ack", b"other", &signature).is_err());
        assert!(verify_purpose(&key, "ack", b"bytes", &signature[..63]).is_err());
        assert!(verify_purpose(&[0; 32], "ack", b"bytes", &signature).is_err());
    }
}
