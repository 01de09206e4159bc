//! The OpenPGP key under which apt knows a repository, and its signatures: clear-signed and detached.
//!
//! It signs and reads its own key back, nothing else: no foreign key, signature or message is ever parsed here, so what
//! rPGP leaves to its callers (expiry, revocation, weak hashes) does not arise. Whoever verifies is apt, with its own
//! policy.
//!
//! Invariants
//! - One v4 key, Ed25519 in the form that GnuPG 2.2 reads (EdDSA, algorithm 22); signatures are over SHA-512.
//! - The time in a signature is the caller's; a signature is a plain function of key, text and time.

use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, Deserializable, DetachedSignature, KeyType, SecretKeyParamsBuilder,
    SignedPublicKey, SignedSecretKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::types::{KeyDetails, KeyVersion, Password};
use rand::rngs::OsRng;
use sluice_model::Timestamp;
use zeroize::Zeroizing;

/// Why there is no key or no signature.
#[derive(Debug, thiserror::Error)]
pub enum OpenPgpError {
    /// The library refused.
    #[error("OpenPGP: {0}")]
    Library(String),
    /// A key of another kind than this crate makes.
    #[error("not a key of this program (OpenPGP v4, EdDSA): {0}")]
    ForeignKey(String),
}

impl From<pgp::errors::Error> for OpenPgpError {
    fn from(error: pgp::errors::Error) -> Self {
        Self::Library(error.to_string())
    }
}

/// The key that signs indices.
pub struct ArchiveKey {
    key: SignedSecretKey,
}

impl std::fmt::Debug for ArchiveKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiveKey").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl ArchiveKey {
    /// A new key for `user_id`, made at `created`. Takes its randomness from the system.
    pub fn generate(user_id: &str, created: Timestamp) -> Result<Self, OpenPgpError> {
        let mut params = SecretKeyParamsBuilder::default();
        params
            .version(KeyVersion::V4)
            .key_type(KeyType::Ed25519Legacy)
            .created_at(seconds(created))
            .can_certify(true)
            .can_sign(true)
            .primary_user_id(user_id.to_owned());
        let params = params.build().map_err(|error| OpenPgpError::Library(error.to_string()))?;
        Ok(Self { key: params.generate(OsRng)? })
    }

    /// Reads what [`ArchiveKey::to_armor`] wrote, and checks that it is one whole key of our kind.
    pub fn from_armor(text: &str) -> Result<Self, OpenPgpError> {
        let (key, _) = SignedSecretKey::from_string(text)?;
        if key.version() != KeyVersion::V4 || key.algorithm() != PublicKeyAlgorithm::EdDSALegacy {
            return Err(OpenPgpError::ForeignKey(format!("{:?}, {:?}", key.version(), key.algorithm())));
        }
        key.verify_bindings()?;
        Ok(Self { key })
    }

    /// The secret key, armored; for a file that only its owner reads.
    pub fn to_armor(&self) -> Result<Zeroizing<String>, OpenPgpError> {
        Ok(Zeroizing::new(self.key.to_armored_string(ArmorOptions::default())?))
    }

    /// The public key, armored: what `Signed-By` takes.
    pub fn public_armor(&self) -> Result<String, OpenPgpError> {
        Ok(SignedPublicKey::from(self.key.clone()).to_armored_string(ArmorOptions::default())?)
    }

    /// 40 upper-case hex characters.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint().to_string().to_uppercase()
    }

    /// `text` in a clear-signed message: the form of `InRelease`.
    pub fn clear_sign(&self, text: &str, at: Timestamp) -> Result<String, OpenPgpError> {
        let config = self.config(SignatureType::Text, at)?;
        let message = CleartextSignedMessage::new(text, config, &self.key.primary_key, &Password::empty())?;
        Ok(message.to_armored_string(ArmorOptions::default())?)
    }

    /// The detached signature of `text`, armored: the form of `Release.gpg`.
    pub fn detached_sign(&self, text: &str, at: Timestamp) -> Result<String, OpenPgpError> {
        let config = self.config(SignatureType::Binary, at)?;
        let signature = config.sign(&self.key.primary_key, &Password::empty(), text.as_bytes())?;
        Ok(DetachedSignature::new(signature).to_armored_string(ArmorOptions::default())?)
    }

    fn config(&self, kind: SignatureType, at: Timestamp) -> Result<SignatureConfig, OpenPgpError> {
        let key = &self.key.primary_key;
        let mut config = SignatureConfig::v4(kind, key.algorithm(), HashAlgorithm::Sha512);
        config.hashed_subpackets = vec![
            Subpacket::regular(SubpacketData::SignatureCreationTime(seconds(at)))?,
            Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint()))?,
        ];
        config.unhashed_subpackets = vec![Subpacket::regular(SubpacketData::IssuerKeyId(key.legacy_key_id()))?];
        Ok(config)
    }
}

/// OpenPGP counts seconds in 32 bits, until 2106.
fn seconds(at: Timestamp) -> pgp::types::Timestamp {
    pgp::types::Timestamp::from_secs(u32::try_from(at.as_millis() / 1_000).unwrap_or(u32::MAX))
}
