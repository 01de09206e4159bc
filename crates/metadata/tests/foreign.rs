//! Repositories that are not ours: who may speak for a name, and the four mistakes that the public conformance suite does
//! not find.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use sluice_metadata::{Lookup, MetadataError, Profile, Signer, Trusted};
use support::foreign::*;
use support::*;

const PROFILES: [Profile; 2] = [Profile::Strict, Profile::Foreign];

fn open(forge: &Forge, profile: Profile) -> Result<Trusted, MetadataError> {
    let trusted = Trusted::new(&forge.files["1.root.json"], profile)?;
    Ok(trusted.apply(&mut forge.read(), start())?.trusted)
}

/// The roles fetched for a look-up, and whether it found something.
fn look(trusted: &mut Trusted, forge: &Forge, name: &str) -> Result<(Vec<String>, bool), MetadataError> {
    let mut fetched = Vec::new();
    loop {
        match trusted.find(name)? {
            Lookup::Found(_) => return Ok((fetched, true)),
            Lookup::NotFound => return Ok((fetched, false)),
            Lookup::Wanted(wanted) => {
                trusted.accept(&wanted, &forge.files[&wanted.file], start())?;
                fetched.push(wanted.role.to_string());
            }
        }
    }
}

fn delegations(names: &[&str], roles: Vec<Value>) -> Value {
    json!({"keys": keys(names), "roles": roles})
}

fn leaf(name: &str) -> Value {
    targets(json!({name: row(name)}), json!({"keys": {}, "roles": []}))
}

/// A repository of each profile whose state is right.
fn honest(profile: Profile) -> Forge {
    match profile {
        Profile::Strict => Forge::of(&init().0),
        Profile::Foreign => repository(&[("targets", leaf("one"))]),
    }
}

#[test]
fn the_honest_repositories_are_accepted() {
    for profile in PROFILES {
        open(&honest(profile), profile).unwrap();
    }
}

#[test]
fn mistake_1_a_key_under_an_id_that_is_not_its_hash_counts_for_nothing() {
    let key = Signer::from_seed([9; 32]);
    let wrong_id = sha256(b"not this key").to_hex();
    for profile in PROFILES {
        let mut forge = honest(profile);
        // A new root gives the timestamp to a key under a wrong id, and the timestamp is signed with it.
        forge.edit("root", |signed| {
            bump(signed);
            signed["keys"][&wrong_id] = json!({"keytype": "ed25519", "scheme": "ed25519",
                "keyval": {"public": hex::encode(key.public_key())}});
            signed["roles"]["timestamp"]["keyids"] = json!([wrong_id]);
        });
        let mut timestamp: Value = serde_json::from_slice(&forge.files["timestamp.json"]).unwrap();
        timestamp = serde_json::from_slice(&sign(&timestamp["signed"], std::slice::from_ref(&key))).unwrap();
        timestamp["signatures"][0]["keyid"] = json!(wrong_id);
        forge.files.insert("timestamp.json".into(), serde_json::to_vec(&timestamp).unwrap());
        match (profile, open(&forge, profile).unwrap_err()) {
            (Profile::Strict, MetadataError::WrongKeyId { .. }) => {}
            (Profile::Foreign, MetadataError::ThresholdNotReached { valid: 0, .. }) => {}
            (_, other) => panic!("{profile:?}: {other}"),
        }
    }
}

#[test]
fn mistake_2_a_timestamp_that_names_more_than_the_snapshot_is_refused() {
    for profile in PROFILES {
        let mut forge = honest(profile);
        forge.edit("timestamp", |signed| {
            signed["meta"]["targets.json"] = signed["meta"]["snapshot.json"].clone();
        });
        let error = open(&forge, profile).unwrap_err().to_string();
        assert!(error.starts_with("timestamp: signed.meta"), "{error}");
    }
}

