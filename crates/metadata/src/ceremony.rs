//! Files that people sign: root, targets and release roles on their way to enough signatures.
//!
//! Decides what a draft says (as a plan that can be edited and shown in words), whose signatures it has and whose it
//! lacks. It draws no entropy, reads no file and does not judge whether a draft may follow what is trusted: the verifier
//! does that when it is published.
//!
//! Invariants
//! - A draft is a plain TUF file, so that another tool may sign it.
//! - A plan that [`DraftFile::is_wholly`] accepts says everything that a signature would cover.
//! - A signature is counted only after it verified, once a key.

use crate::body::{Root, Targets};
use crate::envelope::{cut, lower_hex};
use crate::json::{self, Json};
use crate::signer::verify_ed25519;
use crate::{KeyId, MetadataError, Profile, RoleName, Signer};
use sluice_model::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod plan;
mod words;

pub use plan::{DelegationPlan, ReleasePlan, RootPlan, TargetsPlan, Terms};
pub use words::{RowChange, changed_rows, explain_release, explain_root, explain_targets};

/// Signatures in one draft: three holders, old and new, and room.
const SIGNATURES_MAX: usize = 32;
/// Largest draft that is read: a release role of the largest size.
const DRAFT_BYTES_MAX: u64 = crate::trusted::ROLE_BYTES_MAX;

/// A metadata file with the signatures that it has so far.
#[derive(Clone, PartialEq, Eq)]
pub struct DraftFile {
    role: RoleName,
    version: u64,
    expires: Timestamp,
    signed: Json,
    signatures: BTreeMap<KeyId, [u8; 64]>,
}

/// Why a draft was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CeremonyError {
    /// Longer than any file that people sign.
    #[error("{length} bytes are more than the {length_max} of the largest metadata file")]
    TooLarge {
        /// What came.
        length: u64,
        /// What is allowed.
        length_max: u64,
    },
    /// Not a metadata file.
    #[error("not a metadata file: {0}")]
    Unreadable(String),
    /// Its signed part breaks a rule.
    #[error("the signed part breaks a rule")]
    Refused(#[from] MetadataError),
    /// Two drafts of one role that say different things.
    #[error("two files of {role} version {version} say different things; all holders must sign the same draft")]
    OtherContent {
        /// Which role.
        role: RoleName,
        /// Of the first.
        version: u64,
    },
    /// A signature that does not verify.
    #[error("the signature of key {0} does not verify")]
    BadSignature(String),
}

impl fmt::Debug for DraftFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signers: Vec<&KeyId> = self.signatures.keys().collect();
        f.debug_struct("DraftFile")
            .field("role", &self.role)
            .field("version", &self.version)
            .field("signers", &signers)
            .finish()
    }
}

impl DraftFile {
    /// Of a signed part that was just built.
    fn unsigned(role: RoleName, version: u64, expires: Timestamp, signed: Json) -> Self {
        Self { role, version, expires, signed, signatures: BTreeMap::new() }
    }

    /// Reads a draft or a published file of `role`; its signatures are read and not judged.
    pub fn read(role: &RoleName, bytes: &[u8]) -> Result<Self, CeremonyError> {
        let length = bytes.len() as u64;
        if length > DRAFT_BYTES_MAX {
            return Err(CeremonyError::TooLarge { length, length_max: DRAFT_BYTES_MAX });
        }
        let value = json::parse(bytes).map_err(CeremonyError::Unreadable)?;
        let Json::Object(mut members) = value else { return Err(unreadable("not an object")) };
        let signed = members.remove("signed").ok_or_else(|| unreadable("it has no member \"signed\""))?;
        let signatures = members.remove("signatures").ok_or_else(|| unreadable("it has no member \"signatures\""))?;
        if !members.is_empty() {
            return Err(unreadable("it has members beside \"signed\" and \"signatures\""));
        }
        let header = match role.as_str() {
            "root" => Root::parse(&signed, Profile::Strict)?.header,
            _ => Targets::parse(role, &signed, Profile::Strict)?.header,
        };
        let signatures = read_signatures(&signatures)?;
        Ok(Self { role: role.clone(), version: header.version, expires: header.expires, signed, signatures })
    }

