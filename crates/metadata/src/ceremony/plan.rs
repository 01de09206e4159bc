//! What root, targets and a release role say, as values that can be edited and written as a draft.

use super::{CeremonyError, DraftFile};
use crate::json::{self, Json};
use crate::write::{encode_targets, header, lifetime};
use crate::{KeyId, Profile, RepositoryProfile, RoleName, TargetEntry, WriteError};
use sluice_model::{TargetName, Timestamp};
use std::collections::BTreeMap;

/// Who may sign a role, and how many of them must.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// Ed25519 public keys.
    pub keys: BTreeMap<KeyId, [u8; 32]>,
    /// At least 1, at most the number of keys.
    pub threshold: u32,
}

impl Terms {
    /// These keys, of which `threshold` must sign.
    pub fn new(keys: impl IntoIterator<Item = [u8; 32]>, threshold: u32) -> Self {
        Self { keys: keys.into_iter().map(|key| (KeyId::of(&key), key)).collect(), threshold }
    }
}

/// Everything that a root says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootPlan {
    /// Its version.
    pub version: u64,
    /// When it runs out.
    pub expires: Timestamp,
    /// `x-profile`.
    pub profile: RepositoryProfile,
    /// `x-repo-id`.
    pub repo_id: String,
    /// `root`, `targets`, `snapshot`, `timestamp`.
    pub roles: BTreeMap<RoleName, Terms>,
    /// `x-signers`: whose key it is, for those that a person holds.
    pub names: BTreeMap<KeyId, String>,
}

/// One delegation of targets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DelegationPlan {
    /// To which role.
    pub role: RoleName,
    /// Who signs it.
    pub terms: Terms,
    /// Which targets it may list.
    pub paths: Vec<String>,
}

/// Everything that targets says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetsPlan {
    /// Its version.
    pub version: u64,
    /// When it runs out.
    pub expires: Timestamp,
    /// In order of precedence; every one is terminating.
    pub delegations: Vec<DelegationPlan>,
    /// `x-signers`: whose key it is, for those that a person holds.
    pub names: BTreeMap<KeyId, String>,
}

/// Everything that a release role says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReleasePlan {
    /// Which.
    pub role: RoleName,
    /// Its version.
    pub version: u64,
    /// When it runs out.
    pub expires: Timestamp,
    /// Its rows.
    pub entries: BTreeMap<TargetName, TargetEntry>,
}

impl RootPlan {
    /// What a draft of root says, as far as this program knows its members.
    pub fn of(draft: &DraftFile) -> Result<Self, CeremonyError> {
        let role = RoleName::root();
        let body = crate::body::Root::parse(draft.signed(), Profile::Strict)?;
        let keys = read_keys(draft.signed());
        let table = member(draft.signed(), "roles");
        let names = [role, RoleName::targets(), RoleName::snapshot(), RoleName::timestamp()];
        let terms = |role: &RoleName| table.and_then(|table| member(table, role.as_str())).map(|row| terms(row, &keys));
        Ok(Self {
            version: draft.version(),
            expires: draft.expires(),
            profile: body.profile,
            repo_id: body.repo_id.clone(),
            roles: names.into_iter().filter_map(|role| Some((role.clone(), terms(&role)?))).collect(),
            names: read_names(draft.signed()),
        })
    }

    /// The same in the next version, for a year.
    pub fn next(&self, now: Timestamp) -> Self {
        Self { version: self.version + 1, expires: now.plus(lifetime(&RoleName::root())), ..self.clone() }
    }

    /// Who signs `role`.
    pub fn terms(&self, role: &RoleName) -> Terms {
        self.roles.get(role).cloned().unwrap_or_default()
    }

