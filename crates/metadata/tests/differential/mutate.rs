//! What attackers and careless repositories do to files: edits that are signed again, raw damage, mixtures of states, new
//! roots. The same seed makes the same case.

use crate::support::{Forge, bump, role, sha256};
use serde_json::{Map, Value, json};
use sluice_metadata::Signer;

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn is_one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }
}

/// Changes `forge` in one to three places; says whether root changed, and how, for the report of a failure.
pub fn mutate(forge: &mut Forge, older: &[Forge], rng: &mut Rng) -> Vec<String> {
    let count = 1 + rng.below(3);
    (0..count).map(|_| one(forge, older, rng)).collect()
}

fn one(forge: &mut Forge, older: &[Forge], rng: &mut Rng) -> String {
    let names = roles(forge);
    if names.is_empty() {
        return "nothing is left".into();
    }
    let name = rng.pick(&names);
    match rng.below(20) {
        0 => {
            let bytes = forge.bytes_of(&name);
            damage(bytes, rng);
            format!("damage {name}")
        }
        1 if !older.is_empty() => {
            let other = rng.pick(older);
            if roles(&other).contains(&name) {
                let from = other.file_of(&name);
                let to = if rng.is_one_in(2) { forge.file_of(&name) } else { from.clone() };
                forge.files.insert(to, other.files[&from].clone());
            }
            link(forge, &name, rng);
            format!("older {name}")
        }
        2 => {
            let file = forge.file_of(&name);
            forge.files.remove(&file);
            format!("remove {file}")
        }
        3 => root(forge, rng),
        // Nothing but a new publication: honest repositories must pass.
        4 => {
            edit_if_whole(forge, &name, bump_if_number);
            link(forge, &name, rng);
            format!("publish {name}")
        }
        _ => {
            let said = edit(forge, &name, rng);
            if !rng.is_one_in(6) {
                link(forge, &name, rng);
            }
            said
        }
    }
}

fn roles(forge: &Forge) -> Vec<String> {
    let name = |file: &String| {
        let stem = file.strip_suffix(".json").unwrap();
        stem.split_once('.').map_or(stem, |(_, name)| name).to_owned()
    };
    let mut names: Vec<String> = forge.files.keys().map(name).filter(|name| name != "root").collect();
    names.sort();
    names.dedup();
    names
}

fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(bytes.len().max(1));
    match rng.below(4) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
        1 => bytes.truncate(at),
        2 => bytes.extend_from_slice(rng.pick(&[b" ".as_slice(), b"\n\n", b"{}", b"\0"])),
        _ => bytes.insert(at, rng.pick(b" \"{}[]0,:\\")),
    }
}

/// Changes the signed part somewhere and signs it again, as a rule with the right keys.
fn edit(forge: &mut Forge, name: &str, rng: &mut Rng) -> String {
    let file = forge.file_of(name);
    let Ok(mut value) = serde_json::from_slice::<Value>(&forge.files[&file]) else { return "no JSON".into() };
    let Some(signed) = value.get_mut("signed").filter(|signed| signed.is_object()) else { return "no part".into() };
    let said = if rng.is_one_in(2) { known(signed, rng) } else { anywhere(signed, rng) };
    let version = signed["version"].as_u64();
    let signers = forge.keyring.signers(&role(name)).to_vec();
    let bytes = sign(&value, &signers, rng);
    let file = match version {
        Some(version) if name != "timestamp" && !rng.is_one_in(8) => format!("{version}.{name}.json"),
        _ => file,
    };
    forge.files.insert(file, bytes);
    format!("{name}: {said}")
}

/// Changes that have a meaning.
fn known(signed: &mut Value, rng: &mut Rng) -> String {
    let times = ["2020-01-01T00:00:00Z", "2026-11-21T20:40:00Z", "2050-01-01T00:00:00Z", "2027-01-01T00:00:00.5Z"];
    match rng.below(6) {
        0 => {
            let version = signed["version"].as_u64().unwrap_or(1);
            let next = rng.pick(&[version.saturating_add(1), version.saturating_sub(1), 0, 1, (1 << 53) - 1, u64::MAX]);
            signed["version"] = json!(next);
            format!("version {next}")
        }
        1 => {
            signed["expires"] = json!(rng.pick(&times));
            format!("expires {}", signed["expires"])
        }
        2 => {
            signed["spec_version"] = json!(rng.pick(&["1.0.0", "1", "1.0", "2.0.0", "1.1.7"]));
            "spec_version".into()
        }
        3 => {
            signed["_type"] = json!(rng.pick(&["root", "timestamp", "snapshot", "targets", "Targets"]));
            "_type".into()
        }
        4 => entry(signed, rng),
        _ => delegation(signed, rng),
    }
}