    /// Reads a file whose role its own name says: `2.root.json`, `7.rel-pilot.json`.
    pub fn read_named(name: &str, bytes: &[u8]) -> Result<Self, CeremonyError> {
        let role = name.strip_suffix(".json").and_then(|stem| stem.split_once('.')).and_then(|(version, role)| {
            version.parse::<u64>().ok()?;
            role.parse::<RoleName>().ok()
        });
        let role = role.ok_or_else(|| {
            unreadable(&format!("{:?} is not named VERSION.ROLE.json, for instance 2.root.json", cut(name)))
        })?;
        Self::read(&role, bytes)
    }

    /// The file: valid JSON, keys in order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let signatures = self.signatures.iter().map(|(id, signature)| {
            json::object([("keyid", json::text(id.as_str())), ("sig", json::text(hex::encode(signature)))])
        });
        json::object([("signatures", Json::Array(signatures.collect())), ("signed", self.signed.clone())]).to_bytes()
    }

    /// `N.<role>.json`.
    pub fn file_name(&self) -> String {
        format!("{}.{}.json", self.version, self.role)
    }

    /// Its role.
    pub fn role(&self) -> &RoleName {
        &self.role
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When it runs out.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// How many signatures it has, whatever they are worth.
    pub fn signature_count(&self) -> usize {
        self.signatures.len()
    }

    pub(crate) fn signed(&self) -> &Json {
        &self.signed
    }

    /// Whether both say the same, whoever signed them.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.role == other.role && self.signed == other.signed
    }

    /// Whether `plan` says everything that a signature of this draft would cover.
    pub fn is_wholly(&self, plan: &DraftFile) -> bool {
        self.says_the_same(plan)
    }

    /// Adds a signature of `signer`.
    pub fn sign(&mut self, signer: &Signer) {
        self.signatures.insert(signer.key_id(), signer.sign(&self.signed.canonical()));
    }

    /// Takes over the signatures of another copy of the same draft.
    pub fn merge(&mut self, other: &Self) -> Result<(), CeremonyError> {
        if !self.says_the_same(other) {
            return Err(CeremonyError::OtherContent { role: self.role.clone(), version: self.version });
        }
        for (id, signature) in &other.signatures {
            if self.signatures.len() < SIGNATURES_MAX {
                self.signatures.entry(id.clone()).or_insert(*signature);
            }
        }
        Ok(())
    }

    /// Drops signatures of keys that none of `terms` names, and those that do not verify.
    pub fn keep_valid(&mut self, terms: &[&Terms]) {
        let valid: BTreeSet<KeyId> = terms.iter().flat_map(|terms| self.signed_by(terms)).collect();
        self.signatures.retain(|id, _| valid.contains(id));
    }

    /// The keys of `terms` whose signature is here and verifies.
    pub fn signed_by(&self, terms: &Terms) -> BTreeSet<KeyId> {
        let canonical = self.signed.canonical();
        let verifies = |id: &KeyId, key: &[u8; 32]| {
            self.signatures.get(id).is_some_and(|signature| verify_ed25519(key, &canonical, signature).is_ok())
        };
        terms.keys.iter().filter(|(id, key)| verifies(id, key)).map(|(id, _)| id.clone()).collect()
    }

    /// Whether enough keys of `terms` signed.
    pub fn reaches(&self, terms: &Terms) -> bool {
        self.signed_by(terms).len() as u64 >= u64::from(terms.threshold)
    }

    /// How many signatures are still missing.
    pub fn missing(&self, terms: &Terms) -> usize {
        (terms.threshold as usize).saturating_sub(self.signed_by(terms).len())
    }
}

fn unreadable(reason: &str) -> CeremonyError {
    CeremonyError::Unreadable(reason.to_owned())
}

fn read_signatures(value: &Json) -> Result<BTreeMap<KeyId, [u8; 64]>, CeremonyError> {
    let Json::Array(items) = value else { return Err(unreadable("signatures is not an array")) };
    if items.len() > SIGNATURES_MAX {
        return Err(unreadable("it has more than 32 signatures"));
    }
    let mut signatures = BTreeMap::new();
    for item in items {
        let Json::Object(members) = item else { return Err(unreadable("a signature is not an object")) };
        let (Some(Json::Text(keyid)), Some(Json::Text(signature))) = (members.get("keyid"), members.get("sig")) else {
            return Err(unreadable("a signature has no keyid or no sig"));
        };
        // Other tools leave an empty one for a key that is still to sign.
        if signature.is_empty() {
            continue;
        }
        let bytes = lower_hex::<64>(signature).ok_or_else(|| CeremonyError::BadSignature(cut(keyid)))?;
        signatures.insert(KeyId(cut(keyid)), bytes);
    }
    Ok(signatures)
}

#[cfg(test)]
mod tests;
