//! The outer shape of every metadata file: `{"signatures": [...], "signed": {...}}`, and the counting of signatures.

use crate::json::{self, Json};
use crate::key::PublicKey;
use crate::{KeyId, MetadataError, Profile, RoleName, RoleVersion, Signer};
use std::collections::{BTreeMap, BTreeSet};

/// Signatures in one file: three holders, old and new, and room.
const SIGNATURES_MAX: usize = 32;

/// Public keys by id.
pub(crate) type Keys = BTreeMap<KeyId, PublicKey>;

/// Who may sign a role, and how many of them must. Holds the keys themselves, so that a changed key is a changed value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RoleKeys {
    pub(crate) keys: Keys,
    pub(crate) threshold: u32,
}

/// A file whose shape was checked and whose signatures were not.
pub(crate) struct Unverified {
    role: RoleName,
    signed: Json,
    canonical: Vec<u8>,
    /// By key id. Empty where a foreign file holds no signature that can be read.
    signatures: BTreeMap<String, Vec<u8>>,
}

impl Unverified {
    /// Reads `bytes`, whose length the caller has checked already.
    pub(crate) fn parse(role: &RoleName, bytes: &[u8], profile: Profile) -> Result<Self, MetadataError> {
        let value = json::parse(bytes).map_err(|reason| MetadataError::NotJson { role: role.clone(), reason })?;
        let Json::Object(mut members) = value else {
            return Err(malformed(role, "$", "not an object"));
        };
        let signed = members.remove("signed").ok_or_else(|| malformed(role, "signed", "missing"))?;
        let signatures = members.remove("signatures").ok_or_else(|| malformed(role, "signatures", "missing"))?;
        if let Some(key) = members.keys().next().filter(|_| profile == Profile::Strict) {
            return Err(malformed(role, key, "not a member of a metadata file"));
        }
        let canonical = signed.canonical();
        let signatures = read_signatures(role, &signatures, profile)?;
        Ok(Self { role: role.clone(), signed, canonical, signatures })
    }

    /// The signed part, for reading the keys of a root that is checked by them.
    pub(crate) fn danger_unverified(&self) -> &Json {
        &self.signed
    }

    /// Counts the distinct keys whose signature verifies (specification 1.0.34, section 4.2.1 and 5.3.4).
    pub(crate) fn check_threshold(&self, keys: &RoleKeys, by: RoleVersion) -> Result<(), MetadataError> {
        let verified: BTreeSet<&PublicKey> = self
            .signatures
            .iter()
            .filter_map(|(keyid, signature)| {
                let key = keys.keys.get(&KeyId(keyid.clone()))?;
                key.is_verified(&self.canonical, signature).then_some(key)
            })
            .collect();
        let valid = u32::try_from(verified.len()).unwrap_or(u32::MAX);
        if valid < keys.threshold {
            return Err(MetadataError::ThresholdNotReached {
                role: self.role.clone(),
                by,
                valid,
                threshold: keys.threshold,
            });
        }
        Ok(())
    }

    /// The signed part, once a threshold of `keys` was reached.
    pub(crate) fn verify(&self, keys: &RoleKeys, by: RoleVersion) -> Result<&Json, MetadataError> {
        self.check_threshold(keys, by)?;
        Ok(&self.signed)
    }
}

/// Signs and encodes: the writer's counterpart.
pub(crate) fn sign(signed: &Json, signers: &[Signer]) -> Vec<u8> {
    let canonical = signed.canonical();
    let signatures = signers
        .iter()
        .map(|signer| {
            json::object([
                ("keyid", json::text(signer.key_id().as_str())),
                ("sig", json::text(hex::encode(signer.sign(&canonical)))),
            ])
        })
        .collect();
    json::object([("signatures", Json::Array(signatures)), ("signed", signed.clone())]).to_bytes()
}

fn read_signatures(
    role: &RoleName,
    value: &Json,
    profile: Profile,
) -> Result<BTreeMap<String, Vec<u8>>, MetadataError> {
    let Json::Array(items) = value else {
        return Err(malformed(role, "signatures", "not an array"));
    };
    if items.len() > SIGNATURES_MAX {
        return Err(malformed(role, "signatures", "more than 32"));
    }
    let mut signatures = BTreeMap::new();
    for (idx, item) in items.iter().enumerate() {
        let at = || format!("signatures[{idx}]");
        let Json::Object(members) = item else {
            return Err(malformed(role, at(), "not an object"));
        };
        let (Some(Json::Text(keyid)), Some(Json::Text(signature))) = (members.get("keyid"), members.get("sig")) else {
            return Err(malformed(role, at(), "not keyid and sig"));
        };
        let signature = match profile {
            Profile::Strict if members.len() != 2 => {
                return Err(malformed(role, at(), "not exactly keyid and sig"));
            }
            Profile::Strict => lower_hex::<64>(signature)
                .map(Vec::from)
                .ok_or_else(|| malformed(role, at(), "sig is not 128 lower-case hexadecimal characters"))?,
            Profile::Foreign => hex::decode(signature).unwrap_or_default(),
        };
        if signatures.insert(keyid.clone(), signature).is_some() {
            return Err(MetadataError::DuplicateSignature { role: role.clone(), keyid: cut(keyid) });
        }
    }
    Ok(signatures)
}

/// Exactly `N` bytes of lower-case hex: one value has one text.
pub(crate) fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (hex::encode(bytes) == text).then_some(bytes)
}

pub(crate) fn malformed(role: &RoleName, at: impl AsRef<str>, reason: impl Into<String>) -> MetadataError {
    MetadataError::Malformed { role: role.clone(), at: cut(at.as_ref()), reason: reason.into() }
}

/// Text from outside, short enough for a log line.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(160).collect()
}