#[test]
fn mistake_3_a_look_up_visits_a_bounded_number_of_roles() {
    // A chain of 40 roles, each delegating to the next; the last has the name.
    let name = |idx: usize| format!("chain-{idx:02}");
    let names: Vec<String> = (0..40).map(name).collect();
    let part = |next: Option<&String>| match next {
        Some(next) => targets(json!({}), delegations(&[next], vec![delegated(next, "paths", &["*"], false)])),
        None => leaf("deep"),
    };
    let mut parts = vec![("targets", part(names.first()))];
    parts.extend(names.iter().enumerate().map(|(idx, name)| (name.as_str(), part(names.get(idx + 1)))));
    let forge = repository(&parts);
    let mut trusted = open(&forge, Profile::Foreign).unwrap();
    let error = look(&mut trusted, &forge, "deep").unwrap_err();
    assert!(matches!(error, MetadataError::TooManyDelegations { max: 32, .. }), "{error}");
    // Our own repository cannot even declare so many.
    let mut forge = honest(Profile::Strict);
    forge.edit("targets", |signed| {
        let row = signed["delegations"]["roles"][0].clone();
        let rows = (0..33).map(|idx| {
            let mut row = row.clone();
            row["name"] = json!(format!("role-{idx}"));
            row
        });
        signed["delegations"]["roles"] = rows.collect();
    });
    forge.relink(&["targets"]);
    let error = open(&forge, Profile::Strict).unwrap_err().to_string();
    assert!(error.contains("33 items are more than 32"), "{error}");
}

#[test]
fn mistake_4_duplicate_json_keys_are_refused_wherever_they_stand() {
    for profile in PROFILES {
        for (from, to) in [
            ("\"version\":", "\"version\":7,\"version\":"),
            ("\"signed\":", "\"signed\":{},\"signed\":"),
            ("\"keyid\":", "\"keyid\":\"00\",\"keyid\":"),
        ] {
            let mut forge = honest(profile);
            let text = String::from_utf8(forge.bytes_of("timestamp").clone()).unwrap();
            *forge.bytes_of("timestamp") = text.replacen(from, to, 1).into_bytes();
            let error = open(&forge, profile).unwrap_err().to_string();
            assert!(error.contains("duplicate key"), "{profile:?} {from}: {error}");
        }
    }
}

#[test]
fn one_key_under_two_ids_is_one_key() {
    let mut forge = honest(Profile::Foreign);
    let key = key("timestamp");
    let mut twin = keys(&["timestamp"])[key.key_id().as_str()].clone();
    twin["x-note"] = json!("twin");
    let canonical = format!(
        r#"{{"keytype":"ed25519","keyval":{{"public":"{}"}},"scheme":"ed25519","x-note":"twin"}}"#,
        hex::encode(key.public_key())
    );
    let twin_id = sha256(canonical.as_bytes()).to_hex();
    forge.edit("root", |signed| {
        bump(signed);
        signed["keys"][&twin_id] = twin;
        signed["roles"]["timestamp"] = json!({"keyids": [key.key_id().as_str(), twin_id], "threshold": 2});
    });
    let mut timestamp: Value = serde_json::from_slice(&forge.files["timestamp.json"]).unwrap();
    let mut second = timestamp["signatures"][0].clone();
    second["keyid"] = json!(twin_id);
    timestamp["signatures"].as_array_mut().unwrap().push(second);
    forge.files.insert("timestamp.json".into(), serde_json::to_vec(&timestamp).unwrap());
    let error = open(&forge, Profile::Foreign).unwrap_err();
    assert!(matches!(error, MetadataError::ThresholdNotReached { valid: 1, threshold: 2, .. }), "{error}");
}

