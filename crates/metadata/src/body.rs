//! The signed part of each role, read into values that cannot be invalid.

use crate::envelope::{Keys, RoleKeys, cut, lower_hex, malformed};
use crate::json::Json;
use crate::{KeyId, MetadataError, RepositoryProfile, RoleName, TargetEntry, pattern};
use sluice_model::{Sha256, TargetName, Timestamp};
use std::collections::BTreeMap;

/// Rows of one targets role.
pub(crate) const TARGETS_MAX: usize = 1_500;
/// Delegations of `targets`, hence visited at most on one look-up.
pub(crate) const DELEGATIONS_MAX: usize = 32;
/// Keys that one file declares.
const KEYS_MAX: usize = 128;
/// Path patterns of one delegation.
const PATHS_MAX: usize = 64;

/// What every role says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) version: u64,
    pub(crate) expires: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Root {
    pub(crate) header: Header,
    pub(crate) profile: RepositoryProfile,
    pub(crate) repo_id: String,
    /// `root`, `targets`, `snapshot`, `timestamp`: exactly these.
    pub(crate) roles: BTreeMap<RoleName, RoleKeys>,
}

/// What a meta table says of one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileMeta {
    pub(crate) version: u64,
    pub(crate) length: u64,
    pub(crate) sha256: Sha256,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TimestampBody {
    pub(crate) header: Header,
    pub(crate) snapshot: FileMeta,
    pub(crate) issued_at: Timestamp,
    pub(crate) retraction_count: u64,
    pub(crate) retraction_serial: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Snapshot {
    pub(crate) header: Header,
    pub(crate) meta: BTreeMap<RoleName, FileMeta>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Delegation {
    pub(crate) name: RoleName,
    pub(crate) keys: RoleKeys,
    pub(crate) paths: Vec<String>,
}

impl Delegation {
    pub(crate) fn covers(&self, target: &str) -> bool {
        self.paths.iter().any(|path| pattern::is_match(path, target))
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Targets {
    pub(crate) header: Header,
    pub(crate) targets: BTreeMap<TargetName, TargetEntry>,
    /// In order of precedence; empty for delegated roles.
    pub(crate) delegations: Vec<Delegation>,
}

impl Targets {
    pub(crate) fn delegation(&self, role: &RoleName) -> Option<&Delegation> {
        self.delegations.iter().find(|delegation| delegation.name == *role)
    }
}

/// An object being read, with its path for error texts.
struct Members<'a> {
    role: &'a RoleName,
    at: String,
    map: &'a BTreeMap<String, Json>,
}

impl<'a> Members<'a> {
    fn of(role: &'a RoleName, at: impl Into<String>, value: &'a Json) -> Result<Self, MetadataError> {
        let at = at.into();
        match value {
            Json::Object(map) => Ok(Self { role, at, map }),
            _ => Err(malformed(role, at, "not an object")),
        }
    }

    fn wrong(&self, key: &str, reason: impl Into<String>) -> MetadataError {
        malformed(self.role, format!("{}.{key}", self.at), reason)
    }

    fn get(&self, key: &str) -> Result<&'a Json, MetadataError> {
        self.map.get(key).ok_or_else(|| self.wrong(key, "missing"))
    }

    fn text(&self, key: &str) -> Result<&'a str, MetadataError> {
        match self.get(key)? {
            Json::Text(text) => Ok(text),
            _ => Err(self.wrong(key, "not a text")),
        }
    }

    fn number(&self, key: &str) -> Result<u64, MetadataError> {
        match self.get(key)? {
            Json::Unsigned(number) => Ok(*number),
            _ => Err(self.wrong(key, "not a whole number from 0")),
        }
    }

    fn positive(&self, key: &str) -> Result<u64, MetadataError> {
        match self.number(key)? {
            0 => Err(self.wrong(key, "must be at least 1")),
            number => Ok(number),
        }
    }

    fn truth(&self, key: &str) -> Result<(), MetadataError> {
        match self.get(key)? {
            Json::Bool(true) => Ok(()),
            _ => Err(self.wrong(key, "must be true")),
        }
    }

    fn object(&self, key: &str) -> Result<Members<'a>, MetadataError> {
        Members::of(self.role, format!("{}.{key}", self.at), self.get(key)?)
    }

    fn array(&self, key: &str, max: usize) -> Result<&'a [Json], MetadataError> {
        match self.get(key)? {
            Json::Array(items) if items.len() <= max => Ok(items),
            Json::Array(items) => Err(self.wrong(key, format!("{} items are more than {max}", items.len()))),
            _ => Err(self.wrong(key, "not an array")),
        }
    }

    /// Exactly these members; those with prefix `x-` too where `extensions` says so.
    fn only(&self, keys: &[&str], extensions: bool) -> Result<(), MetadataError> {
        let is_known = |key: &&String| keys.contains(&key.as_str()) || (extensions && key.starts_with("x-"));
        match self.map.keys().find(|key| !is_known(key)) {
            Some(key) => Err(self.wrong(&cut(key), "is not a member here")),
            None => Ok(()),
        }
    }

    /// `_type`, `spec_version`, `version`, `expires`.
    fn header(&self, kind: &str) -> Result<Header, MetadataError> {
        let found = self.text("_type")?;
        if found != kind {
            return Err(MetadataError::WrongType { role: self.role.clone(), found: cut(found) });
        }
        if !self.text("spec_version")?.starts_with("1.0.") {
            return Err(self.wrong("spec_version", "not 1.0"));
        }
        let expires = Timestamp::from_seconds_text(self.text("expires")?)
            .map_err(|error| self.wrong("expires", error.to_string()))?;
        Ok(Header { version: self.positive("version")?, expires })
    }

    /// `hashes`: exactly one, sha256.
    fn sha256(&self) -> Result<Sha256, MetadataError> {
        let hashes = self.object("hashes")?;
        hashes.only(&["sha256"], false)?;
        lower_hex(hashes.text("sha256")?)
            .map(Sha256::from_bytes)
            .ok_or_else(|| hashes.wrong("sha256", "not 64 lower-case hexadecimal characters"))
    }

    fn file_meta(&self) -> Result<FileMeta, MetadataError> {
        self.only(&["version", "length", "hashes"], false)?;
        Ok(FileMeta { version: self.positive("version")?, length: self.number("length")?, sha256: self.sha256()? })
    }

    /// `keys`: Ed25519 only, each under the hash of itself.
    fn keys(&self) -> Result<Keys, MetadataError> {
        let table = self.object("keys")?;
        if table.map.len() > KEYS_MAX {
            return Err(self.wrong("keys", format!("more than {KEYS_MAX}")));
        }
        let mut keys = Keys::new();
        for keyid in table.map.keys() {
            let key = table.object(keyid)?;
            key.only(&["keytype", "keyval", "scheme"], false)?;
            if key.text("keytype")? != "ed25519" || key.text("scheme")? != "ed25519" {
                return Err(key.wrong("keytype", "not ed25519"));
            }
            let value = key.object("keyval")?;
            value.only(&["public"], false)?;
            let public = lower_hex::<32>(value.text("public")?)
                .ok_or_else(|| value.wrong("public", "not 64 lower-case hexadecimal characters"))?;
            let id = KeyId::of(&public);
            if id.as_str() != keyid {
                return Err(MetadataError::WrongKeyId { role: self.role.clone(), keyid: cut(keyid) });
            }
            keys.insert(id, public);
        }
        Ok(keys)
    }

    /// `keyids` and `threshold`, resolved against `keys`.
    fn role_keys(&self, keys: &Keys) -> Result<RoleKeys, MetadataError> {
        let mut chosen = Keys::new();
        for item in self.array("keyids", KEYS_MAX)? {
            let Json::Text(keyid) = item else {
                return Err(self.wrong("keyids", "not texts"));
            };
            let id = KeyId(keyid.clone());
            let key = keys.get(&id).ok_or_else(|| self.wrong("keyids", format!("{} is not in keys", cut(keyid))))?;
            if chosen.insert(id, *key).is_some() {
                return Err(self.wrong("keyids", format!("names {} twice", cut(keyid))));
            }
        }
        let threshold = self.positive("threshold")?;
        if threshold > chosen.len() as u64 {
            return Err(self.wrong("threshold", format!("{threshold} of {} keys", chosen.len())));
        }
        Ok(RoleKeys { keys: chosen, threshold: threshold as u32 })
    }
}