/// A row of `meta` or `targets`: gone, doubled under another name, or another length, version or hash.
fn entry(signed: &mut Value, rng: &mut Rng) -> String {
    let table = if signed.get("meta").is_some() { "meta" } else { "targets" };
    let Some(Value::Object(rows)) = signed.get_mut(table) else { return "no table".into() };
    let names: Vec<String> = rows.keys().cloned().collect();
    if names.is_empty() {
        return "no rows".into();
    }
    let name = rng.pick(&names);
    let copy = rows[&name].clone();
    match rng.below(6) {
        0 => drop(rows.remove(&name)),
        1 => drop(rows.insert(rng.pick(&names), copy)),
        2 => drop(rows.insert(rng.pick(&["extra.json", "a/new", "patches/pilot/new.deb"]).into(), copy)),
        3 => put(&mut rows[&name], "length", json!(rng.below(100_000))),
        4 => {
            let hashes = [json!({"sha256": "00".repeat(32)}), json!({"md5": "00"}), json!({})];
            put(&mut rows[&name], "hashes", rng.pick(&hashes));
        }
        _ => put(&mut rows[&name], "version", json!(rng.below(4))),
    }
    format!("row {name}")
}

fn delegation(signed: &mut Value, rng: &mut Rng) -> String {
    let Some(Value::Array(rows)) = signed.pointer_mut("/delegations/roles") else { return "no delegations".into() };
    if rows.is_empty() {
        return "no delegations".into();
    }
    let (one, other) = (rng.below(rows.len()), rng.below(rows.len()));
    match rng.below(8) {
        0 => rows.swap(one, other),
        1 => put(&mut rows[one], "terminating", json!(rng.is_one_in(2))),
        2 => {
            let pattern = rng.pick(&["*", "*/*", "*/*/*", "a/*", "a/?", "**"]);
            put(&mut rows[one], "paths", json!([pattern]));
        }
        3 | 5 => {
            let key = if rng.is_one_in(2) { "keyids" } else { "name" };
            let value = rows[other][key].clone();
            put(&mut rows[one], key, value);
        }
        4 => put(&mut rows[one], "threshold", json!(rng.below(3))),
        6 => drop(rows.remove(one)),
        _ => {
            let mut keyids = rows[one]["keyids"].as_array().cloned().unwrap_or_default();
            keyids.extend(keyids.first().cloned());
            put(&mut rows[one], "keyids", keyids.into());
        }
    }
    "delegation".into()
}

/// Sets a member; an earlier change may have left something else than an object.
fn put(value: &mut Value, key: &str, member: Value) {
    if let Value::Object(members) = value {
        members.insert(key.to_owned(), member);
    }
}

