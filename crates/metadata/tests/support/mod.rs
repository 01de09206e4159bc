//! A repository to play with: a real writer, and a forger that edits files and signs them again with the real keys.
#![allow(dead_code, clippy::unwrap_used)]

use serde_json::{Value, json};
use sluice_metadata::{
    InitParams, Keyring, MetadataError, Profile, Publication, RepositoryProfile, RoleName, Signer, TargetEntry,
    Trusted, Writer, dev_roles,
};
use sluice_model::{RingName, Sha256, TargetName, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

pub const LEASE: Duration = Duration::from_secs(24 * 60 * 60);

pub fn start() -> Timestamp {
    "2026-11-21T20:37:00Z".parse().unwrap()
}

pub fn rings() -> Vec<RingName> {
    ["validation", "pilot", "production"].iter().map(|ring| ring.parse().unwrap()).collect()
}

pub fn role(name: &str) -> RoleName {
    name.parse().unwrap()
}

/// One key a role, the same in every test.
pub fn keyring() -> Keyring {
    let mut keyring = Keyring::default();
    for (idx, role) in dev_roles(&rings()).into_iter().enumerate() {
        keyring.insert(role, Signer::from_seed([idx as u8 + 1; 32]));
    }
    keyring
}

pub fn init() -> (Writer, Publication) {
    let params = InitParams {
        repo_id: "test-repo".into(),
        profile: RepositoryProfile::Dev,
        rings: rings(),
        now: start(),
        lease: LEASE,
    };
    Writer::init(params, &keyring()).unwrap()
}

pub fn sha256(bytes: &[u8]) -> Sha256 {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    Sha256::from_bytes(digest.as_ref().try_into().unwrap())
}

pub fn patch(ring: &str, file: &str, serial: u64) -> (TargetName, TargetEntry) {
    let name = format!("patches/{ring}/{file}").parse().unwrap();
    let custom = json!({"patch": {
        "schema": 1, "patch": "openssl", "patch_version": "3.0.22-1", "blake3": "11".repeat(32), "sha512": "22".repeat(64),
        "manifest": {"blake3": "33".repeat(32), "length": 52, "chunker": "fastcdc-2020/64K-256K-1M"},
        "artifact": {"kind": "deb", "package": "openssl", "version": "3.0.22-1", "architecture": "amd64"},
        "set": {"index": 0, "count": 1}, "severity": "critical", "cves": ["CVE-2026-12345"], "supersedes": [],
        "approved_serial": serial, "approved_at": 1_795_000_000_000u64,
    }});
    (name, TargetEntry { length: 64_000, sha256: sha256(file.as_bytes()), custom: Some(custom) })
}

pub fn tombstone(serial: u64) -> (TargetName, TargetEntry) {
    let custom = json!({"tombstone": {
        "schema": 1, "serial": serial, "patch": "openssl/3.0.22-1",
        "content": [{"sha256": "44".repeat(32), "blake3": "11".repeat(32)}],
        "reason": "crashes\nat \"boot\" \\ é", "by": "rita", "at": 1_795_000_000_000u64,
    }});
    let name = format!("retractions/{serial}").parse().unwrap();
    (name, TargetEntry { length: 10, sha256: sha256(b"tombstone"), custom: Some(custom) })
}

pub fn document(name: &str, bytes: &[u8]) -> (TargetName, TargetEntry) {
    let entry = TargetEntry { length: bytes.len() as u64, sha256: sha256(bytes), custom: None };
    (name.parse().unwrap(), entry)
}

/// The files of one state, as a mirror would serve them.
#[derive(Clone)]
pub struct Forge {
    pub files: BTreeMap<String, Vec<u8>>,
    pub keyring: Keyring,
}

impl Forge {
    pub fn of(writer: &Writer) -> Self {
        let files = writer.trusted().files().into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect();
        Self { files, keyring: keyring() }
    }

    pub fn file_of(&self, role: &str) -> String {
        let matches = |name: &&String| match role {
            "timestamp" => *name == "timestamp.json",
            _ => name.strip_suffix(&format!(".{role}.json")).is_some_and(|version| version.parse::<u64>().is_ok()),
        };
        self.files.keys().filter(matches).max_by_key(|name| version_in(name)).unwrap().clone()
    }

    pub fn bytes_of(&mut self, role: &str) -> &mut Vec<u8> {
        let file = self.file_of(role);
        self.files.get_mut(&file).unwrap()
    }

    /// Edits the signed part and signs it again with the role's keys; what refers to it is not touched.
    pub fn edit(&mut self, name: &str, change: impl FnOnce(&mut Value)) -> &mut Self {
        let file = self.file_of(name);
        let mut value: Value = serde_json::from_slice(&self.files[&file]).unwrap();
        change(&mut value["signed"]);
        let bytes = sign(&value["signed"], self.keyring.signers(&role(name)));
        let version = value["signed"]["version"].as_u64().unwrap();
        let file = if name == "timestamp" { file } else { format!("{version}.{name}.json") };
        self.files.insert(file, bytes);
        self
    }

    /// Makes the snapshot name this role's newest file and the timestamp the snapshot, all signed; versions stay.
    pub fn relink(&mut self, names: &[&str]) -> &mut Self {
        for name in names {
            let meta = self.meta_of(name);
            self.edit("snapshot", |signed| signed["meta"][format!("{name}.json")] = meta);
        }
        let meta = self.meta_of("snapshot");
        self.edit("timestamp", |signed| signed["meta"]["snapshot.json"] = meta)
    }

    /// As [`Forge::relink`], with a new version of snapshot and timestamp.
    pub fn republish(&mut self, names: &[&str]) -> &mut Self {
        self.edit("snapshot", bump).edit("timestamp", bump).relink(names)
    }

    pub fn meta_of(&self, name: &str) -> Value {
        let file = self.file_of(name);
        let bytes = &self.files[&file];
        let hash = sha256(bytes).to_hex();
        json!({"version": version_in(&file), "length": bytes.len(), "hashes": {"sha256": hash}})
    }

    pub fn read(&self) -> impl FnMut(&str) -> Option<Vec<u8>> + '_ {
        |name| self.files.get(name).cloned()
    }

    /// What a client that begins with the first root says.
    pub fn verify_from_root(&self, now: Timestamp) -> Result<Trusted, MetadataError> {
        let trusted = Trusted::new(&self.files["1.root.json"], Profile::Strict)?;
        Ok(trusted.apply(&mut self.read(), now)?.trusted)
    }
}