    /// The draft of this, without signatures. Names of keys that no role has are left out.
    pub fn to_draft(&self) -> DraftFile {
        let all = self.roles.values();
        let roles = self.roles.iter().map(|(role, terms)| (role.to_string(), json::object(encode_terms(terms))));
        let mut signed = header("root", self.version, self.expires);
        signed.insert("consistent_snapshot".into(), Json::Bool(true));
        signed.insert("keys".into(), encode_keys(all.clone()));
        signed.insert("roles".into(), Json::Object(roles.collect()));
        signed.insert("x-profile".into(), json::text(self.profile.as_str()));
        signed.insert("x-repo-id".into(), json::text(self.repo_id.clone()));
        insert_names(&mut signed, &self.names, all);
        DraftFile::unsigned(RoleName::root(), self.version, self.expires, Json::Object(signed))
    }
}

impl TargetsPlan {
    /// What a draft of targets says, as far as this program knows its members.
    pub fn of(draft: &DraftFile) -> Result<Self, CeremonyError> {
        let table = member(draft.signed(), "delegations");
        let keys = table.map(read_keys).unwrap_or_default();
        let Some(Json::Array(rows)) = table.and_then(|table| member(table, "roles")) else {
            return Err(super::unreadable("it has no delegations"));
        };
        let name = |row: &Json| match member(row, "name") {
            Some(Json::Text(name)) => name.parse::<RoleName>().ok(),
            _ => None,
        };
        let delegations = rows.iter().filter_map(|row| {
            Some(DelegationPlan { role: name(row)?, terms: terms(row, &keys), paths: texts(row, "paths") })
        });
        Ok(Self {
            version: draft.version(),
            expires: draft.expires(),
            delegations: delegations.collect(),
            names: read_names(draft.signed()),
        })
    }

    /// The same in the next version, for a year.
    pub fn next(&self, now: Timestamp) -> Self {
        Self { version: self.version + 1, expires: now.plus(lifetime(&RoleName::targets())), ..self.clone() }
    }

    /// The delegation to `role`.
    pub fn delegation(&self, role: &RoleName) -> Option<&DelegationPlan> {
        self.delegations.iter().find(|delegation| delegation.role == *role)
    }

    /// The draft of this, without signatures. Names of keys that no role has are left out.
    pub fn to_draft(&self) -> DraftFile {
        let all = self.delegations.iter().map(|delegation| &delegation.terms);
        let rows = self.delegations.iter().map(|delegation| {
            let [keyids, threshold] = encode_terms(&delegation.terms);
            let paths = delegation.paths.iter().map(json::text).collect();
            json::object([
                ("name", json::text(delegation.role.as_str())),
                keyids,
                threshold,
                ("paths", Json::Array(paths)),
                ("terminating", Json::Bool(true)),
            ])
        });
        let delegations = json::object([("keys", encode_keys(all.clone())), ("roles", Json::Array(rows.collect()))]);
        let mut signed = header("targets", self.version, self.expires);
        signed.insert("targets".into(), Json::Object(BTreeMap::new()));
        signed.insert("delegations".into(), delegations);
        insert_names(&mut signed, &self.names, all);
        DraftFile::unsigned(RoleName::targets(), self.version, self.expires, Json::Object(signed))
    }
}

impl ReleasePlan {
    /// An empty first version.
    pub fn first(role: RoleName, now: Timestamp) -> Self {
        let expires = now.plus(lifetime(&role));
        Self { role, version: 1, expires, entries: BTreeMap::new() }
    }

    /// What a draft of a release role says, as far as this program knows its members.
    pub fn of(draft: &DraftFile) -> Result<Self, CeremonyError> {
        let body = crate::body::Targets::parse(draft.role(), draft.signed(), Profile::Strict)?;
        Ok(Self {
            role: draft.role().clone(),
            version: draft.version(),
            expires: draft.expires(),
            entries: body.targets,
        })
    }

    /// The draft of this, without signatures.
    pub fn to_draft(&self) -> Result<DraftFile, WriteError> {
        let mut signed = header("targets", self.version, self.expires);
        signed.insert("targets".into(), encode_targets(&self.entries)?);
        Ok(DraftFile::unsigned(self.role.clone(), self.version, self.expires, Json::Object(signed)))
    }
}