/// A change at any node, without regard for meaning.
fn anywhere(signed: &mut Value, rng: &mut Rng) -> String {
    let mut paths = Vec::new();
    pointers(signed, String::new(), &mut paths);
    let at = rng.pick(&paths);
    let other = signed.pointer(&rng.pick(&paths)).cloned();
    let node = signed.pointer_mut(&at).unwrap();
    let values = [json!(0), json!(1), json!(-1), json!(""), json!("x"), json!(true), json!(null), json!([]), json!({})];
    match (rng.below(4), &mut *node) {
        (0, Value::Object(members)) => {
            members.insert(rng.pick(&["x-new", "extra", "custom", "length"]).into(), rng.pick(&values));
        }
        (1, Value::Object(members)) if !members.is_empty() => {
            let keys: Vec<String> = members.keys().cloned().collect();
            members.remove(&rng.pick(&keys));
        }
        (2, _) => *node = other.unwrap_or(Value::Null),
        (_, Value::Array(items)) if !items.is_empty() => {
            let copy = items[rng.below(items.len())].clone();
            items.push(copy);
        }
        (_, Value::String(text)) if !text.is_empty() && rng.is_one_in(2) => {
            let mut bytes = text.clone().into_bytes();
            let at = rng.below(bytes.len());
            bytes[at] = rng.pick(b"0aZ/*?.");
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        _ => *node = rng.pick(&values),
    }
    format!("at {at}")
}

fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    found.push(at.clone());
    match value {
        Value::Object(members) => members.iter().for_each(|(key, member)| {
            pointers(member, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(idx, item)| pointers(item, format!("{at}/{idx}"), found));
        }
        _ => {}
    }
}

fn sign(value: &Value, signers: &[Signer], rng: &mut Rng) -> Vec<u8> {
    let stale = value["signatures"].clone();
    let mut signed: Value =
        serde_json::from_slice(&crate::support::sign(&value["signed"], signers)).expect("it was just written");
    let signatures = signed["signatures"].as_array_mut().expect("they were just written");
    match rng.below(24) {
        0 => drop(signatures.pop()),
        1 => return serde_json::to_vec(&json!({"signatures": stale, "signed": value["signed"]})).unwrap(),
        2 => signatures.extend(signatures.first().cloned()),
        3 => signatures.push(json!({"keyid": "00".repeat(32), "sig": "00"})),
        4 => signatures.iter_mut().for_each(|row| row["sig"] = json!(row["sig"].as_str().unwrap().to_uppercase())),
        5 => return crate::support::sign(&value["signed"], &[Signer::from_seed([99; 32])]),
        // Two meanings: the last of two equal keys counts for many parsers.
        6 => {
            let text = serde_json::to_string(&signed).unwrap();
            return text.replacen("\"version\":", "\"version\":77,\"version\":", 1).into_bytes();
        }
        _ => {}
    }
    serde_json::to_vec(&signed).unwrap()
}

/// Makes snapshot and timestamp name the newest file of `name`, signed, with or without hashes and lengths.
fn link(forge: &mut Forge, name: &str, rng: &mut Rng) {
    let is_bumped = !rng.is_one_in(4);
    let is_full = !rng.is_one_in(3);
    let meta = |forge: &Forge, name: &str| {
        let mut meta = forge.meta_of(name);
        if !is_full {
            meta.as_object_mut().unwrap().retain(|key, _| key == "version");
        }
        meta
    };
    let here = roles(forge);
    let is_here = |name: &str| here.iter().any(|role| role == name);
    if !matches!(name, "timestamp" | "snapshot") && is_here(name) {
        let row = meta(forge, name);
        edit_if_whole(forge, "snapshot", |signed| {
            if is_bumped {
                bump_if_number(signed);
            }
            set(signed, &format!("{name}.json"), row);
        });
    }
    if name != "timestamp" && is_here("snapshot") {
        let row = meta(forge, "snapshot");
        edit_if_whole(forge, "timestamp", |signed| {
            if is_bumped {
                bump_if_number(signed);
            }
            set(signed, "snapshot.json", row);
        });
    }
}

fn edit_if_whole(forge: &mut Forge, name: &str, change: impl FnOnce(&mut Value)) {
    if !roles(forge).iter().any(|role| role == name) {
        return;
    }
    let value = serde_json::from_slice::<Value>(&forge.files[&forge.file_of(name)]);
    if value.is_ok_and(|value| value["signed"]["version"].is_u64()) {
        forge.edit(name, change);
    }
}

fn bump_if_number(signed: &mut Value) {
    if let Some(version) = signed["version"].as_u64().filter(|version| *version < 1 << 53) {
        signed["version"] = json!(version + 1);
    }
}

fn set(signed: &mut Value, file: &str, row: Value) {
    match signed.get_mut("meta") {
        Some(Value::Object(rows)) => drop(rows.insert(file.to_owned(), row)),
        _ => signed["meta"] = Value::Object(Map::from_iter([(file.to_owned(), row)])),
    }
}

/// The next root: one role with another key, one more key, or another threshold; signed by old and new, or not.
fn root(forge: &mut Forge, rng: &mut Rng) -> String {
    let name = rng.pick(&["root", "timestamp", "snapshot", "targets"]);
    let fresh = Signer::from_seed([100 + rng.below(100) as u8; 32]);
    let kind = rng.below(4);
    let old = forge.keyring.signers(&role("root")).to_vec();
    let file = forge.file_of("root");
    let mut value: Value = serde_json::from_slice(&forge.files[&file]).unwrap();
    let signed = &mut value["signed"];
    bump(signed);
    let id = match rng.below(10) {
        0 => sha256(b"another key").to_hex(),
        _ => fresh.key_id().to_string(),
    };
    let public = hex::encode(fresh.public_key());
    signed["keys"][&id] = json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}});
    match kind {
        0 | 1 => signed["roles"][name]["keyids"] = json!([id]),
        2 => signed["roles"][name]["keyids"].as_array_mut().unwrap().push(json!(id)),
        _ => signed["roles"][name]["threshold"] = json!(rng.below(3)),
    }
    if kind < 3 {
        forge.keyring.insert(role(name), fresh.clone());
    }
    let mut signers = old;
    if name == "root" && kind < 3 {
        signers.push(fresh);
    }
    if rng.is_one_in(6) {
        signers.pop();
    }
    let version = signed["version"].as_u64().unwrap();
    forge.files.insert(format!("{version}.root.json"), crate::support::sign(signed, &signers));
    if name != "root" && !rng.is_one_in(4) {
        edit_if_whole(forge, name, bump_if_number);
        link(forge, name, rng);
    }
    format!("root {name} {kind}")
}
