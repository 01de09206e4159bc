//! A repository in the hands of somebody who holds its keys: an owner who rotates, or an attacker who stole some.
//!
//! Signs whatever it is told to, without our writer and without any check: what a client takes is the client's decision.

use serde_json::{Map, Value, json};
use sluice_metadata::Signer;
use sluice_model::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

const SNAPSHOT: &str = "snapshot";
const TIMESTAMP: &str = "timestamp";

/// Files as a server would serve them, and the means to sign more.
#[derive(Clone)]
pub struct Forge {
    /// Below `/tuf/metadata/`.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The newest signed part of each role.
    signed: BTreeMap<String, Value>,
    /// Who signs each role.
    pub keys: BTreeMap<String, Vec<Signer>>,
    pub now: Timestamp,
    pub lease: Duration,
}

/// Canonical JSON as TUF signs it: members in order, no spaces, only quotes and backslashes escaped.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
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

/// Signs a body as it is.
pub fn envelope(signed: &Value, signers: &[Signer]) -> Vec<u8> {
    let text = canonical(signed);
    let signatures: Vec<Value> = signers
        .iter()
        .map(|signer| json!({"keyid": signer.key_id().as_str(), "sig": hex(&signer.sign(text.as_bytes()))}))
        .collect();
    canonical(&json!({"signatures": signatures, "signed": signed})).into_bytes()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

fn key_of(signer: &Signer) -> Value {
    json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": hex(&signer.public_key())}})
}

/// A key from a number: different in every role and rotation, the same in every run.
pub fn new_key(number: u8) -> Signer {
    Signer::from_seed([number; 32])
}

impl Forge {
    /// Takes over `files` (every root, and the newest of each other role) with the keys of each role.
    pub fn new(files: BTreeMap<String, Vec<u8>>, keys: BTreeMap<String, Vec<Signer>>, now: Timestamp) -> Self {
        let mut signed: BTreeMap<String, Value> = BTreeMap::new();
        for (name, bytes) in &files {
            let file: Value = serde_json::from_slice(bytes).unwrap();
            let body = file["signed"].clone();
            let parts: Vec<&str> = name.split('.').collect();
            let role = if parts.len() == 3 { parts[1] } else { parts[0] };
            let is_newer = signed.get(role).is_none_or(|old| old["version"].as_u64() < body["version"].as_u64());
            if is_newer {
                signed.insert(role.to_owned(), body);
            }
        }
        Self { files, signed, keys, now, lease: Duration::from_secs(24 * 3_600) }
    }

    pub fn signed(&self, role: &str) -> &Value {
        &self.signed[role]
    }

    pub fn version(&self, role: &str) -> u64 {
        self.signed[role]["version"].as_u64().unwrap()
    }

    fn expiry(&self, after: Duration) -> Value {
        json!(self.now.plus(after).to_seconds_text())
    }

    /// The next version of a targets role, changed and signed, under a new snapshot and timestamp.
    pub fn change(&mut self, role: &str, change: impl FnOnce(&mut Map<String, Value>)) {
        let signers = self.keys[role].clone();
        self.change_with(role, &signers, change);
    }

    /// The same, signed by `signers` and nobody else.
    pub fn change_with(&mut self, role: &str, signers: &[Signer], change: impl FnOnce(&mut Map<String, Value>)) {
        self.put_role(role, signers, change);
        self.seal();
    }

    /// The next version of a targets role, and what a snapshot has to say of it. No snapshot names it yet.
    pub fn put_role(&mut self, role: &str, signers: &[Signer], change: impl FnOnce(&mut Map<String, Value>)) {
        let expires = self.expiry(Duration::from_secs(30 * 24 * 3_600));
        let version = self.version(role) + 1;
        let body = self.signed.get_mut(role).unwrap().as_object_mut().unwrap();
        body.insert("version".into(), json!(version));
        body.insert("expires".into(), expires);
        change(body);
        let bytes = envelope(&self.signed[role], signers);
        let version = self.version(role);
        let meta = meta_of(version, &bytes);
        self.files.insert(format!("{version}.{role}.json"), bytes);
        self.signed.get_mut(SNAPSHOT).unwrap()["meta"][format!("{role}.json")] = meta;
    }

    /// A new snapshot of the roles as they are, and a timestamp over it.
    pub fn seal(&mut self) {
        self.seal_with(|_| {}, |_| {});
    }

    /// The same with changes of the signed parts.
    pub fn seal_with(
        &mut self,
        snapshot: impl FnOnce(&mut Map<String, Value>),
        timestamp: impl FnOnce(&mut Map<String, Value>),
    ) {
        let expires = self.expiry(Duration::from_secs(7 * 24 * 3_600));
        let version = self.version(SNAPSHOT) + 1;
        let body = self.signed.get_mut(SNAPSHOT).unwrap().as_object_mut().unwrap();
        body.insert("version".into(), json!(version));
        body.insert("expires".into(), expires);
        snapshot(body);
        let bytes = envelope(&self.signed[SNAPSHOT], &self.keys[SNAPSHOT]);
        let version = self.version(SNAPSHOT);
        let meta = meta_of(version, &bytes);
        self.files.insert(format!("{version}.snapshot.json"), bytes);
        self.stamp_with(|body| {
            body.insert("meta".into(), json!({"snapshot.json": meta}));
            timestamp(body);
        });
    }

    /// A fresh timestamp, changed, over whatever snapshot it names.
    pub fn stamp_with(&mut self, change: impl FnOnce(&mut Map<String, Value>)) {
        let expires = self.expiry(self.lease);
        let version = self.version(TIMESTAMP) + 1;
        let (count, serial) = self.retractions();
        let issued = self.now.as_millis();
        let body = self.signed.get_mut(TIMESTAMP).unwrap().as_object_mut().unwrap();
        body.insert("version".into(), json!(version));
        body.insert("expires".into(), expires);
        body.insert("x-issued".into(), json!(issued));
        body.insert("x-retractions".into(), json!({"count": count, "serial": serial}));
        change(body);
        let bytes = envelope(&self.signed[TIMESTAMP], &self.keys[TIMESTAMP]);
        self.files.insert("timestamp.json".into(), bytes);
    }

    fn retractions(&self) -> (u64, u64) {
        let rows = self.signed["retractions"]["targets"].as_object().unwrap();
        let serials = rows.keys().filter_map(|name| name.rsplit('/').next()?.parse::<u64>().ok());
        serials.fold((0, 0), |(count, highest), serial| (count + 1, highest.max(serial)))
    }

    /// The next root, in which each of `roles` has these keys and this threshold, signed by the old and the new root
    /// keys. What those roles sign is signed anew by [`Forge::resign`].
    pub fn rotate_root(&mut self, roles: &[(&str, Vec<Signer>, u64)]) {
        let old = self.keys["root"].clone();
        self.set_root(roles);
        let signers: Vec<Signer> = self.keys["root"].iter().chain(&old).cloned().collect();
        self.put_root(&distinct(&signers));
    }

    /// Changes the root's body, and our keys, without signing it.
    pub fn set_root(&mut self, roles: &[(&str, Vec<Signer>, u64)]) {
        for (role, signers, threshold) in roles {
            self.keys.insert((*role).to_owned(), signers.clone());
            let keyids: Vec<String> = signers.iter().map(id).collect();
            let root = self.signed.get_mut("root").unwrap();
            root["roles"][role] = json!({"keyids": keyids, "threshold": threshold});
            for signer in signers {
                root["keys"][id(signer)] = key_of(signer);
            }
        }
        let root = self.signed.get_mut("root").unwrap();
        let named: Vec<String> = root["roles"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|role| role["keyids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()))
            .collect();
        root["keys"].as_object_mut().unwrap().retain(|id, _| named.contains(id));
        let version = self.version("root") + 1;
        self.signed.get_mut("root").unwrap()["version"] = json!(version);
    }

    /// Stores the root as it is, signed by `signers`.
    pub fn put_root(&mut self, signers: &[Signer]) {
        let bytes = envelope(&self.signed["root"], signers);
        self.files.insert(format!("{}.root.json", self.version("root")), bytes);
    }

    /// Every targets role in a new version by its present keys; snapshot and timestamp above them.
    pub fn resign(&mut self) {
        for role in self.targets_roles() {
            let signers = self.keys[&role].clone();
            self.put_role(&role, &signers, |_| {});
        }
        self.seal();
    }

    fn targets_roles(&self) -> Vec<String> {
        let above = ["root", SNAPSHOT, TIMESTAMP];
        self.signed.keys().filter(|role| !above.contains(&role.as_str())).cloned().collect()
    }

    /// Gives a delegated role other keys: the next version of `targets`, and of the role.
    pub fn rotate_delegation(&mut self, role: &str, signers: Vec<Signer>, threshold: u64) {
        let keyids: Vec<String> = signers.iter().map(id).collect();
        let by = self.keys["targets"].clone();
        self.put_role("targets", &by, |body| {
            let delegations = &mut body["delegations"];
            for signer in &signers {
                delegations["keys"][id(signer)] = key_of(signer);
            }
            let row = delegations["roles"].as_array_mut().unwrap().iter_mut().find(|row| row["name"] == role).unwrap();
            row["keyids"] = json!(keyids);
            row["threshold"] = json!(threshold);
        });
        self.keys.insert(role.to_owned(), signers.clone());
        self.put_role(role, &signers, |_| {});
        self.seal();
    }

    /// One more tombstone for the content of `target`.
    pub fn retract(&mut self, target: &str) {
        let row = self.signed["rel-production"]["targets"][target].clone();
        let serial = self.retractions().1 + 1;
        let custom = &row["custom"]["patch"];
        let tombstone = json!({
            "schema": 1,
            "serial": serial,
            "patch": format!("{}/{}", custom["patch"].as_str().unwrap(), custom["patch_version"].as_str().unwrap()),
            "content": [{"sha256": row["hashes"]["sha256"], "blake3": custom["blake3"]}],
            "reason": "a scenario",
            "by": "ann",
            "at": self.now.as_millis(),
        });
        let bytes = canonical(&tombstone).into_bytes();
        let row =
            json!({"length": bytes.len(), "hashes": {"sha256": sha256(&bytes)}, "custom": {"tombstone": tombstone}});
        self.change("retractions", |body| {
            body["targets"][format!("retractions/{serial}")] = row;
        });
    }
}

fn meta_of(version: u64, bytes: &[u8]) -> Value {
    json!({"version": version, "length": bytes.len(), "hashes": {"sha256": sha256(bytes)}})
}

fn distinct(signers: &[Signer]) -> Vec<Signer> {
    let by_id: BTreeMap<String, Signer> = signers.iter().map(|signer| (id(signer), signer.clone())).collect();
    by_id.into_values().collect()
}

fn id(signer: &Signer) -> String {
    signer.key_id().as_str().to_owned()
}