fn member<'a>(value: &'a Json, key: &str) -> Option<&'a Json> {
    match value {
        Json::Object(members) => members.get(key),
        _ => None,
    }
}

fn texts(value: &Json, key: &str) -> Vec<String> {
    let Some(Json::Array(items)) = member(value, key) else { return Vec::new() };
    let text = |item: &Json| match item {
        Json::Text(text) => Some(text.clone()),
        _ => None,
    };
    items.iter().filter_map(text).collect()
}

fn read_keys(value: &Json) -> BTreeMap<KeyId, [u8; 32]> {
    let Some(Json::Object(table)) = member(value, "keys") else { return BTreeMap::new() };
    let public = |key: &Json| match member(key, "keyval").and_then(|keyval| member(keyval, "public")) {
        Some(Json::Text(text)) => crate::envelope::lower_hex::<32>(text),
        _ => None,
    };
    table.iter().filter_map(|(id, key)| Some((KeyId(id.clone()), public(key)?))).collect()
}

fn terms(row: &Json, keys: &BTreeMap<KeyId, [u8; 32]>) -> Terms {
    let ids = match member(row, "keyids") {
        Some(Json::Array(ids)) => ids.as_slice(),
        _ => &[],
    };
    let key = |id: &Json| match id {
        Json::Text(id) => keys.get_key_value(&KeyId(id.clone())).map(|(id, key)| (id.clone(), *key)),
        _ => None,
    };
    let threshold = match member(row, "threshold") {
        Some(Json::Unsigned(threshold)) => u32::try_from(*threshold).unwrap_or(u32::MAX),
        _ => u32::MAX,
    };
    Terms { keys: ids.iter().filter_map(key).collect(), threshold }
}

fn read_names(signed: &Json) -> BTreeMap<KeyId, String> {
    let Some(Json::Object(table)) = member(signed, NAMES) else { return BTreeMap::new() };
    let name = |name: &Json| match name {
        Json::Text(name) => Some(crate::envelope::cut(name)),
        _ => None,
    };
    table.iter().filter_map(|(id, found)| Some((KeyId(id.clone()), name(found)?))).collect()
}

/// Extension member: key id to the name of the person who holds it.
const NAMES: &str = "x-signers";

fn insert_names<'a>(
    signed: &mut BTreeMap<String, Json>,
    names: &BTreeMap<KeyId, String>,
    used: impl Iterator<Item = &'a Terms> + Clone,
) {
    let is_used = |id: &KeyId| used.clone().any(|terms| terms.keys.contains_key(id));
    let names: BTreeMap<String, Json> = names
        .iter()
        .filter(|(id, _)| is_used(id))
        .map(|(id, name)| (id.to_string(), json::text(name.as_str())))
        .collect();
    if !names.is_empty() {
        signed.insert(NAMES.into(), Json::Object(names));
    }
}

fn encode_keys<'a>(terms: impl Iterator<Item = &'a Terms>) -> Json {
    let keys = terms.flat_map(|terms| &terms.keys);
    Json::Object(keys.map(|(id, key)| (id.to_string(), encode_key(key))).collect())
}

fn encode_key(public_key: &[u8; 32]) -> Json {
    json::object([
        ("keytype", json::text("ed25519")),
        ("scheme", json::text("ed25519")),
        ("keyval", json::object([("public", json::text(hex::encode(public_key)))])),
    ])
}

/// `keyids` and `threshold` of a role.
fn encode_terms(terms: &Terms) -> [(&'static str, Json); 2] {
    let keyids = terms.keys.keys().map(|id| json::text(id.as_str())).collect();
    [("keyids", Json::Array(keyids)), ("threshold", Json::Unsigned(u64::from(terms.threshold)))]
}