#[test]
fn a_hash_prefix_and_a_terminating_role_decide_who_speaks() {
    let hash = sha256(b"x").to_hex();
    let roles = vec![
        delegated("bin", "path_hash_prefixes", &[&hash[..3]], false),
        delegated("last", "paths", &["x", "y"], true),
        delegated("never", "paths", &["*"], false),
    ];
    let top = targets(json!({}), delegations(&["bin", "last", "never"], roles));
    let parts = [("targets", top), ("bin", leaf("other")), ("last", leaf("other")), ("never", leaf("x"))];
    let forge = repository(&parts);
    let mut trusted = open(&forge, Profile::Foreign).unwrap();
    assert_eq!(look(&mut trusted, &forge, "y").unwrap(), (vec!["last".into()], false));
    assert_eq!(look(&mut trusted, &forge, "x").unwrap(), (vec!["bin".into()], false));
    assert_eq!(look(&mut trusted, &forge, "z").unwrap(), (vec!["never".into()], false));
}

#[test]
fn a_succinct_bin_is_signed_by_the_keys_of_all_bins() {
    // sha256("a") begins with ca97: with two bits it lies in bin 3.
    let top = |prefix: &str| {
        let bins = json!({"keyids": [key("bins-3").key_id().as_str()], "threshold": 1, "bit_length": 2,
            "name_prefix": prefix});
        targets(json!({}), json!({"keys": keys(&["bins-3"]), "succinct_roles": bins}))
    };
    let forge = repository(&[("targets", top("bins")), ("bins-3", leaf("a"))]);
    let mut trusted = open(&forge, Profile::Foreign).unwrap();
    assert_eq!(look(&mut trusted, &forge, "a").unwrap(), (vec!["bins-3".into()], true));
    let forge = repository(&[("targets", top("other")), ("other-3", leaf("a"))]);
    let mut trusted = open(&forge, Profile::Foreign).unwrap();
    let error = look(&mut trusted, &forge, "a").unwrap_err();
    assert!(matches!(error, MetadataError::ThresholdNotReached { valid: 0, .. }), "{error}");
}

#[test]
fn two_delegators_of_one_role_must_be_shown_the_same_file() {
    let child = |name: &str| {
        let mut row = delegated("shared", "paths", &["*"], false);
        row["keyids"] = json!([key(name).key_id().as_str()]);
        targets(json!({}), json!({"keys": keys(&[name]), "roles": [row]}))
    };
    let roles = vec![delegated("a", "paths", &["x"], false), delegated("b", "paths", &["y"], false)];
    let top = targets(json!({}), delegations(&["a", "b"], roles));
    let parts = [("targets", top), ("a", child("one")), ("b", child("two")), ("shared", leaf("x"))];
    let mut forge = repository(&parts);
    forge.edit("snapshot", |signed| signed["meta"]["shared.json"] = json!({"version": 1})).relink(&[]);
    forge.files.insert("1.shared.json".into(), sign(&leaf("x"), &[key("one")]));
    let mut trusted = open(&forge, Profile::Foreign).unwrap();
    assert!(look(&mut trusted, &forge, "x").unwrap().1);
    // Not by the other path: the keys are others there.
    let error = look(&mut trusted.clone(), &forge, "y").unwrap_err();
    assert!(matches!(error, MetadataError::SameVersionOtherBytes { .. } | MetadataError::ThresholdNotReached { .. }));
    // And not another file of the same version, though its own delegator signed it.
    forge.files.insert("1.shared.json".into(), sign(&leaf("y"), &[key("two")]));
    let error = look(&mut trusted, &forge, "y").unwrap_err();
    assert!(matches!(error, MetadataError::SameVersionOtherBytes { version: 1, .. }), "{error}");
}

#[test]
fn a_pattern_that_clients_read_in_two_ways_is_refused() {
    for pattern in ["a[bc]", "a/**"] {
        let roles = vec![delegated("a", "paths", &[pattern], true)];
        let forge = repository(&[("targets", targets(json!({}), delegations(&["a"], roles))), ("a", leaf("ab"))]);
        let error = open(&forge, Profile::Foreign).unwrap_err().to_string();
        assert!(error.contains("different things"), "{error}");
    }
}

#[test]
fn our_programs_refuse_a_foreign_root() {
    let forge = honest(Profile::Foreign);
    let error = open(&forge, Profile::Strict).unwrap_err();
    assert!(matches!(error, MetadataError::Malformed { .. }), "{error}");
}