impl Root {
    pub(crate) fn parse(signed: &Json) -> Result<Self, MetadataError> {
        let role = RoleName::root();
        let members = Members::of(&role, "signed", signed)?;
        let header = members.header("root")?;
        let known = ["_type", "spec_version", "version", "expires", "consistent_snapshot", "keys", "roles"];
        members.only(&known, true)?;
        members.truth("consistent_snapshot")?;
        let profile = RepositoryProfile::parse(members.text("x-profile")?)
            .ok_or_else(|| members.wrong("x-profile", "not dev, standard or strict"))?;
        let repo_id = members.text("x-repo-id")?;
        if !is_repo_id(repo_id) {
            return Err(members.wrong("x-repo-id", REPO_ID_RULE));
        }
        let keys = members.keys()?;
        let table = members.object("roles")?;
        table.only(&["root", "targets", "snapshot", "timestamp"], false)?;
        let mut roles = BTreeMap::new();
        for name in [RoleName::root(), RoleName::targets(), RoleName::snapshot(), RoleName::timestamp()] {
            let row = table.object(name.as_str())?;
            row.only(&["keyids", "threshold"], false)?;
            roles.insert(name, row.role_keys(&keys)?);
        }
        Ok(Self { header, profile, repo_id: repo_id.to_owned(), roles })
    }

    pub(crate) fn role(&self, role: &RoleName) -> &RoleKeys {
        self.roles.get(role).expect("root was parsed with all four roles")
    }
}

/// The rule of [`is_repo_id`] in words.
pub(crate) const REPO_ID_RULE: &str = "1 to 64 lower-case letters, digits and '-'";

