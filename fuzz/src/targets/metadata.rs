//! Signed metadata: files as they come, bodies that are signed rightly, and the JSON below both.

use super::repository::{Repository, repository};
use super::shape;
use sluice_metadata::{Applied, MetadataError, Profile, Trusted, View, json_forms};

/// The bytes as each file that a client asks for, by a client that knows the root only and by one that is up to date.
pub fn raw(input: &[u8]) -> String {
    let repository = repository();
    let root = Trusted::new(input, Profile::Strict);
    let said = match &root {
        Ok(trusted) => {
            let files = trusted.files();
            Trusted::restore(&files, Profile::Strict, &[]).expect("a root that was taken can be restored");
            "a root".to_owned()
        }
        Err(error) => shape(error),
    };
    let foreign = Trusted::new(input, Profile::Foreign).map_or_else(shape, |_| "a foreign root".into());
    let file = shape_of_type(input).unwrap_or("timestamp");
    let fresh = give(repository, &repository.fresh, file, input);
    let current = give(repository, &repository.trusted, file, input);
    [said, foreign, fresh, current].join("|")
}

/// The input is what is signed, by the right keys: the checks behind the signature.
pub fn signed(input: &[u8]) -> String {
    let repository = repository();
    let forms = match json_forms(input) {
        Ok(forms) => forms,
        Err(error) => return shape(error),
    };
    let role = role_of(&forms.value);
    let signatures: Vec<serde_json::Value> = repository
        .signers(role)
        .iter()
        .map(|signer| {
            let sig: String = signer.sign(&forms.canonical).iter().map(|byte| format!("{byte:02x}")).collect();
            serde_json::json!({"keyid": signer.key_id().as_str(), "sig": sig})
        })
        .collect();
    let mut file = format!("{{\"signatures\":{},\"signed\":", serde_json::Value::from(signatures)).into_bytes();
    file.extend_from_slice(&forms.stored);
    file.push(b'}');
    let root = if role == "root" {
        Trusted::new(&file, Profile::Strict).map_or_else(shape, |_| "a root".into())
    } else {
        String::new()
    };
    [root, give(repository, &repository.fresh, role, &file), give(repository, &repository.trusted, role, &file)]
        .join("|")
}

/// What is read has one meaning: for us, for serde_json, and after it was written and read again.
pub fn canonical_json(input: &[u8]) -> String {
    let forms = match json_forms(input) {
        Ok(forms) => forms,
        Err(error) => return shape(error),
    };
    let theirs: serde_json::Value = serde_json::from_slice(input).expect("we read what serde_json refuses");
    assert_eq!(forms.value, theirs, "two parsers, two meanings");
    let again = json_forms(&forms.stored).expect("what was written can be read");
    assert_eq!(again.value, forms.value, "it changes when it is written");
    assert_eq!(again.canonical, forms.canonical, "two canonical forms of one value");
    assert_eq!(again.stored, forms.stored, "two stored forms of one value");
    "json".into()
}

fn shape_of_type(input: &[u8]) -> Option<&'static str> {
    let value: serde_json::Value = serde_json::from_slice(input).ok()?;
    Some(role_of(&value["signed"]))
}

/// The role that a body would be of; a targets role is told by what it lists.
fn role_of(body: &serde_json::Value) -> &'static str {
    match body["_type"].as_str() {
        Some("root") => "root",
        Some("snapshot") => "snapshot",
        Some("targets") if body.get("delegations").is_some() => "targets",
        Some("targets") => first_row(body),
        _ => "timestamp",
    }
}

fn first_row(body: &serde_json::Value) -> &'static str {
    let name = body["targets"].as_object().and_then(|rows| rows.keys().next()).map_or("", String::as_str);
    match name.split('/').next() {
        Some("retractions") => "retractions",
        Some("fleet") => "fleet",
        Some("policy") => "policy",
        _ => "rel-production",
    }
}

/// Gives `bytes` as the newest file of `role`, under a snapshot and a timestamp that were signed over it.
fn give(repository: &Repository, from: &Trusted, role: &str, bytes: &[u8]) -> String {
    let chain = Chain::over(repository, role, bytes);
    let outcome = from.apply(&mut |name| chain.file(repository, name), repository.now);
    match outcome {
        Ok(applied) => judge(from, &applied),
        Err(error) => {
            let is_ours = matches!(error, MetadataError::OutOfOrder { .. });
            assert!(!is_ours, "a walk asks out of order: {error}");
            shape(error)
        }
    }
}