pub fn bump(signed: &mut Value) {
    signed["version"] = json!(signed["version"].as_u64().unwrap() + 1);
}

fn version_in(name: &str) -> u64 {
    name.split('.').next().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Signs with a canonical form that was written apart from the crate's own.
pub fn sign(signed: &Value, signers: &[Signer]) -> Vec<u8> {
    let canonical = canonical(signed);
    let signatures: Vec<Value> = signers
        .iter()
        .map(|key| json!({"keyid": key.key_id().as_str(), "sig": hex::encode(key.sign(canonical.as_bytes()))}))
        .collect();
    serde_json::to_vec(&json!({"signatures": signatures, "signed": signed})).unwrap()
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            let members: Vec<String> =
                sorted.iter().map(|(key, value)| format!("{}:{}", quoted(key), canonical(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A repository that is not one of ours, in parts: each role has the key that its name makes.
pub mod foreign {
    use super::*;

    pub fn key(name: &str) -> Signer {
        Signer::from_seed(*sha256(name.as_bytes()).as_bytes())
    }

    pub fn keys(names: &[&str]) -> Value {
        let row = |name: &&str| {
            let key = key(name);
            let public = hex::encode(key.public_key());
            (key.key_id().to_string(), json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}}))
        };
        names.iter().map(row).collect::<serde_json::Map<String, Value>>().into()
    }

    /// A row of `delegations.roles`; `field` is `paths` or `path_hash_prefixes`.
    pub fn delegated(name: &str, field: &str, paths: &[&str], is_terminating: bool) -> Value {
        json!({"name": name, "keyids": [key(name).key_id().as_str()], "threshold": 1, field: paths,
            "terminating": is_terminating})
    }

    pub fn row(text: &str) -> Value {
        json!({"length": text.len(), "hashes": {"sha256": sha256(text.as_bytes()).to_hex()}})
    }

    fn header(kind: &str) -> Value {
        json!({"_type": kind, "spec_version": "1.0.31", "version": 1, "expires": "2027-01-01T00:00:00Z"})
    }

    pub fn targets(rows: Value, delegations: Value) -> Value {
        let mut signed = header("targets");
        signed["targets"] = rows;
        signed["delegations"] = delegations;
        signed
    }

    /// `parts` are the targets roles by name; the rest is made around them.
    pub fn repository(parts: &[(&str, Value)]) -> Forge {
        let top = ["root", "timestamp", "snapshot", "targets"];
        let mut keyring = Keyring::default();
        for name in top.iter().chain(parts.iter().map(|(name, _)| name)).filter(|name| name.parse::<RoleName>().is_ok())
        {
            keyring.insert(role(name), key(name));
        }
        let mut forge = Forge { files: BTreeMap::new(), keyring };
        let mut root = header("root");
        root["consistent_snapshot"] = json!(true);
        root["keys"] = keys(&top);
        let holder =
            |name: &&str| ((*name).to_owned(), json!({"keyids": [key(name).key_id().as_str()], "threshold": 1}));
        root["roles"] = top.iter().map(holder).collect();
        forge.files.insert("1.root.json".into(), sign(&root, &[key("root")]));
        let mut snapshot = header("snapshot");
        snapshot["meta"] = json!({});
        for (name, signed) in parts {
            forge.files.insert(format!("1.{name}.json"), sign(signed, &[key(name)]));
            snapshot["meta"][format!("{name}.json")] = forge.meta_of(name);
        }
        forge.files.insert("1.snapshot.json".into(), sign(&snapshot, &[key("snapshot")]));
        let mut timestamp = header("timestamp");
        timestamp["meta"] = json!({"snapshot.json": forge.meta_of("snapshot")});
        forge.files.insert("timestamp.json".into(), sign(&timestamp, &[key("timestamp")]));
        forge
    }
}