pub(crate) fn is_repo_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl TimestampBody {
    pub(crate) fn parse(signed: &Json) -> Result<Self, MetadataError> {
        let role = RoleName::timestamp();
        let members = Members::of(&role, "signed", signed)?;
        let header = members.header("timestamp")?;
        members.only(&["_type", "spec_version", "version", "expires", "meta"], true)?;
        let meta = members.object("meta")?;
        meta.only(&["snapshot.json"], false)?;
        let retractions = members.object("x-retractions")?;
        retractions.only(&["count", "serial"], false)?;
        Ok(Self {
            header,
            snapshot: meta.object("snapshot.json")?.file_meta()?,
            issued_at: Timestamp::from_millis(members.number("x-issued")?),
            retraction_count: retractions.number("count")?,
            retraction_serial: retractions.number("serial")?,
        })
    }
}

impl Snapshot {
    pub(crate) fn parse(signed: &Json) -> Result<Self, MetadataError> {
        let role = RoleName::snapshot();
        let members = Members::of(&role, "signed", signed)?;
        let header = members.header("snapshot")?;
        members.only(&["_type", "spec_version", "version", "expires", "meta"], true)?;
        let table = members.object("meta")?;
        if table.map.len() > 2 * DELEGATIONS_MAX {
            return Err(members.wrong("meta", format!("more than {} files", 2 * DELEGATIONS_MAX)));
        }
        let mut meta = BTreeMap::new();
        for file in table.map.keys() {
            let name = file
                .strip_suffix(".json")
                .and_then(|name| name.parse::<RoleName>().ok())
                .filter(|name| ![RoleName::root(), RoleName::snapshot(), RoleName::timestamp()].contains(name))
                .ok_or_else(|| table.wrong(&cut(file), "not a file of a targets role"))?;
            meta.insert(name, table.object(file)?.file_meta()?);
        }
        if !meta.contains_key(&RoleName::targets()) {
            return Err(table.wrong("targets.json", "missing"));
        }
        Ok(Self { header, meta })
    }
}

impl Targets {
    /// `targets` has delegations and no rows; every other role has rows and no delegations.
    pub(crate) fn parse(role: &RoleName, signed: &Json) -> Result<Self, MetadataError> {
        let members = Members::of(role, "signed", signed)?;
        let header = members.header("targets")?;
        let is_top = *role == RoleName::targets();
        let known: &[&str] = match is_top {
            true => &["_type", "spec_version", "version", "expires", "targets", "delegations"],
            false => &["_type", "spec_version", "version", "expires", "targets"],
        };
        members.only(known, true)?;
        let table = members.object("targets")?;
        let rows_max = if is_top { 0 } else { TARGETS_MAX };
        if table.map.len() > rows_max {
            return Err(members.wrong("targets", format!("{} targets are more than {rows_max}", table.map.len())));
        }
        let mut targets = BTreeMap::new();
        for name in table.map.keys() {
            let target: TargetName =
                name.parse().map_err(|error: sluice_model::NameError| table.wrong(&cut(name), error.to_string()))?;
            targets.insert(target, read_target(&table.object(name)?)?);
        }
        let delegations = if is_top { read_delegations(&members.object("delegations")?)? } else { Vec::new() };
        Ok(Self { header, targets, delegations })
    }
}

fn read_target(row: &Members<'_>) -> Result<TargetEntry, MetadataError> {
    row.only(&["length", "hashes", "custom"], false)?;
    let custom = match row.map.get("custom") {
        Some(value @ Json::Object(_)) => Some(value.to_value()),
        Some(_) => return Err(row.wrong("custom", "not an object")),
        None => None,
    };
    Ok(TargetEntry { length: row.number("length")?, sha256: row.sha256()?, custom })
}

fn read_delegations(members: &Members<'_>) -> Result<Vec<Delegation>, MetadataError> {
    members.only(&["keys", "roles"], false)?;
    let keys = members.keys()?;
    let mut delegations: Vec<Delegation> = Vec::new();
    for (idx, item) in members.array("roles", DELEGATIONS_MAX)?.iter().enumerate() {
        let row = Members::of(members.role, format!("{}.roles[{idx}]", members.at), item)?;
        row.only(&["name", "keyids", "threshold", "paths", "terminating"], false)?;
        row.truth("terminating")?;
        let name: RoleName =
            row.text("name")?.parse().map_err(|error: crate::RoleNameError| row.wrong("name", error.to_string()))?;
        let reserved = [RoleName::root(), RoleName::targets(), RoleName::snapshot(), RoleName::timestamp()];
        if reserved.contains(&name) || delegations.iter().any(|delegation| delegation.name == name) {
            return Err(row.wrong("name", format!("{name} is taken")));
        }
        let mut paths = Vec::new();
        for path in row.array("paths", PATHS_MAX)? {
            match path {
                Json::Text(path) if path.is_ascii() => paths.push(path.clone()),
                _ => return Err(row.wrong("paths", "not ASCII texts")),
            }
        }
        delegations.push(Delegation { name, keys: row.role_keys(&keys)?, paths });
    }
    Ok(delegations)
}