/// What was taken is not older, can be restored, and has a meaning or a reason why not.
fn judge(from: &Trusted, applied: &Applied) -> String {
    let trusted = &applied.trusted;
    let versions = |trusted: &Trusted| -> Vec<(String, u64)> { trusted.versions() };
    for (role, version) in versions(from) {
        let now = versions(trusted).into_iter().find(|(name, _)| *name == role).map(|(_, version)| version);
        let is_older = now.is_some_and(|now| now < version) && trusted.root_version() == from.root_version();
        assert!(!is_older, "{role} went from {version} to {now:?}");
    }
    Trusted::restore(&trusted.files(), Profile::Strict, &[]).expect("what was taken can be restored");
    let view = View::of(trusted).map_or_else(shape, |view| format!("ignored {}", view.ignored.len().min(2)));
    format!("taken {} {view}", applied.changed.len())
}

/// Files in the place of the repository's.
struct Chain {
    replaced: Vec<(String, Vec<u8>)>,
}

impl Chain {
    fn over(repository: &Repository, role: &str, bytes: &[u8]) -> Self {
        let mut replaced = Vec::new();
        match role {
            "root" => replaced.push(("2.root.json".to_owned(), bytes.to_vec())),
            "timestamp" => replaced.push(("timestamp.json".to_owned(), bytes.to_vec())),
            "snapshot" => {
                replaced.push(("2.snapshot.json".to_owned(), bytes.to_vec()));
                replaced.push(("timestamp.json".to_owned(), timestamp(repository, bytes)));
            }
            _ => {
                let snapshot = snapshot(repository, role, bytes);
                replaced.push((format!("2.{role}.json"), bytes.to_vec()));
                replaced.push(("timestamp.json".to_owned(), timestamp(repository, &snapshot)));
                replaced.push(("2.snapshot.json".to_owned(), snapshot));
            }
        }
        Self { replaced }
    }

    fn file(&self, repository: &Repository, name: &str) -> Option<Vec<u8>> {
        let ours = self.replaced.iter().find(|(replaced, _)| replaced == name).map(|(_, bytes)| bytes.clone());
        ours.or_else(|| repository.files.get(name).cloned())
    }
}

fn snapshot(repository: &Repository, role: &str, bytes: &[u8]) -> Vec<u8> {
    let mut body = body_of(repository, "1.snapshot.json");
    body["version"] = 2.into();
    body["meta"][format!("{role}.json")] = meta(bytes);
    sign(repository, "snapshot", &body)
}

fn timestamp(repository: &Repository, snapshot: &[u8]) -> Vec<u8> {
    let mut body = body_of(repository, "timestamp.json");
    body["version"] = 2.into();
    body["meta"]["snapshot.json"] = meta(snapshot);
    sign(repository, "timestamp", &body)
}

fn body_of(repository: &Repository, file: &str) -> serde_json::Value {
    let bytes = repository.files.get(file).expect("a file of the repository");
    serde_json::from_slice::<serde_json::Value>(bytes).expect("our own file")["signed"].clone()
}

fn meta(bytes: &[u8]) -> serde_json::Value {
    let sha256 = sluice_metadata::sha256_of(bytes).to_hex();
    serde_json::json!({"version": 2, "length": bytes.len(), "hashes": {"sha256": sha256}})
}

fn sign(repository: &Repository, role: &str, body: &serde_json::Value) -> Vec<u8> {
    let text = serde_json::to_vec(body).expect("JSON");
    let forms = json_forms(&text).expect("our own body");
    let signer = &repository.signers(role)[0];
    let sig: String = signer.sign(&forms.canonical).iter().map(|byte| format!("{byte:02x}")).collect();
    let signatures = serde_json::json!([{"keyid": signer.key_id().as_str(), "sig": sig}]);
    let mut file = format!("{{\"signatures\":{signatures},\"signed\":").into_bytes();
    file.extend_from_slice(&forms.stored);
    file.push(b'}');
    file
}
