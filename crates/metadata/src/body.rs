//! The signed part of each role, read into values that cannot be invalid.

pub(crate) use crate::delegation::Delegation;
use crate::delegation::{Paths, Succinct};
use crate::envelope::{Keys, RoleKeys, cut, lower_hex, malformed};
use crate::hashes::Hashes;
use crate::json::{Json, sha256};
use crate::key::PublicKey;
use crate::{ForeignTarget, KeyId, MetadataError, Profile, RepositoryProfile, RoleName, TargetEntry};
use sluice_model::{LogHead, Sha256, TargetName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Rows of one targets role.
pub(crate) const TARGETS_MAX: usize = 1_500;
/// Delegations of `targets`, hence visited at most on one look-up.
pub(crate) const DELEGATIONS_MAX: usize = 32;
/// Keys that one file declares.
const KEYS_MAX: usize = 128;
/// Path patterns of one delegation.
const PATHS_MAX: usize = 64;
/// Items of one list in a foreign file: its size bounds them already, this bounds what one item may cost.
const FOREIGN_ITEMS_MAX: usize = 1 << 16;

/// What every role says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) version: u64,
    pub(crate) expires: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Root {
    pub(crate) header: Header,
    /// `standard` for a foreign root, which declares none.
    pub(crate) profile: RepositoryProfile,
    /// Empty in a foreign root.
    pub(crate) repo_id: String,
    /// Whether file names carry versions; always in our own repository.
    pub(crate) is_consistent: bool,
    /// `root`, `targets`, `snapshot`, `timestamp`: exactly these.
    pub(crate) roles: BTreeMap<RoleName, RoleKeys>,
}

/// What a meta table says of one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileMeta {
    pub(crate) version: u64,
    /// `None` in foreign repositories only.
    pub(crate) length: Option<u64>,
    /// SHA-256 alone in our own repository.
    pub(crate) hashes: Hashes,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TimestampBody {
    pub(crate) header: Header,
    pub(crate) snapshot: FileMeta,
    /// `x-issued`; the beginning of time in a foreign repository, which has none.
    pub(crate) issued_at: Timestamp,
    pub(crate) retraction_count: u64,
    pub(crate) retraction_serial: u64,
    /// `x-log`; repositories from before the audit log was a tree have none.
    pub(crate) log: Option<LogHead>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Snapshot {
    pub(crate) header: Header,
    pub(crate) meta: BTreeMap<RoleName, FileMeta>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Targets {
    pub(crate) header: Header,
    pub(crate) targets: BTreeMap<TargetName, TargetEntry>,
    /// Rows of a foreign role, whose names and hashes follow no rule of ours.
    pub(crate) foreign: BTreeMap<String, ForeignTarget>,
    /// In order of precedence; empty for delegated roles.
    pub(crate) delegations: Vec<Delegation>,
    /// Instead of `delegations`; foreign roles only.
    pub(crate) succinct: Option<Succinct>,
}

impl Targets {
    pub(crate) fn delegation(&self, role: &RoleName) -> Option<&Delegation> {
        self.delegations.iter().find(|delegation| delegation.name == *role)
    }

    /// Who must have signed `role`, by the word of this one.
    pub(crate) fn keys_of(&self, role: &RoleName) -> Option<&RoleKeys> {
        let succinct = || self.succinct.as_ref().filter(|bins| bins.has(role)).map(|bins| &bins.keys);
        self.delegation(role).map(|delegation| &delegation.keys).or_else(succinct)
    }
}

/// An object being read, with its path for error texts.
struct Members<'a> {
    role: &'a RoleName,
    profile: Profile,
    at: String,
    map: &'a BTreeMap<String, Json>,
}

impl<'a> Members<'a> {
    fn of(role: &'a RoleName, profile: Profile, at: impl Into<String>, value: &'a Json) -> Result<Self, MetadataError> {
        let at = at.into();
        match value {
            Json::Object(map) => Ok(Self { role, profile, at, map }),
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

    fn boolean(&self, key: &str) -> Result<bool, MetadataError> {
        match self.get(key)? {
            Json::Bool(value) => Ok(*value),
            _ => Err(self.wrong(key, "not true or false")),
        }
    }

    fn truth(&self, key: &str) -> Result<(), MetadataError> {
        match self.boolean(key) {
            Ok(true) => Ok(()),
            _ => Err(self.wrong(key, "must be true")),
        }
    }

    fn object(&self, key: &str) -> Result<Members<'a>, MetadataError> {
        Members::of(self.role, self.profile, format!("{}.{key}", self.at), self.get(key)?)
    }

    fn array(&self, key: &str, max: usize) -> Result<&'a [Json], MetadataError> {
        match self.get(key)? {
            Json::Array(items) if items.len() <= max => Ok(items),
            Json::Array(items) => Err(self.wrong(key, format!("{} items are more than {max}", items.len()))),
            _ => Err(self.wrong(key, "not an array")),
        }
    }

    /// The texts of an array.
    fn texts(&self, key: &str, max: usize) -> Result<Vec<&'a str>, MetadataError> {
        let text = |item: &'a Json| match item {
            Json::Text(text) => Ok(text.as_str()),
            _ => Err(self.wrong(key, "not texts")),
        };
        self.array(key, self.at_most(max))?.iter().map(text).collect()
    }

    /// A bound of ours, which foreign repositories do not know.
    fn at_most(&self, max: usize) -> usize {
        match self.profile {
            Profile::Strict => max,
            Profile::Foreign => FOREIGN_ITEMS_MAX,
        }
    }

    /// Exactly these members; those with prefix `x-` too where `extensions` says so. Foreign files may hold any other.
    fn only(&self, keys: &[&str], extensions: bool) -> Result<(), MetadataError> {
        if self.profile == Profile::Foreign {
            return Ok(());
        }
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
        let spec_version = self.text("spec_version")?;
        let is_known = match self.profile {
            Profile::Strict => spec_version.starts_with("1.0."),
            Profile::Foreign => spec_version.starts_with("1."),
        };
        if !is_known {
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

    /// `hashes` of a foreign file: those of them that this client can check.
    fn hashes(&self) -> Result<Hashes, MetadataError> {
        let table = self.object("hashes")?;
        let mut hashes = Hashes::default();
        for algorithm in table.map.keys() {
            let text = table.text(algorithm)?.to_ascii_lowercase();
            let wrong = || table.wrong(&cut(algorithm), "not a hash in hexadecimal characters");
            match algorithm.as_str() {
                "sha256" => hashes.sha256 = Some(Sha256::from_bytes(lower_hex(&text).ok_or_else(wrong)?)),
                "sha512" => hashes.sha512 = Some(lower_hex(&text).ok_or_else(wrong)?),
                _ => {}
            }
        }
        Ok(hashes)
    }

    /// `x-log`, when there is one.
    fn log_head(&self) -> Result<Option<LogHead>, MetadataError> {
        if !self.map.contains_key("x-log") {
            return Ok(None);
        }
        let log = self.object("x-log")?;
        log.only(&["size", "root"], false)?;
        let root = lower_hex(log.text("root")?)
            .ok_or_else(|| log.wrong("root", "not 64 lower-case hexadecimal characters"))?;
        Ok(Some(LogHead { size: log.number("size")?, root: Sha256::from_bytes(root) }))
    }

    fn file_meta(&self) -> Result<FileMeta, MetadataError> {
        self.only(&["version", "length", "hashes"], false)?;
        let version = self.positive("version")?;
        if self.profile == Profile::Strict {
            let hashes = Hashes::of_sha256(self.sha256()?);
            return Ok(FileMeta { version, length: Some(self.number("length")?), hashes });
        }
        let length = self.map.contains_key("length").then(|| self.number("length")).transpose()?;
        let hashes = match self.map.contains_key("hashes") {
            true => self.hashes()?,
            false => return Ok(FileMeta { version, length, hashes: Hashes::default() }),
        };
        match hashes.is_empty() {
            true => Err(self.wrong("hashes", "neither sha256 nor sha512")),
            false => Ok(FileMeta { version, length, hashes }),
        }
    }

    /// `keys`. Ours are Ed25519 only, each under the hash of itself. A foreign key that is of no known kind, or under
    /// another id, counts for nothing (specification 1.0.34, section 4.2: clients verify every key id).
    fn keys(&self) -> Result<Keys, MetadataError> {
        let table = self.object("keys")?;
        if table.map.len() > KEYS_MAX {
            return Err(self.wrong("keys", format!("more than {KEYS_MAX}")));
        }
        let mut keys = Keys::new();
        for (keyid, value) in table.map {
            let key = table.object(keyid)?;
            if self.profile == Profile::Foreign {
                let (keytype, scheme) = (key.text("keytype")?, key.text("scheme")?);
                let public = key.object("keyval")?.text("public")?;
                let found = match sha256(&value.canonical()).to_hex() == *keyid {
                    true => PublicKey::foreign(keytype, scheme, public),
                    false => PublicKey::Unusable,
                };
                keys.insert(KeyId(keyid.clone()), found);
                continue;
            }
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
            keys.insert(id, PublicKey::Ed25519(public));
        }
        Ok(keys)
    }

    /// `keyids` and `threshold`, resolved against `keys`.
    fn role_keys(&self, keys: &Keys) -> Result<RoleKeys, MetadataError> {
        let mut chosen = Keys::new();
        for keyid in self.texts("keyids", KEYS_MAX)? {
            let id = KeyId(keyid.to_owned());
            let key = match (keys.get(&id), self.profile) {
                (Some(key), _) => key.clone(),
                (None, Profile::Foreign) => PublicKey::Unusable,
                (None, Profile::Strict) => {
                    return Err(self.wrong("keyids", format!("{} is not in keys", cut(keyid))));
                }
            };
            if chosen.insert(id, key).is_some() {
                return Err(self.wrong("keyids", format!("names {} twice", cut(keyid))));
            }
        }
        let threshold = self.positive("threshold")?;
        if threshold > chosen.len() as u64 && self.profile == Profile::Strict {
            return Err(self.wrong("threshold", format!("{threshold} of {} keys", chosen.len())));
        }
        Ok(RoleKeys { keys: chosen, threshold: u32::try_from(threshold).unwrap_or(u32::MAX) })
    }
}

impl Root {
    pub(crate) fn parse(signed: &Json, profile: Profile) -> Result<Self, MetadataError> {
        let role = RoleName::root();
        let members = Members::of(&role, profile, "signed", signed)?;
        let header = members.header("root")?;
        let known = ["_type", "spec_version", "version", "expires", "consistent_snapshot", "keys", "roles"];
        members.only(&known, true)?;
        let (repository, repo_id, is_consistent) = match profile {
            Profile::Strict => read_repository(&members)?,
            Profile::Foreign => {
                let is_consistent = match members.map.contains_key("consistent_snapshot") {
                    true => members.boolean("consistent_snapshot")?,
                    false => false,
                };
                (RepositoryProfile::Standard, String::new(), is_consistent)
            }
        };
        let keys = members.keys()?;
        let table = members.object("roles")?;
        table.only(&["root", "targets", "snapshot", "timestamp"], false)?;
        let mut roles = BTreeMap::new();
        for name in [RoleName::root(), RoleName::targets(), RoleName::snapshot(), RoleName::timestamp()] {
            let row = table.object(name.as_str())?;
            row.only(&["keyids", "threshold"], false)?;
            roles.insert(name, row.role_keys(&keys)?);
        }
        // A foreign root may name more roles. Nobody asks for them, but they must be readable.
        for name in table.map.keys() {
            table.object(name)?.role_keys(&keys)?;
        }
        Ok(Self { header, profile: repository, repo_id, is_consistent, roles })
    }

    pub(crate) fn role(&self, role: &RoleName) -> &RoleKeys {
        self.roles.get(role).expect("root was parsed with all four roles")
    }
}

/// What our own root says of its repository.
fn read_repository(members: &Members<'_>) -> Result<(RepositoryProfile, String, bool), MetadataError> {
    members.truth("consistent_snapshot")?;
    let profile = RepositoryProfile::parse(members.text("x-profile")?)
        .ok_or_else(|| members.wrong("x-profile", "not dev, standard or strict"))?;
    let repo_id = members.text("x-repo-id")?;
    if !is_repo_id(repo_id) {
        return Err(members.wrong("x-repo-id", REPO_ID_RULE));
    }
    Ok((profile, repo_id.to_owned(), true))
}

/// The rule of [`is_repo_id`] in words.
pub(crate) const REPO_ID_RULE: &str = "1 to 64 lower-case letters, digits and '-'";

pub(crate) fn is_repo_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl TimestampBody {
    pub(crate) fn parse(signed: &Json, profile: Profile) -> Result<Self, MetadataError> {
        let role = RoleName::timestamp();
        let members = Members::of(&role, profile, "signed", signed)?;
        let header = members.header("timestamp")?;
        members.only(&["_type", "spec_version", "version", "expires", "meta"], true)?;
        let meta = members.object("meta")?;
        meta.only(&["snapshot.json"], false)?;
        if meta.map.len() != 1 {
            return Err(members.wrong("meta", "not the snapshot alone"));
        }
        if profile == Profile::Foreign {
            let snapshot = meta.object("snapshot.json")?.file_meta()?;
            let issued_at = Timestamp::from_millis(0);
            return Ok(Self { header, snapshot, issued_at, retraction_count: 0, retraction_serial: 0, log: None });
        }
        let retractions = members.object("x-retractions")?;
        retractions.only(&["count", "serial"], false)?;
        Ok(Self {
            log: members.log_head()?,
            header,
            snapshot: meta.object("snapshot.json")?.file_meta()?,
            issued_at: Timestamp::from_millis(members.number("x-issued")?),
            retraction_count: retractions.number("count")?,
            retraction_serial: retractions.number("serial")?,
        })
    }
}

impl Snapshot {
    pub(crate) fn parse(signed: &Json, profile: Profile) -> Result<Self, MetadataError> {
        let role = RoleName::snapshot();
        let members = Members::of(&role, profile, "signed", signed)?;
        let header = members.header("snapshot")?;
        members.only(&["_type", "spec_version", "version", "expires", "meta"], true)?;
        let table = members.object("meta")?;
        let files_max = members.at_most(2 * DELEGATIONS_MAX);
        if table.map.len() > files_max {
            return Err(members.wrong("meta", format!("more than {files_max} files")));
        }
        let mut meta = BTreeMap::new();
        for file in table.map.keys() {
            let name = file
                .strip_suffix(".json")
                .and_then(|name| read_name(name, profile).ok())
                .filter(|name| ![RoleName::root(), RoleName::snapshot(), RoleName::timestamp()].contains(name));
            let found = table.object(file)?.file_meta()?;
            match (name, profile) {
                (Some(name), _) => drop(meta.insert(name, found)),
                // Older tools list root here, which has no bearing on anything.
                (None, Profile::Foreign) => {}
                (None, Profile::Strict) => return Err(table.wrong(&cut(file), "not a file of a targets role")),
            }
        }
        if !meta.contains_key(&RoleName::targets()) {
            return Err(table.wrong("targets.json", "missing"));
        }
        Ok(Self { header, meta })
    }
}

impl Targets {
    /// `targets` has delegations and no rows; every other role has rows and no delegations.
    pub(crate) fn parse(role: &RoleName, signed: &Json, profile: Profile) -> Result<Self, MetadataError> {
        let members = Members::of(role, profile, "signed", signed)?;
        let header = members.header("targets")?;
        if profile == Profile::Foreign {
            return Self::parse_foreign(header, &members);
        }
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
        Ok(Self { header, targets, foreign: BTreeMap::new(), delegations, succinct: None })
    }

    /// Rows of any name and delegations on every level.
    fn parse_foreign(header: Header, members: &Members<'_>) -> Result<Self, MetadataError> {
        let table = members.object("targets")?;
        let mut foreign = BTreeMap::new();
        for name in table.map.keys() {
            let row = table.object(name)?;
            foreign.insert(name.clone(), ForeignTarget { length: row.number("length")?, hashes: row.hashes()? });
        }
        let delegations = members.map.contains_key("delegations").then(|| members.object("delegations")).transpose()?;
        let (delegations, succinct) = match delegations {
            Some(members) if members.map.contains_key("succinct_roles") => {
                if members.map.contains_key("roles") {
                    return Err(members.wrong("roles", "beside succinct_roles"));
                }
                (Vec::new(), Some(read_succinct(&members)?))
            }
            Some(members) => (read_delegations(&members)?, None),
            None => (Vec::new(), None),
        };
        Ok(Self { header, targets: BTreeMap::new(), foreign, delegations, succinct })
    }
}

/// A name by the rule of the profile: ours, or any text that is not empty.
fn read_name(name: &str, profile: Profile) -> Result<RoleName, crate::RoleNameError> {
    match profile {
        Profile::Strict => name.parse(),
        Profile::Foreign => RoleName::foreign(name),
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
    let mut taken =
        BTreeSet::from([RoleName::root(), RoleName::targets(), RoleName::snapshot(), RoleName::timestamp()]);
    let mut delegations: Vec<Delegation> = Vec::new();
    for (idx, item) in members.array("roles", members.at_most(DELEGATIONS_MAX))?.iter().enumerate() {
        let row = Members::of(members.role, members.profile, format!("{}.roles[{idx}]", members.at), item)?;
        row.only(&["name", "keyids", "threshold", "paths", "terminating"], false)?;
        let name = read_name(row.text("name")?, row.profile).map_err(|error| row.wrong("name", error.to_string()))?;
        if !taken.insert(name.clone()) {
            return Err(row.wrong("name", format!("{} is taken", cut(name.as_str()))));
        }
        let is_terminating = match row.profile {
            Profile::Strict => row.truth("terminating").map(|()| true)?,
            Profile::Foreign => row.boolean("terminating")?,
        };
        delegations.push(Delegation { name, keys: row.role_keys(&keys)?, paths: read_paths(&row)?, is_terminating });
    }
    Ok(delegations)
}

/// Exactly one of `paths` and, in foreign files, `path_hash_prefixes`.
fn read_paths(row: &Members<'_>) -> Result<Paths, MetadataError> {
    let has_prefixes = row.profile == Profile::Foreign && row.map.contains_key("path_hash_prefixes");
    if has_prefixes && row.map.contains_key("paths") {
        return Err(row.wrong("paths", "beside path_hash_prefixes"));
    }
    if has_prefixes {
        let prefixes = row.texts("path_hash_prefixes", PATHS_MAX)?;
        return Ok(Paths::HashPrefixes(prefixes.into_iter().map(str::to_ascii_lowercase).collect()));
    }
    let paths = row.texts("paths", PATHS_MAX)?;
    if row.profile == Profile::Foreign && paths.iter().any(|path| path.contains('[') || path.contains("**")) {
        // Some clients read a class of characters here, others a bracket; for some two stars cross a slash.
        return Err(row.wrong("paths", "a pattern with '[' or '**' means different things to different clients"));
    }
    if row.profile == Profile::Strict && !paths.iter().all(|path| path.is_ascii()) {
        return Err(row.wrong("paths", "not ASCII texts"));
    }
    Ok(Paths::Patterns(paths.into_iter().map(str::to_owned).collect()))
}

/// `succinct_roles`: bins by the hash of the target's name.
fn read_succinct(members: &Members<'_>) -> Result<Succinct, MetadataError> {
    let keys = members.keys()?;
    let row = members.object("succinct_roles")?;
    let bits = row.positive("bit_length")?;
    let prefix = row.text("name_prefix")?;
    match u32::try_from(bits) {
        Ok(bits @ 1..=32) if !prefix.is_empty() => {
            Ok(Succinct { keys: row.role_keys(&keys)?, bits, prefix: prefix.to_owned() })
        }
        _ => Err(row.wrong("bit_length", "not 1 to 32 with a name_prefix")),
    }
}
